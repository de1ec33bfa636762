"""Importing and exporting state dicts in safetensors, compared with the network's equation in PyTorch's layout."""

from __future__ import annotations

import copy
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

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
    save_model,
)
from xpnet.backends import Backend
from xpnet.errors import (
    CallOrderError,
    ConfigurationError,
    DTypeError,
    FileFormatError,
    RunFolderError,
    ShapeError,
)
from xpnet.interoperation import Imported, export_pytorch
from xpnet.layers import Layer

Weights = dict[str, np.ndarray]


def save(state: Weights, name: str = "theirs.safetensors") -> str:
    save_file({key: np.ascontiguousarray(array) for key, array in state.items()}, name)
    return name


def bits(model: Sequential) -> bytes:
    return np.array(model.backend.to_numpy(model.vectors.parameters.vector)).tobytes()


def test_the_same_logits(network: Sequential, state: Weights, x: np.ndarray, pytorch_logits: np.ndarray) -> None:
    imported = import_weights(network, save(state))
    np.testing.assert_allclose(network.predict(x), pytorch_logits, rtol=1e-5, atol=1e-5)
    assert imported[-2:] == [Imported("6.W", "fc10.weight", "float64"), Imported("6.b", "fc10.bias", "float64")]


def test_numbers_in_names_imply_the_order(
    cpu_network: Sequential, state: Weights, x: np.ndarray, pytorch_logits: np.ndarray
) -> None:
    """What nn.Sequential, torch.compile and DataParallel make of the names."""
    places = {"conv": "1", "fc1": "4", "fc2": "9", "fc10": "10"}
    for prefix in ("", "module.", "_orig_mod.model."):
        renamed = {}
        for name, array in state.items():
            layer, own = name.split(".")
            renamed[f"{prefix}{places[layer]}.{own}"] = array
        import_weights(cpu_network.initialize(cpu_network.backend), save(renamed))
        np.testing.assert_allclose(cpu_network.predict(x), pytorch_logits, rtol=1e-5, atol=1e-5)


def test_an_ambiguous_order_needs_names(
    cpu_network: Sequential, state: Weights, x: np.ndarray, pytorch_logits: np.ndarray
) -> None:
    names = {"conv": "conv", "fc1": "encoder", "fc2": "decoder", "fc10": "head"}
    path = save({f"{names[key.split('.')[0]]}.{key.split('.')[1]}": array for key, array in state.items()})
    before = bits(cpu_network)
    with pytest.raises(ConfigurationError, match=r"decoder and encoder fit layer 4 \(Linear\), .* give the names"):
        import_weights(cpu_network, path)
    assert bits(cpu_network) == before
    import_weights(cpu_network, path, names=["conv", "encoder", "decoder", "head"])
    np.testing.assert_allclose(cpu_network.predict(x), pytorch_logits, rtol=1e-5, atol=1e-5)
    import_weights(cpu_network, path, names=["conv", "decoder", "encoder", "head"])
    assert abs(cpu_network.predict(x) - pytorch_logits).max() > 0.1


