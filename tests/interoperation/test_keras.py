"""Importing Keras's weights, compared with the network's equation in Keras's layout."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import numpy as np
import pytest

from xpnet import (
    BatchNorm,
    Conv2d,
    Embedding,
    Flatten,
    LayerNorm,
    Linear,
    MaxPool2d,
    ReLU,
    Reshape,
    Residual,
    Sequential,
    import_weights,
)
from xpnet.backends import Backend
from xpnet.errors import ConfigurationError, DTypeError, FileFormatError, ShapeError
from xpnet.interoperation import Imported
from xpnet.layers import Layer

NAMES = ("layers/conv2d", "layers/dense", "layers/dense_1", "layers/dense_2")


def save_h5(arrays: list[np.ndarray], name: str = "theirs.weights.h5", **more: np.ndarray) -> str:
    """As Keras 3 lays it out: variables by number, layers by class, and the optimizer's state beside them."""
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    with h5py.File(name, "w") as file:
        for place, layer in enumerate(NAMES):
            file[f"{layer}/vars/0"], file[f"{layer}/vars/1"] = arrays[2 * place : 2 * place + 2]
        file.create_group("layers/flatten/vars")
        file["layers/dropout/seed_generator/vars/0"] = np.zeros(2, np.uint32)
        for number, array in enumerate(arrays):
            file[f"optimizer/vars/{number}"] = np.zeros_like(array)
        for path, array in more.items():
            file[path] = array
    return name


def save_npz(arrays: list[np.ndarray]) -> str:
    np.savez("theirs.npz", *arrays)
    return "theirs.npz"


@pytest.mark.parametrize("save", [save_h5, save_npz])
def test_the_same_logits(
    network: Sequential, keras_arrays: list[np.ndarray], x: np.ndarray, keras_logits: np.ndarray, save
) -> None:
    imported = import_weights(network, save(keras_arrays))
    np.testing.assert_allclose(network.predict(x), keras_logits, rtol=1e-5, atol=1e-5)
    assert [entry.name for entry in imported] == ["1.W", "1.b", "4.W", "4.b", "5.W", "5.b", "6.W", "6.b"]
    if save is save_h5:
        assert imported[-1] == Imported("6.b", "layers/dense_2/vars/1", "float64")
    else:
        assert imported[-1] == Imported("6.b", "arr_7", "float64")


def test_images_of_several_channels_are_flattened_in_keras_order(cpu: Backend, draws: np.random.Generator) -> None:
    kernel, bias = draws.standard_normal((2 * 2 * 3, 5)), draws.standard_normal(5)
    model = Sequential(Flatten(), ReLU(), Linear(12, 5)).initialize(cpu)
    import_weights(model, save_npz([kernel, bias]), input_shape=(3, 2, 2))
    images = draws.random((4, 2, 2, 3))
    np.testing.assert_allclose(
        model.predict(images.transpose(0, 3, 1, 2)), images.reshape(4, -1) @ kernel + bias, rtol=1e-5, atol=1e-5
    )


def test_vectors_and_grey_images_have_one_order(cpu: Backend, draws: np.random.Generator) -> None:
    kernel, bias = draws.standard_normal((6, 2)).astype(np.float32), np.zeros(2)
    first = Reshape([1, 2, 3])
    for layers, shape in (([], None), ([Flatten()], None), ([Flatten()], (2, 3)), ([first, Flatten()], None)):
        model = Sequential(*layers, Linear(6, 2)).initialize(cpu)
        import_weights(model, save_npz([kernel, bias]), input_shape=shape)
        np.testing.assert_array_equal(model.parameters[f"{len(layers)}.W"], kernel)


