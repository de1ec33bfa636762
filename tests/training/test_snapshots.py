"""xpnet.training.snapshots: a model and a run come back bit for bit, or not at all."""

from __future__ import annotations

import pickle
import tracemalloc
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpnet
from xpnet import Adam, Linear, Sequential, SoftmaxCrossEntropy, Trainer, checkpoint, load_model, save_model
from xpnet.backends import Backend
from xpnet.checkpoint import Checkpoint
from xpnet.data import Dataset
from xpnet.errors import CallOrderError, ConfigurationError, FileFormatError, MissingFileError, ShapeError
from xpnet.registry import describe
from xpnet.training.snapshots import capture, restore


def network(backend: Backend, dtype: str | None = None) -> Sequential:
    hidden = Linear(4, 6, "tanh", weights=xpnet.HeNormal())
    return Sequential(xpnet.Flatten(), hidden, Linear(6, 3)).initialize(backend, 1, dtype)


def trained(backend: Backend, data: Dataset) -> Trainer:
    run = Trainer(network(backend), SoftmaxCrossEntropy(), Adam(0.01), seed=5)
    run.fit(data.train, epochs=2, batch_size=8, validation=data.test)
    return run


def bits(model: Sequential) -> bytes:
    return np.array(model.backend.to_numpy(model.parameters.vector)).tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_model_comes_back_bit_for_bit(backend: Backend, tmp_path: Path, dtype: str) -> None:
    model = network(backend, dtype)
    save_model(model, tmp_path / "model.safetensors")
    copy = load_model(tmp_path / "model.safetensors", backend)
    assert copy.backend is backend
    assert copy.dtype == dtype
    assert describe(copy) == describe(model)
    assert bits(copy) == bits(model)


def test_kernels_come_back_bit_for_bit(backend: Backend, tmp_path: Path) -> None:
    layers = xpnet.Conv2d(1, 2, 3, padding="same", activation="relu"), xpnet.MaxPool2d(2), xpnet.AvgPool2d(2, 1)
    model = Sequential(xpnet.Reshape([1, 6, 6]), *layers, xpnet.Flatten(), Linear(8, 3)).initialize(backend, 1)
    save_model(model, tmp_path / "model.safetensors")
    assert checkpoint.load(tmp_path / "model.safetensors").tensors["parameters/1.W"].shape == (3, 3, 1, 2)
    copy = load_model(tmp_path / "model.safetensors", backend)
    assert (describe(copy), bits(copy)) == (describe(model), bits(model))
    x = np.random.default_rng(0).random((4, 6, 6), np.float32)
    np.testing.assert_array_equal(copy.predict(x), model.predict(x))


def test_a_file_is_tied_to_no_backend(backend: Backend, tmp_path: Path) -> None:
    """The tensors in C order and by name alone, without padding; they load elsewhere."""
    model = network(backend)
    save_model(model, tmp_path / "model.safetensors")
    tensors = checkpoint.load(tmp_path / "model.safetensors").tensors
    assert {name: array.shape for name, array in tensors.items()} == {
        "parameters/1.W": (4, 6),
        "parameters/1.b": (6,),
        "parameters/2.W": (6, 3),
        "parameters/2.b": (3,),
    }
    for name, view in model.parameters.items():
        np.testing.assert_array_equal(tensors[f"parameters/{name}"], backend.to_numpy(view))
    assert bits(load_model(tmp_path / "model.safetensors", xpnet.backend("cpu-reference"))) == bits(model)


def test_a_loaded_model_trains_on(backend: Backend, small_data: Dataset, tmp_path: Path) -> None:
    save_model(network(backend), tmp_path / "model.safetensors")
    model = load_model(tmp_path / "model.safetensors", backend)
    before = xpnet.evaluate(model, small_data.train).loss
    Trainer(model, SoftmaxCrossEntropy(), Adam(0.05)).fit(small_data.train, epochs=10, batch_size=8)
    assert xpnet.evaluate(model, small_data.train).loss < before / 2