def test_what_does_not_fit_is_named_with_both_shapes(cpu_network: Sequential, state: Weights) -> None:
    def without(*names: str) -> Weights:
        return {name: array for name, array in state.items() if name not in names}

    more = {"aux.weight": np.zeros((2, 2)), "aux.bias": np.zeros(2)}
    cases: list[tuple[Weights, type[Exception], str]] = [
        (
            state | {"fc10.weight": np.zeros((5, 12)), "fc10.bias": np.zeros(5)},
            ShapeError,
            r"layer 6 \(Linear\) needs weight \(4, 12\) and bias \(4,\); 'fc10' in the file has weight \(5, 12\) "
            r"and bias \(5,\)",
        ),
        (
            state | {"conv.weight": state["conv.weight"].transpose(2, 3, 1, 0)},
            ShapeError,
            r"layer 1 \(Conv2d\) needs weight \(3, 1, 3, 3\) .* weight \(3, 3, 1, 3\)",
        ),
        (
            state | {f"aux{number}.bias": np.zeros(2) for number in range(9)},
            FileFormatError,
            "the model has no layer for aux0, aux1, aux2, …: take another architecture",
        ),
        (without("fc10.bias"), ShapeError, r"'fc10' fits, but has no bias: .* save zeros there"),
        (without("fc10.bias", "fc10.weight"), ShapeError, r"layer 6 \(Linear\) needs .* the file has no more layers"),
        (state | more, FileFormatError, "the model has no layer for aux: take another architecture"),
        (state | {"fc10.scale": np.zeros(4)}, ShapeError, r"layer 6 \(Linear\) needs .* scale \(4,\)"),
        (
            state | {"fc10.bias": np.zeros(4, np.int64)},
            DTypeError,
            "fc10.bias has elements of type I64; expected float",
        ),
        (
            state | {"fc10.bias": np.full(4, 1e39)},
            DTypeError,
            "fc10.bias has float64 values beyond the model's float32",
        ),
    ]
    before = bits(cpu_network)
    for content, error, message in cases:
        with pytest.raises(error, match=rf"^theirs.safetensors: .*{message}"):
            import_weights(cpu_network, save(content))
        assert bits(cpu_network) == before


def test_names_that_make_no_sense(cpu_network: Sequential, state: Weights) -> None:
    path = save(state)
    with pytest.raises(ConfigurationError, match=r"unknown layer of the file 'cnv' \(did you mean 'conv'\?\)"):
        import_weights(cpu_network, path, names=["cnv", "fc1", "fc2", "fc10"])
    for names in ("conv", ["conv", "fc1", "fc1", "fc10"]):
        with pytest.raises(ConfigurationError, match="names must be a list of the file's layers, each once"):
            import_weights(cpu_network, path, names=names)
    with pytest.raises(ShapeError, match=r"layer 4 \(Linear\) needs .* 'fc10' in the file has"):
        import_weights(cpu_network, path, names=["conv", "fc10", "fc1", "fc2"])
    with pytest.raises(ShapeError, match=r"layer 6 \(Linear\) needs .* no more layers"):
        import_weights(cpu_network, path, names=["conv", "fc1", "fc2"])


def test_importing_named_layers_of_a_larger_file(cpu: Backend, state: Weights) -> None:
    model = Sequential(Linear(12, 12)).initialize(cpu)
    import_weights(model, save(state), names=["fc2"])
    np.testing.assert_array_equal(model.parameters["0.W"], state["fc2.weight"].T.astype(np.float32))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("stored", ["float16", "bfloat16", "float32", "float64"])