def test_flattened_images_need_a_known_shape(cpu: Backend) -> None:
    convolution = [np.zeros((3, 3, 2, 4)), np.zeros(4)]
    dense = [np.zeros((16, 5)), np.zeros(5)]
    model = Sequential(Conv2d(2, 4, 3), MaxPool2d(2), Flatten(), Linear(16, 5)).initialize(cpu)
    path = save_npz(convolution + dense)
    with pytest.raises(ConfigurationError, match=r"their shape cannot be inferred: give input_shape"):
        import_weights(model, path)
    import_weights(model, path, input_shape=(2, 6, 6))
    with pytest.raises(ShapeError, match=r"Conv2d\(2, 4, 3\) takes samples of shape \(2, height, width\), not"):
        import_weights(model, path, input_shape=(6, 6, 2))
    model = Sequential(Linear(16, 5), Linear(5, 32), Reshape([2, 4, 4]), Conv2d(2, 4, 3)).initialize(cpu)
    path = save_npz([*dense, np.zeros((5, 32)), np.zeros(32), *convolution])
    with pytest.raises(ConfigurationError, match=r"Reshape\(\[2, 4, 4\]\) arranges the numbers"):
        import_weights(model, path)


def save_layers(layers: dict[str, list[np.ndarray]], name: str) -> str:
    """Each layer's variables, as either format keeps them."""
    if name.endswith("npz"):
        return save_npz([array for arrays in layers.values() for array in arrays])
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    with h5py.File(name, "w") as file:
        for layer, arrays in layers.items():
            for number, array in enumerate(arrays):
                file[f"layers/{layer}/vars/{number}"] = array
    return name


@pytest.mark.parametrize("name", ["theirs.weights.h5", "theirs.npz"])
def test_statistics_behind_a_flatten_of_images(backend: Backend, draws: np.random.Generator, name: str) -> None:
    """Against the equations, channels last: BatchNorm, Flatten, BatchNorm, LayerNorm, Dense."""
    image = list(draws.uniform(0.5, 2.0, (4, 2)))
    flat = list(draws.uniform(0.5, 2.0, (4, 12)))
    scale, shift = draws.uniform(0.5, 2.0, (2, 12))
    kernel, bias = draws.standard_normal((12, 5)), draws.standard_normal(5)
    layers = {"batch_normalization": image, "batch_normalization_1": flat, "layer_normalization": [scale, shift]}
    path = save_layers(layers | {"dense": [kernel, bias]}, name)
    model = Sequential(
        *(BatchNorm(2, epsilon=1e-3), ReLU(), Flatten(), BatchNorm(12, epsilon=1e-3), LayerNorm(12, 1e-3)),
        Linear(12, 5),
    ).initialize(backend)
    import_weights(model, path, input_shape=(2, 2, 3))

    def normalized(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, mean: np.ndarray, variance: np.ndarray):
        return (x - mean) / np.sqrt(variance + 1e-3) * gamma + beta

    images = draws.standard_normal((4, 2, 3, 2))
    y = normalized(np.maximum(normalized(images, *image), 0).reshape(4, 12), *flat)
    y = normalized(y, scale, shift, y.mean(1, keepdims=True), y.var(1, keepdims=True)) @ kernel + bias
    np.testing.assert_allclose(model.predict(images.transpose(0, 3, 1, 2)), y, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["theirs.weights.h5", "theirs.npz"])
def test_embeddings(cpu: Backend, draws: np.random.Generator, name: str) -> None:
    W, (scale, shift) = draws.standard_normal((7, 3)), draws.uniform(0.5, 2.0, (2, 3))
    kernel, bias = draws.standard_normal((12, 5)), draws.standard_normal(5)
    path = save_layers({"embedding": [W], "layer_normalization": [scale, shift], "dense": [kernel, bias]}, name)
    model = Sequential(Embedding(7, 3), LayerNorm(3), Flatten(), Linear(12, 5)).initialize(cpu)
    import_weights(model, path, input_shape=(4,))
    x = draws.integers(7, size=(6, 4))
    y = (W[x] - W[x].mean(2, keepdims=True)) / np.sqrt(W[x].var(2, keepdims=True) + 1e-5) * scale + shift
    np.testing.assert_allclose(model.predict(x), y.reshape(6, 12) @ kernel + bias, rtol=1e-5, atol=1e-5)


def test_a_reshape_to_vectors_is_a_flatten(cpu: Backend, draws: np.random.Generator) -> None:
    kernel = draws.standard_normal((12, 5))
    model = Sequential(ReLU(), Reshape([12]), Linear(12, 5)).initialize(cpu)
    import_weights(model, save_npz([kernel, np.zeros(5)]), input_shape=(3, 2, 2))
    images = draws.random((4, 2, 2, 3))
    theirs = images.reshape(4, -1) @ kernel
    np.testing.assert_allclose(model.predict(images.transpose(0, 3, 1, 2)), theirs, rtol=1e-5, atol=1e-5)