def test_buffers_come_back_and_serve(backend: Backend, small_data: Dataset, tmp_path: Path) -> None:
    layers = Linear(4, 6), xpnet.BatchNorm(6), xpnet.Dropout(0.25), xpnet.Residual(xpnet.GELU()), Linear(6, 3)
    model = Sequential(*layers).initialize(backend)
    Trainer(model, SoftmaxCrossEntropy(), Adam(0.01)).fit(small_data.train, epochs=2, batch_size=8)
    save_model(model, tmp_path / "model.safetensors")
    copy = load_model(tmp_path / "model.safetensors", backend)
    for name, view in model.buffers.items():
        assert backend.to_numpy(copy.buffers[name]).tobytes() == backend.to_numpy(view).tobytes()
    assert xpnet.evaluate(copy, small_data.test) == xpnet.evaluate(model, small_data.test)
    moved = model.to(xpnet.backend("cpu-reference"))
    np.testing.assert_allclose(moved.predict(small_data.x_test), model.predict(small_data.x_test), rtol=1e-5, atol=1e-6)


def test_what_cannot_be_saved(cpu: Backend, tmp_path: Path) -> None:
    class Mine(Linear):
        pass

    with pytest.raises(CallOrderError, match="call initialize"):
        save_model(Sequential(Linear(2, 3)), tmp_path / "model.safetensors")
    with pytest.raises(ConfigurationError, match=r"no file can name Mine, .*: put @xpnet\.register above"):
        save_model(Sequential(Mine(2, 3)).initialize(cpu), tmp_path / "model.safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["model.pkl", "MODEL.PKL", "model.pickle"])
def test_a_model_is_not_saved_under_a_name_that_would_be_read_as_a_pickle(
    cpu: Backend, tmp_path: Path, name: str
) -> None:
    with pytest.raises(ConfigurationError, match=rf"{name} would be read as a book's pickle: .* \.safetensors"):
        save_model(network(cpu), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_layer_alone_is_a_model(backend: Backend, small_data: Dataset, tmp_path: Path) -> None:
    layer = Linear(4, 3).initialize(backend)
    Trainer(layer, SoftmaxCrossEntropy(), Adam(0.01)).fit(small_data.train, epochs=1)
    save_model(layer, tmp_path / "model.safetensors")
    copy = load_model(tmp_path / "model.safetensors", backend)
    assert type(copy) is Linear
    assert bits(copy) == bits(layer)
    assert xpnet.evaluate(copy, small_data.test) == xpnet.evaluate(layer, small_data.test)


def test_the_float64_backend_computes_a_float32_file_in_float64(cpu: Backend, tmp_path: Path) -> None:
    save_model(network(cpu), tmp_path / "model.safetensors")
    tensors = checkpoint.load(tmp_path / "model.safetensors").tensors
    model = load_model(tmp_path / "model.safetensors", xpnet.backend("float64"))
    assert model.dtype == "float64"
    W1, b1, W2, b2 = (tensors[f"parameters/{name}"].astype(np.float64) for name in ("1.W", "1.b", "2.W", "2.b"))
    x = np.random.default_rng(1).normal(size=(7, 4))
    np.testing.assert_allclose(model.predict(x), np.tanh(x @ W1 + b1) @ W2 + b2, rtol=1e-13)


BOOK_SIZES = [(5, 4), (4, 6), (6, 3)]


def book_weights(dtype: str = "float32") -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    weights = {}
    for place, (inputs, outputs) in enumerate(BOOK_SIZES, 1):
        weights[f"W{place}"] = np.asfortranarray(rng.normal(size=(inputs, outputs)).astype(dtype))
        weights[f"b{place}"] = rng.normal(size=outputs).astype(dtype)
    return weights


@pytest.mark.parametrize("name", ["sample_weight.pkl", "SAMPLE.PKL", "weights.pickle"])
def test_a_books_pickle_is_a_sigmoid_network(backend: Backend, tmp_path: Path, name: str) -> None:
    weights = book_weights()
    (tmp_path / name).write_bytes(pickle.dumps(weights, protocol=3))
    model = load_model(tmp_path / name, backend)
    x = np.random.default_rng(1).normal(size=(7, 5))
    y = x
    for place in (1, 2, 3):
        y = y @ weights[f"W{place}"].astype(np.float64) + weights[f"b{place}"]
        y = 1 / (1 + np.exp(-y)) if place < 3 else y
    np.testing.assert_allclose(model.predict(x), y, rtol=0, atol=1e-5)
    assert [layer.activation for layer in model.layers[2:]] == ["sigmoid", "sigmoid", None]


def test_a_books_pickle_of_other_contents(cpu: Backend, tmp_path: Path) -> None:
    path = tmp_path / "w.pkl"
    path.write_bytes(pickle.dumps({**book_weights(), "W2": np.zeros((9, 6))}, protocol=3))
    with pytest.raises(ShapeError, match=r"W2 has shape \(9, 6\); expected 4 rows"):
        load_model(path, cpu)
    path.write_bytes(pickle.dumps({"W1": np.zeros((2, 3)), "c1": np.zeros(3)}, protocol=3))
    with pytest.raises(FileFormatError, match="missing: b1; unexpected: c1"):
        load_model(path, cpu)
    with pytest.raises(MissingFileError, match=r"there is no weight file .*none\.pkl"):
        load_model(tmp_path / "none.pkl", cpu)


def without(name: str) -> Callable[[Checkpoint], Checkpoint]:
    return lambda saved: replace(saved, tensors={key: t for key, t in saved.tensors.items() if key != name})


def with_tensor(name: str, shape: tuple[int, ...]) -> Callable[[Checkpoint], Checkpoint]:
    return lambda saved: replace(saved, tensors={**saved.tensors, name: np.zeros(shape, np.float32)})


def with_metadata(name: str, value: object) -> Callable[[Checkpoint], Checkpoint]:
    return lambda saved: replace(saved, metadata={**saved.metadata, name: value})


def without_metadata(name: str) -> Callable[[Checkpoint], Checkpoint]:
    return lambda saved: replace(saved, metadata={key: v for key, v in saved.metadata.items() if key != name})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            without("parameters/1.W"),
            r"FILE holds the tensors \['\S*1.b', '\S*2.W', '\S*2.b'\]; the model needs \['\S*1.W', '\S*1.b', ",
        ),
        (with_tensor("parameters/3.W", (2, 2)), "FILE holds .*/3.W'.*; the model needs "),
        (with_tensor("parameters/2.W", (3, 6)), r"FILE: .*2.W has shape \(3, 6\); the model needs \(6, 3\)"),
        (
            with_tensor("buffers/1.mean", (6,)),
            r"FILE holds the tensors \['buffers/1.mean', .*; the model needs \['parameters",
        ),
    ],
    ids=["one is missing", "one too many", "another shape", "a buffer too many"],
)
def test_a_model_whose_names_or_shapes_do_not_fit(
    cpu: Backend, tmp_path: Path, damage: Callable[[Checkpoint], Checkpoint], message: str
) -> None:
    path = tmp_path / "model.safetensors"
    save_model(network(cpu), path)
    checkpoint.save(path, damage(checkpoint.load(path)))
    with pytest.raises(FileFormatError, match=message.replace("FILE", str(path))):
        load_model(path, cpu)