def test_every_float_type_is_converted_and_reported(cpu: Backend, stored: str, dtype: str) -> None:
    values = np.array([[1.0, -2.5], [0.15625, 3e4]])  # bfloat16 has 8 bits of these: exact, but for 3e4
    kinds = {"float16": "F16", "bfloat16": "BF16", "float32": "F32", "float64": "F64"}
    if stored == "bfloat16":
        raw = (values.astype("<f4").view("<u4") >> 16).astype("<u2")
        expected = values.copy()
        expected[1, 1] = 29952.0  # 3e4 cut to 8 bits
    else:
        raw = expected = values.astype(stored)
    header = (
        f'{{"weight": {{"dtype": "{kinds[stored]}", "shape": [2, 2], "data_offsets": [0, {raw.nbytes}]}}, '
        f'"bias": {{"dtype": "F32", "shape": [2], "data_offsets": [{raw.nbytes}, {raw.nbytes + 8}]}}}}'
    ).encode()
    Path("f.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + raw.tobytes() + bytes(8))
    layer = Linear(2, 2).initialize(cpu, dtype=dtype)
    assert import_weights(layer, "f.safetensors")[0] == Imported("W", "weight", stored)
    np.testing.assert_array_equal(layer.parameters["W"], expected.T.astype(dtype))
    assert layer.parameters["W"].dtype == dtype


def test_values_that_are_not_finite_stay_so(cpu: Backend) -> None:
    layer = Linear(1, 3).initialize(cpu)
    import_weights(layer, save({"weight": np.array([[np.inf], [np.nan], [1.0]]), "bias": np.zeros(3)}))
    assert str(layer.parameters["W"].tolist()) == "[[inf, nan, 1.0]]"


def test_files_that_are_something_else(cpu_network: Sequential, state: Weights) -> None:
    whole = Path(save(state)).read_bytes()
    save_model(cpu_network, "ours.safetensors")
    Path("cut.safetensors").write_bytes(whole[:-5])
    Path("empty.safetensors").write_bytes(b"")
    for name in ("model.pt", "model.PTH", "model.bin", "model.pkl", "model.keras", "model.txt", "folder.safetensors"):
        Path(name).mkdir() if name.startswith("folder") else Path(name).write_bytes(whole)
    cases = {
        "none.safetensors": "there is no file none.safetensors",
        "ours.safetensors": "ours.safetensors was written by xpnet: it is read as it is, by load_model",
        "cut.safetensors": "cut.safetensors is damaged or not a safetensors file",
        "empty.safetensors": "empty.safetensors is damaged or not a safetensors file",
        "folder.safetensors": "folder.safetensors is not a file",
        "model.pt": r"model.pt is a pickle, .* in PyTorch, save it by safetensors.torch.save_file\(model",
        "model.PTH": "model.PTH is a pickle",
        "model.bin": "model.bin is a pickle",
        "model.pkl": "model.pkl is a pickle: xpnet evaluate reads those of the books",
        "model.keras": r"is a whole Keras model: save its weights by model.save_weights\('model.weights.h5'\)",
        "model.txt": "has an unknown suffix; expected .safetensors, .weights.h5 or .npz",
    }
    for name, message in cases.items():
        with pytest.raises((FileNotFoundError, FileFormatError, ConfigurationError), match=message):
            import_weights(cpu_network, name)


def test_a_model_must_be_initialised_and_known(cpu: Backend, state: Weights) -> None:
    class Scale(Linear):
        """A layer of the user's."""

    with pytest.raises(CallOrderError, match="has no parameters yet"):
        import_weights(Linear(12, 12), save(state))
    model = Sequential(Scale(12, 12)).initialize(cpu)
    message = r"layer 0 \(Scale\) has no known counterpart in PyTorch; these have: "
    with pytest.raises(ConfigurationError, match=message + "BatchNorm, Conv2d, Emb"):
        import_weights(model, save(state))
    with pytest.raises(ConfigurationError, match=message):
        export_pytorch(model, "ours.safetensors")
    assert not Path("ours.safetensors").exists()


def test_export_and_import_keep_the_bits(network: Sequential) -> None:
    before = bits(network)
    export_pytorch(network, "ours.safetensors")
    again = network.to(network.backend)
    again.vectors.parameters.vector[...] = 0.0
    import_weights(again, "ours.safetensors")
    assert bits(again) == before


def test_names_and_layout_are_those_of_the_module(cpu_network: Sequential) -> None:
    source = export_pytorch(cpu_network, "ours.safetensors")
    modules = [line.strip().removeprefix("torch.nn.").rstrip(",") for line in source.splitlines()[1:-1]]
    assert modules == [
        "Flatten()", "Unflatten(1, (1, 6, 6))", "Conv2d(1, 3, 3, stride=1, padding=0)", "ReLU()",
        "MaxPool2d(2, stride=2)", "Flatten()", "Linear(12, 12)", "Tanh()", "Linear(12, 12)", "Linear(12, 4)",
    ]  # fmt: skip
    state, ours = load_file("ours.safetensors"), cpu_network.parameters
    assert {name: array.shape for name, array in state.items()} == {
        "2.weight": (3, 1, 3, 3), "2.bias": (3,), "6.weight": (12, 12), "6.bias": (12,),
        "8.weight": (12, 12), "8.bias": (12,), "9.weight": (4, 12), "9.bias": (4,),
    }  # fmt: skip
    np.testing.assert_array_equal(state["9.weight"], ours["6.W"].T)  # strided views are written as they look
    for o, i, j in np.ndindex(3, 3, 3):
        assert state["2.weight"][o, 0, i, j] == ours["1.W"][i, j, 0, o]


def test_models_within_models_and_a_layer_alone(cpu: Backend) -> None:
    inner = Sequential(Linear(3, 4, "relu"), Linear(4, 3))
    model = Sequential(Flatten(), inner, ReLU(), Linear(3, 2)).initialize(cpu)
    assert export_pytorch(model, "ours.safetensors").splitlines()[2:4] == [
        "    torch.nn.Sequential(",
        "        torch.nn.Linear(3, 4),",
    ]
    assert sorted(load_file("ours.safetensors")) == [
        "1.0.bias", "1.0.weight", "1.2.bias", "1.2.weight", "3.bias", "3.weight"
    ]  # fmt: skip
    layer = Linear(3, 2).initialize(cpu)
    assert export_pytorch(layer, "alone.safetensors") == "model = torch.nn.Sequential(\n    torch.nn.Linear(3, 2),\n)"
    assert sorted(load_file("alone.safetensors")) == ["0.bias", "0.weight"]


def test_importing_running_statistics_and_residuals(backend: Backend, draws: np.random.Generator) -> None:
    """Against the equation in float64: x + BatchNorm(LayerNorm(x)), of other epsilons than PyTorch's own."""
    state = {f"block.{name}": draws.uniform(0.5, 2.0, 3) for name in ("0.weight", "0.bias", "1.weight", "1.bias")}
    mean, variance = state["block.1.running_mean"], state["block.1.running_var"] = draws.uniform(0.5, 2.0, (2, 3))
    state["block.1.num_batches_tracked"] = np.array(7)
    model = Sequential(Residual(LayerNorm(3, 0.2), BatchNorm(3, epsilon=0.3))).initialize(backend)
    imported = import_weights(model, save(state))
    assert imported[-1] == Imported("0.1.running_variance", "block.1.running_var", "float64")
    x = draws.standard_normal((5, 3))
    y = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 0.2)
    y = y * state["block.0.weight"] + state["block.0.bias"]
    y = (y - mean) / np.sqrt(variance + 0.3) * state["block.1.weight"] + state["block.1.bias"]
    np.testing.assert_allclose(model.predict(x), x + y, rtol=1e-5, atol=1e-5)


