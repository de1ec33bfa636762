"""Training in bfloat16: what it reaches, what is kept in float32, and where it is refused."""

from __future__ import annotations

import json
import pickle
import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpnet
from xpnet import checkpoint
from xpnet.backends import PRECISIONS, Backend
from xpnet.data import Dataset

DIGITS = xpnet.data.load("digits")
BFLOAT16 = "bfloat16"


@pytest.fixture(scope="module")
def reference_runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Summaries of runs on cpu-reference by precision, each with its folder."""
    folder, runs = tmp_path_factory.mktemp("runs"), {}
    for precision in ("float32", "bf16"):
        recipe = xpnet.load_recipe("digits").with_options(epochs=3, precision=precision)
        runs[precision] = xpnet.train(recipe, DIGITS, xpnet.backend("cpu-reference"), out=folder / precision)
    return runs


def is_rounded(array: np.ndarray) -> np.ndarray:
    """Where the numbers are bfloat16's."""
    return array.astype(np.float32).view(np.uint32) % 2**16 == 0


def test_it_reaches_the_accuracy_of_float32(reference_runs: dict[str, Any]) -> None:
    float32, bf16 = reference_runs["float32"], reference_runs["bf16"]
    assert bf16["test_accuracy"] == pytest.approx(float32["test_accuracy"], abs=0.01)
    assert bf16["train_loss"] == pytest.approx(float32["train_loss"], rel=0.01)
    assert bf16["train_loss"] != float32["train_loss"]


def test_weights_and_checkpoints_are_float32_and_can_be_loaded_anywhere(reference_runs: dict[str, Any]) -> None:
    path = Path(reference_runs["bf16"]["run_dir"]) / "last.safetensors"
    tensors = checkpoint.load(path).tensors
    assert {str(array.dtype) for array in tensors.values()} == {"float32"}
    assert is_rounded(tensors["parameters/1.W"]).mean() < 0.1  # the weights, not a copy that was rounded
    for name in ("cpu", "float64"):
        evaluation = xpnet.evaluate(xpnet.load_model(path, xpnet.backend(name)), DIGITS.test)
        assert evaluation.accuracy == pytest.approx(reference_runs["bf16"]["test_accuracy"], abs=0.01)


def test_the_run_folder_says_in_which_precision(reference_runs: dict[str, Any]) -> None:
    for precision, run in reference_runs.items():
        folder = Path(run["run_dir"])
        assert tomllib.loads((folder / "config.toml").read_text())["training"]["precision"] == precision
        recipe = checkpoint.load(folder / "last.safetensors").metadata["recipe"]
        assert recipe["training"]["precision"] == precision


def test_a_resumed_run_goes_on_in_it(tmp_path: Path, assert_same_run: Any) -> None:
    recipe = xpnet.load_recipe("digits").with_options(epochs=2, precision="bf16")
    backend = xpnet.backend("cpu-reference")
    xpnet.train(recipe, DIGITS, backend, out=tmp_path / "whole")
    xpnet.train(recipe, DIGITS, backend, out=tmp_path / "parts", stop_after_epoch=1)
    xpnet.resume(tmp_path / "parts", backend, xpnet.data.load)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    with pytest.raises(xpnet.ConfigurationError, match="unknown option of resume 'precision'"):
        xpnet.resume(tmp_path / "parts", backend, xpnet.data.load, precision="float32")


REFUSALS = [
    ("cpu", "bf16", "bf16 needs a CUDA device, not backend 'cpu'; 'cpu-reference' emulates it, slowly"),
    ("cpu", "tf32", "tf32 needs a CUDA device, not backend 'cpu'"),
    ("cpu-reference", "tf32", "tf32 needs a CUDA device, not backend 'cpu-reference'"),
    ("float64", "bf16", "bf16 needs a CUDA device, not backend 'float64'; 'cpu-reference' emulates it, slowly"),
]