def test_a_shortcut_around_flattened_features(cpu: Backend, draws: np.random.Generator) -> None:
    gamma, beta = draws.uniform(0.5, 2.0, (2, 12))
    model = Sequential(Flatten(), Residual(LayerNorm(12)), Linear(12, 5)).initialize(cpu)
    kernel = draws.standard_normal((12, 5))
    import_weights(model, save_npz([gamma, beta, kernel, np.zeros(5)]), input_shape=(3, 2, 2))
    images = draws.random((4, 2, 2, 3))
    x = images.reshape(4, -1)
    y = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5) * gamma + beta
    theirs = (x + y) @ kernel
    np.testing.assert_allclose(model.predict(images.transpose(0, 3, 1, 2)), theirs, rtol=1e-5, atol=1e-5)


SCALE = [np.ones(4), np.zeros(4)]
PIXEL = [np.ones((1, 1, 1, 1)), np.zeros(1)]
DENSE = [np.zeros((36, 36)), np.zeros(36)]


@pytest.mark.parametrize(
    ("layers", "arrays", "input_shape", "message"),
    [
        ([LayerNorm(4)], SCALE, (3, 5, 4), r"the LayerNorm takes samples of 3 axes, .* works on another one"),
        ([BatchNorm(4)], SCALE * 2, (4, 4), r"the BatchNorm takes samples of 2 axes"),
        (
            [Embedding(7, 5), BatchNorm(4)],
            [np.ones((7, 5)), *SCALE * 2],
            (4,),
            r"layer 1 \(BatchNorm\) takes .* 2 axes",
        ),
        ([MaxPool2d(2), LayerNorm(4)], SCALE, None, r"layer 1 \(LayerNorm\) takes samples of 3 axes"),
        ([Linear(4, 1)], [np.ones((4, 1)), np.ones(1)], (3, 5, 4), "the Linear takes samples of 3 axes, of which"),
        (
            [LayerNorm(4)],
            SCALE,
            None,
            "the LayerNorm may normalise another axis in Keras, .* give input_shape",
        ),
        ([Flatten(), Residual(Linear(36, 36))], DENSE, (4, 3, 3), r"layer 1 \(Residual\) adds features in the order"),
        (
            [ReLU(), Reshape([6, 6]), LayerNorm(6)],
            [np.ones(6)] * 2,
            (4, 3, 3),
            r"Reshape\(\[6, 6\]\) arranges the numbers",
        ),
        (
            [Flatten(), Reshape([1, 6, 6]), Conv2d(1, 1, 1)],
            PIXEL,
            (4, 3, 3),
            r"Reshape\(\[1, 6, 6\]\) arranges the numbers",
        ),
    ],
)
def test_normalisations_of_another_axis_are_refused(
    cpu: Backend, layers: list[Layer], arrays: list[np.ndarray], input_shape: tuple[int, ...] | None, message: str
) -> None:
    layers = copy.deepcopy(layers)
    model = (layers[0] if len(layers) == 1 else Sequential(*layers)).initialize(cpu)
    with pytest.raises(ConfigurationError, match=message):
        import_weights(model, save_npz(arrays), input_shape=input_shape)


def test_lists_that_do_not_fit(cpu_network: Sequential, keras_arrays: list[np.ndarray]) -> None:
    arrays = keras_arrays
    cases = [
        (arrays[2:4] + arrays[:2] + arrays[4:], r"layer 1 \(Conv2d\) needs kernel \(3, 3, 1, 3\) and bias \(3,\); "
         r"'arr_0 arr_1' in the file has kernel \(12, 12\)"),
        (arrays[:2] + arrays[4:], r"layer 5 \(Linear\) needs .* 'arr_4 arr_5' in the file has kernel \(12, 4\)"),
        (arrays[:-2], r"layer 6 \(Linear\) needs .* the file has no more layers"),
        (arrays[:-1], r"layer 6 \(Linear\) needs .* 'arr_6' fits, but has no bias"),
        ([arrays[0], *arrays[2:]], r"layer 1 \(Conv2d\) needs .* bias \(12, 12\)"),
    ]  # fmt: skip
    for content, message in cases:
        with pytest.raises(ShapeError, match=message):
            import_weights(cpu_network, save_npz(content))
    with pytest.raises(FileFormatError, match="the model has no layer for arr_8: "):
        import_weights(cpu_network, save_npz([*arrays, np.zeros(3)]))
    with pytest.raises(DTypeError, match="arr_7 has elements of type int64"):
        import_weights(cpu_network, save_npz([*arrays[:-1], np.zeros(4, np.int64)]))