def test_exporting_and_importing_running_statistics_and_residuals(backend: Backend, draws: np.random.Generator) -> None:
    model = Sequential(
        Conv2d(1, 2, 3, padding="same", activation="relu"),
        Residual(BatchNorm(2, 0.2, 0.01), ReLU(), Residual(Conv2d(2, 2, 1), BatchNorm(2))),
        Flatten(),
        BatchNorm(18),
        Linear(18, 2),
    ).initialize(backend)
    for view in (*model.parameters.values(), *model.buffers.values()):
        view[...] = backend.asarray(draws.random(view.shape), "float32")
    assert export_pytorch(model, "ours.safetensors").splitlines() == [
        "class Residual(torch.nn.Sequential):",
        "    def forward(self, x):",
        "        return x + super().forward(x)",
        "",
        "",
        "model = torch.nn.Sequential(",
        "    torch.nn.Conv2d(1, 2, 3, stride=1, padding='same'),",
        "    torch.nn.ReLU(),",
        "    Residual(",
        "        torch.nn.BatchNorm2d(2, eps=0.01, momentum=0.2),",
        "        torch.nn.ReLU(),",
        "        Residual(",
        "            torch.nn.Conv2d(2, 2, 1, stride=1, padding=0),",
        "            torch.nn.BatchNorm2d(2, eps=1e-05, momentum=0.1),",
        "        ),",
        "    ),",
        "    torch.nn.Flatten(),",
        "    torch.nn.BatchNorm1d(18, eps=1e-05, momentum=0.1),",
        "    torch.nn.Linear(18, 2),",
        ")",
    ]
    state = load_file("ours.safetensors")
    norms = [name.removesuffix(".running_var") for name in sorted(state) if name.endswith(".running_var")]
    assert norms == ["2.0", "2.2.1", "4"]
    assert {key.rpartition(".")[2] for key in state if key.startswith("4.")} == {
        "weight", "bias", "running_mean", "running_var", "num_batches_tracked"
    }  # fmt: skip
    counter = state["4.num_batches_tracked"]
    assert (counter.dtype, counter.shape, counter) == (np.int64, (), 0)
    again = model.to(backend)
    again.vectors.parameters.vector[...] = 0.0
    again.vectors.buffers.vector[...] = 0.0
    import_weights(again, "ours.safetensors")
    for name, view in (*model.parameters.items(), *model.buffers.items()):
        restored = {**again.parameters, **again.buffers}[name]
        np.testing.assert_array_equal(backend.to_numpy(restored), backend.to_numpy(view))