@pytest.mark.parametrize(("name", "precision", "message"), REFUSALS)
def test_a_device_that_does_not_compute_in_it(tmp_path: Path, name: str, precision: str, message: str) -> None:
    recipe = xpnet.load_recipe("digits").with_options(precision=precision)
    with pytest.raises(xpnet.BackendError, match=f"^{re.escape(message)}$"):
        xpnet.train(recipe, DIGITS, xpnet.backend(name), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_model_in_float64_is_refused() -> None:
    model = xpnet.Linear(2, 3).initialize(xpnet.backend("cpu-reference"), dtype="float64")
    with pytest.raises(xpnet.ConfigurationError, match=r"^bf16 needs a model in float32, not float64"):
        xpnet.Trainer(model, xpnet.SoftmaxCrossEntropy(), xpnet.SGD(0.1), precision="bf16")


def test_an_unknown_precision_lists_the_choices() -> None:
    model = xpnet.Linear(2, 3).initialize(xpnet.backend("cpu"))
    with pytest.raises(xpnet.ConfigurationError, match=f"unknown precision 'fp16'.* are {', '.join(PRECISIONS)}"):
        xpnet.Trainer(model, xpnet.SoftmaxCrossEntropy(), xpnet.SGD(0.1), precision="fp16")


class Seen(xpnet.Layer):
    """Scales, and notes in which types it is called."""

    def __init__(self, inner: xpnet.Layer | None = None) -> None:
        self.inner = inner or xpnet.Flatten()
        self.types: list[str] = []

    def output_shape(self, input_shape: Any) -> Any:
        return self.inner.output_shape(input_shape)

    def forward(self, x: Any, context: xpnet.Context) -> Any:
        y = self.inner.forward(x, context)
        self.types += [str(x.dtype), str(y.dtype)]
        return 2 * y

    def backward(self, dy: Any, context: xpnet.Context) -> Any:
        dx = self.inner.backward(2 * dy, context)
        self.types += [str(dy.dtype), str(dx.dtype)]
        return dx


def trained(model: xpnet.Layer, loss: Any = None) -> xpnet.Trainer:
    model.initialize(xpnet.backend("cpu-reference"), seed=1)
    trainer = xpnet.Trainer(model, loss or xpnet.SoftmaxCrossEntropy(), xpnet.SGD(0.1), precision="bf16")
    trainer.fit((DIGITS.x_train[:40].reshape(40, 64) / 16, DIGITS.y_train[:40]), steps=2, batch_size=20)
    return trainer


def test_a_layer_of_ones_own_computes_in_float32_with_the_layers_in_it() -> None:
    own = Seen(xpnet.Linear(16, 16))
    model = xpnet.Sequential(xpnet.Linear(64, 16), own, xpnet.Linear(16, 10))
    trained(model)
    assert set(own.types) == {"float32"}
    context = xpnet.Context(model.backend, training=True)
    y = model.forward(model.backend.asarray(np.ones((2, 64)), "float32"), context)
    dx = model.backward(y, context)
    assert [str(array.dtype) for array in (y, dx)] == [BFLOAT16, BFLOAT16]


def test_it_may_be_the_whole_model() -> None:
    own = Seen(xpnet.Linear(64, 10))
    trainer = trained(own)
    assert set(own.types) == {"float32"}
    assert trainer.history[-1]["train_loss"] < 3.0


class Narrow(Seen):
    """The same, which says that it takes bfloat16."""

    takes_bfloat16 = True

    def forward(self, x: Any, context: xpnet.Context) -> Any:
        return context.backend.narrowed(super().forward(x, context))

    def backward(self, dy: Any, context: xpnet.Context) -> Any:
        return context.backend.narrowed(super().backward(dy, context))


def test_one_that_takes_bfloat16_gets_it() -> None:
    own = Narrow(xpnet.Linear(16, 16))
    trained(xpnet.Sequential(xpnet.Linear(64, 16), own, xpnet.Linear(16, 10)))
    assert own.types[:8] == [BFLOAT16] * 8  # two steps; diagnoses after the last are computed in float32


class Doubled(xpnet.Linear):
    """New passes, with those of a class that takes bfloat16 in them."""

    def forward(self, x: Any, context: xpnet.Context) -> Any:
        self.type = str(x.dtype)
        y = super().forward(x, context)
        return y + x @ self.parameters["W"]

    def backward(self, dy: Any, context: xpnet.Context) -> Any:
        dx = super().backward(dy, context)
        return dx + dy @ self.parameters["W"].T


class Weighted(xpnet.SoftmaxCrossEntropy):
    """The same of a loss."""

    def compute(self, outputs: Any, targets: Any, context: xpnet.Context) -> Any:
        self.type = str(outputs.dtype)
        return super().compute(outputs, targets, context)


def test_new_passes_get_float32_whatever_their_base_class_takes() -> None:
    own, loss = Doubled(16, 16), Weighted()
    trained(xpnet.Sequential(xpnet.Linear(64, 16), own, xpnet.Linear(16, 10)), loss)
    assert {own.type, loss.type} == {"float32"}


def test_a_loss_of_ones_own_gets_float32() -> None:
    seen = []

    def squares(outputs: Any, targets: Any) -> Any:
        seen.append(str(outputs.dtype))
        return (outputs**2).sum(axis=1), 2 * outputs

    trained(xpnet.Sequential(xpnet.Linear(64, 10)), squares)
    assert set(seen) == {"float32"}


def test_predictions_are_float32_from_rounded_activations() -> None:
    model = trained(xpnet.Sequential(xpnet.Linear(64, 10))).model
    x = np.ones((3, 64), np.float32)
    y = model.predict(x)
    assert (y.dtype, model(model.backend.asarray(x)).dtype) == (np.float32, np.float32)
    assert is_rounded(y).all()
    exact = model.to(xpnet.backend("float64")).predict(x)
    assert 0 < np.abs(y - exact).max() < 2.0**-7 * np.abs(exact).max()


def test_a_copied_or_pickled_model_keeps_it() -> None:
    model = trained(xpnet.Sequential(xpnet.Linear(64, 10))).model
    again = pickle.loads(pickle.dumps(model))
    assert again.backend == model.backend != xpnet.backend("cpu-reference")
    assert again.backend.precision == "bf16"
    np.testing.assert_array_equal(again.predict(np.ones((3, 64))), model.predict(np.ones((3, 64))))


def test_a_trainer_without_a_precision_trains_in_float32() -> None:
    model = trained(xpnet.Sequential(xpnet.Linear(64, 10))).model
    trainer = xpnet.Trainer(model, xpnet.SoftmaxCrossEntropy(), xpnet.SGD(0.1))
    assert (trainer.backend, model.layers[0].backend) == (xpnet.backend("cpu-reference"),) * 2


def shortened(samples: int) -> Dataset:
    small = {"x_train": DIGITS.x_train[:samples], "y_train": DIGITS.y_train[:samples]}
    return xpnet.data.Dataset(**{**vars(DIGITS), **small})


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_cuda_follows_the_emulation(emulated: Backend, tmp_path: Path, device: str) -> None:
    """The same batches; the kernels sum in another order, and round the products of Linear once more."""
    recipe = xpnet.load_recipe("digits").with_options(epochs=1, batch_size=32, precision="bf16")
    data = shortened(320)
    runs = {
        name: xpnet.train(recipe, data, xpnet.backend(name), out=tmp_path / name.replace(":", "-"))
        for name in ("cpu-reference", device)
    }
    assert runs[device]["device"] == device
    assert runs[device]["train_loss"] == pytest.approx(runs["cpu-reference"]["train_loss"], abs=0.01)
    assert runs[device]["test_accuracy"] == pytest.approx(runs["cpu-reference"]["test_accuracy"], abs=0.02)
    path = Path(runs[device]["run_dir"]) / "last.safetensors"
    model = xpnet.load_model(path, xpnet.backend("cpu"))
    assert xpnet.evaluate(model, data.test).accuracy == pytest.approx(runs[device]["test_accuracy"], abs=0.01)
    assert json.dumps(checkpoint.load(path).metadata).count("cuda") == 0  # nothing ties it to the device


@pytest.mark.parametrize("name", ["cpu-reference", "emulated"])
def test_a_step_that_is_not_finite_names_the_layer(name: str, request: pytest.FixtureRequest) -> None:
    backend = xpnet.backend(name) if name != "emulated" else request.getfixturevalue(name)
    model = xpnet.Sequential(xpnet.Linear(64, 8), xpnet.GELU(), xpnet.Linear(8, 10)).initialize(backend)
    model.parameters["2.b"] = np.where(np.arange(10) == 3, np.inf, 0.0)
    trainer = xpnet.Trainer(model, xpnet.SoftmaxCrossEntropy(), xpnet.SGD(0.1), precision="bf16")
    with pytest.raises(xpnet.NonFiniteError, match="step 1 stopped being finite in the output of layer 2 Linear"):
        trainer.fit((DIGITS.x_train[:40].reshape(40, 64) / 16, DIGITS.y_train[:40]), steps=2, batch_size=20)


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from xpnet.cli import main

    train = ["train", "--recipe", "digits", "--epochs", "1", "--precision", "bf16", "--out", str(tmp_path / "run")]
    assert main([*train, "--device", "cpu"]) == 2
    assert "bf16 needs a CUDA device, not backend 'cpu'; 'cpu-reference' emulates it" in capsys.readouterr().err
    assert main([*train, "--device", "cpu-reference"]) == 0
    resume = ["train", "--resume", str(tmp_path / "run"), "--epochs", "2", "--device", "cpu-reference"]
    assert main([*resume, "--precision", "float32"]) == 2
    assert "--precision" in capsys.readouterr().err
    assert main(resume) == 0