@pytest.mark.parametrize(
    "model", [None, "Sequential", {"type": "Sequential"}, {"type": "Sequential", "layers": [{"type": "Linaer"}]}]
)
def test_a_checkpoint_that_names_no_model(cpu: Backend, tmp_path: Path, model: Any) -> None:
    path = tmp_path / "model.safetensors"
    checkpoint.save(path, Checkpoint({}, {} if model is None else {"model": model}))
    wanted = r"model\.safetensors does not say which model it holds" if model is None else r"the model in .*model\.saf"
    with pytest.raises(FileFormatError, match=wanted):
        load_model(path, cpu)


def test_a_run_comes_back_and_goes_on_with_the_same_bits(backend: Backend, small_data: Dataset) -> None:
    run = trained(backend, small_data)
    saved = capture(run, {"more": 3})
    assert saved.metadata["more"] == 3
    again = Trainer(network(backend), SoftmaxCrossEntropy(), Adam(0.01))
    restore(again, saved, "FILE")
    for name in ("seed", "step", "best_accuracy", "best_loss", "best_step", "training_seconds"):
        assert getattr(again, name) == getattr(run, name)
    assert backend.to_numpy(again.report).tolist() == backend.to_numpy(run.report).tolist()
    for either in (run, again):
        either.fit(small_data.train, epochs=3, batch_size=8)
    assert bits(again.model) == bits(run.model)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (with_tensor("parameters/2.W", (3, 6)), r"FILE: .*2.W has shape \(3, 6\); the model needs \(6, 3\)"),
        (without("optimizer/m/1.W"), "FILE holds .*optimizer/m/.*; the model needs "),
        (with_tensor("optimizer/v/2.b", (4,)), r"FILE: .*v/2.b has shape \(4,\); the model needs \(3,\)"),
        (without_metadata("report"), "FILE lacks 'report': it holds a model, but no run to resume"),
        (without_metadata("best_step"), "FILE lacks 'best_step'"),
        (with_metadata("report", [0.0] * 5), "FILE has a report that is no table of numbers"),
        (with_metadata("report", 3.0), "FILE has a report that is no table of numbers"),
        (with_metadata("report", {"count": "many"}), "FILE has a report that is no table of numbers"),
    ],
    ids=[
        "shape of a parameter",
        "name of a state",
        "shape of a state",
        "no report",
        "no best step",
        "a list",
        "a number",
        "a text",
    ],
)
def test_a_run_that_does_not_fit_leaves_the_trainer_as_it_was(
    cpu: Backend, small_data: Dataset, damage: Callable[[Checkpoint], Checkpoint], message: str
) -> None:
    saved = damage(capture(trained(cpu, small_data), {}))
    fresh = Trainer(network(cpu), SoftmaxCrossEntropy(), Adam(0.01))
    fresh.model.parameters.vector[...] = 0.5
    before = deepcopy(capture(fresh, {}))
    with pytest.raises(FileFormatError, match=message):
        restore(fresh, saved, "FILE")
    after = capture(fresh, {})
    assert after.metadata == before.metadata
    for name, array in before.tensors.items():
        np.testing.assert_array_equal(after.tensors[name], array)