@pytest.mark.parametrize(
    ("layers", "input_shape", "kind"),
    [
        ([Linear(4, 2), BatchNorm(2)], None, "BatchNorm1d"),
        ([MaxPool2d(2), BatchNorm(2)], None, "BatchNorm2d"),
        ([BatchNorm(2), ReLU(), Conv2d(2, 1, 1)], None, "BatchNorm2d"),
        ([BatchNorm(2), Linear(2, 1)], None, "BatchNorm1d"),
        ([Reshape([2, 3]), BatchNorm(2)], None, "BatchNorm1d"),
        ([Reshape([2, 1, 1, 1]), BatchNorm(2)], None, "BatchNorm3d"),
        ([Embedding(5, 3), BatchNorm(4)], (4,), "BatchNorm1d"),
        ([BatchNorm(2), Flatten(), Linear(4, 2)], (2, 2, 1), "BatchNorm2d"),
        ([BatchNorm(2), Flatten(), Linear(4, 2)], None, "which cannot be inferred: give input_shape"),
        ([Embedding(5, 3), BatchNorm(4)], None, "which cannot be inferred"),
        ([Reshape([2, 1, 1, 1, 1]), BatchNorm(2)], None, "there is none for 5 axes"),
    ],
)
def test_the_kind_of_batch_norm_follows_from_its_neighbours(
    cpu: Backend, layers: list[Layer], input_shape: tuple[int, ...] | None, kind: str
) -> None:
    model = Sequential(*copy.deepcopy(layers)).initialize(cpu)
    if kind.startswith("BatchNorm"):
        assert f"torch.nn.{kind}(" in export_pytorch(model, "ours.safetensors", input_shape)
    else:
        with pytest.raises(ConfigurationError, match=kind):
            export_pytorch(model, "ours.safetensors", input_shape)
        assert not Path("ours.safetensors").exists()


def test_errors_of_export(cpu: Backend, cpu_network: Sequential) -> None:
    class Scaled(Residual):
        """A layer of the user's, with layers in it."""

        def __init__(self) -> None:
            super().__init__(Linear(2, 2))

    uninitialised: Layer = Conv2d(1, 1, 1)
    cases: list[tuple[Any, str, type[Exception], str]] = [
        (cpu_network, "ours.pt", ConfigurationError, r"ours.pt would be a safetensors file: end the name in"),
        (
            Sequential(Residual(Scaled())).initialize(cpu),
            "ours.safetensors",
            ConfigurationError,
            r"layer 0\.0 \(Scaled\) has no known",
        ),
        (cpu_network, "none/ours.safetensors", RunFolderError, "cannot write none/ours.safetensors: No such file"),
        (uninitialised, "ours.safetensors", CallOrderError, "has no parameters yet"),
    ]
    for model, name, error, message in cases:
        with pytest.raises(error, match=message):
            export_pytorch(model, name)
    with pytest.raises(ShapeError, match=r"layer 1: Conv2d\(1, 3, 3\)|Reshape\(\[1, 6, 6\]\)"):
        export_pytorch(cpu_network, "ours.safetensors", (7, 7))
    assert not list(Path().iterdir())