def test_twelve_arrays_are_in_the_order_of_their_numbers(cpu: Backend) -> None:
    """Of names in the alphabet, arr_10 comes before arr_2."""
    model = Sequential(*(Linear(2, 2) for _ in range(6))).initialize(cpu)
    path = save_npz([np.full((2, 2) if n % 2 == 0 else 2, float(n)) for n in range(12)])
    import_weights(model, path)
    assert [float(model.parameters[f"{place}.b"][0]) for place in range(6)] == [1, 3, 5, 7, 9, 11]


def test_h5_files_that_do_not_fit(cpu_network: Sequential, keras_arrays: list[np.ndarray]) -> None:
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    more = {"layers/lstm/vars/0": np.zeros((3, 4))}
    with pytest.raises(FileFormatError, match="the model has no layer for layers/lstm: "):
        import_weights(cpu_network, save_h5(keras_arrays, **more))
    whole = Path(save_h5(keras_arrays)).read_bytes()
    with h5py.File("theirs.weights.h5", "r+") as file:
        del file["layers/dense_2/vars/1"]
    with pytest.raises(ShapeError, match=r"layer 6 \(Linear\) needs .* 'layers/dense_2' fits, but has no vars/1"):
        import_weights(cpu_network, "theirs.weights.h5")
    with h5py.File("old.h5", "w") as file:
        file["dense/dense/kernel:0"] = np.zeros((2, 2))
    with pytest.raises(FileFormatError, match=r"old.h5 holds no layers as Keras 3 writes them: save it by"):
        import_weights(cpu_network, "old.h5")
    for content in (b"", b"\x89HDF\r\n\x1a\n" + bytes(40), whole[: len(whole) // 2]):
        Path("cut.weights.h5").write_bytes(content)
        with pytest.raises(FileFormatError, match=r"cut.weights.h5 is damaged or no HDF5 file"):
            import_weights(cpu_network, "cut.weights.h5")


def test_a_dataset_whose_data_is_not_in_the_file(cpu: Backend, draws: np.random.Generator) -> None:
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    Path("secret").write_bytes(bytes(80))
    model = Sequential(Linear(2, 5)).initialize(cpu)
    layout = h5py.VirtualLayout((2, 5), "f8")
    for kind in ("huge", "external", "virtual", "link"):
        with h5py.File("bad.weights.h5", "w") as file:
            if kind == "huge":
                file.create_dataset("layers/dense/vars/0", (2**40,), "f4", chunks=(1024,))
            elif kind == "external":
                file.create_dataset("layers/dense/vars/0", (2, 5), "f8", external=[("secret", 0, 80)])
            elif kind == "virtual":
                file.create_virtual_dataset("layers/dense/vars/0", layout)
            else:
                file["layers/dense/vars/0"] = h5py.ExternalLink("other.h5", "/kernel")
            file["layers/dense/vars/1"] = np.zeros(5)
        expected = (
            r"'layers/dense' in the file has" if kind == "link" else "does not contain the data of layers/dense/vars/0"
        )
        if kind == "link":
            expected = "'layers/dense' fits, but has no vars/0"
        with pytest.raises((FileFormatError, ShapeError), match=expected):
            import_weights(model, "bad.weights.h5")


def test_without_h5py(cpu_network: Sequential, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    Path("theirs.weights.h5").write_bytes(b"")
    with pytest.raises(ConfigurationError, match=r"needs the package h5py: pip install 'xpnet\[keras\]'"):
        import_weights(cpu_network, "theirs.weights.h5")