def test_a_model_larger_than_its_file_is_refused_before_it_takes_memory(cpu: Backend, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_model(network(cpu), path)
    saved = checkpoint.load(path)
    saved.metadata["model"]["layers"][1]["outputs"] = 10**7
    saved.metadata["model"]["layers"][2]["inputs"] = 10**7
    checkpoint.save(path, saved)
    tracemalloc.start()
    try:
        with pytest.raises(FileFormatError, match=r"1.W has shape \(4, 6\); the model needs \(4, 10000000\)"):
            load_model(path, cpu)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_weights_that_are_no_floats(cpu: Backend, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_model(network(cpu), path)
    saved = checkpoint.load(path)
    saved.tensors["parameters/1.b"] = np.zeros(6, np.int32)
    checkpoint.save(path, saved)
    with pytest.raises(FileFormatError, match=r"1.b has dtype int32; a model's are floating point"):
        load_model(path, cpu)


def test_float64_weights_of_a_book_that_float32_cannot_hold(cpu: Backend, tmp_path: Path) -> None:
    weights = {"W1": np.full((2, 2), 1e300), "b1": np.zeros(2)}
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(weights, protocol=3))
    assert np.isinf(load_model(tmp_path / "w.pkl", cpu).parameters["1.W"]).all()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("step", "3", "FILE is damaged: step is '3', not a whole number of at least 0"),
        ("step", -1, "FILE is damaged: step is -1, not"),
        ("step", True, "FILE is damaged: step is True, not"),
        ("step", None, "FILE is damaged: step is None, not"),
        ("seed", 0.5, "FILE is damaged: seed is 0.5, not a whole number"),
        ("samples_seen", 2**70, "FILE is damaged: samples_seen is 1180591620717411303424, not"),
        ("best_accuracy", [1], r"FILE is damaged: best_accuracy is \[1\], not a number"),
        ("training_seconds", {}, "FILE is damaged: training_seconds is {}, not a number"),
        ("report", [1.0], "FILE has a report that is no table of numbers"),
        ("report", {"count": "x"}, "FILE has a report that is no table of numbers"),
    ],
)
def test_a_run_whose_state_is_of_other_types(
    cpu: Backend, small_data: Dataset, name: str, value: Any, message: str
) -> None:
    saved = capture(trained(cpu, small_data), {})
    fresh = Trainer(network(cpu), SoftmaxCrossEntropy(), Adam(0.01))
    with pytest.raises(FileFormatError, match=message):
        restore(fresh, replace(saved, metadata={**saved.metadata, name: value}), "FILE")
    assert fresh.step == 0


@pytest.mark.parametrize(("name", "value"), [("rate", None), ("rate", "fast"), ("best_loss", [3.0]), ("waited", True)])
def test_a_schedule_whose_state_is_of_other_types(cpu: Backend, small_data: Dataset, name: str, value: Any) -> None:
    run, fresh = (
        Trainer(network(cpu), SoftmaxCrossEntropy(), Adam(xpnet.ReduceOnPlateau(0.01, patience=1))) for _ in range(2)
    )
    run.fit(small_data.train, epochs=1, batch_size=8)
    saved = capture(run, {})
    table = {**saved.metadata["schedule"], name: value}
    with pytest.raises(FileFormatError, match=f"FILE is damaged: {name} of its schedule is .*, not a number"):
        restore(fresh, replace(saved, metadata={**saved.metadata, "schedule": table}), "FILE")
    assert fresh.step == 0
