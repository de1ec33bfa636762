"""Raw pixels in, answers out: a model, wherever it comes from, predicts what its evaluation saw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpnet
from xpnet import Dataset, Flatten, Linear, Rescale, Sequential, SoftmaxCrossEntropy, Standardize, Trainer
from xpnet.configuration import Recipe, recipe_from_table
from xpnet.layers.preprocessing import Preprocessing
from xpnet.registry import describe

try:
    from onnx.reference import ReferenceEvaluator
except ImportError:
    ReferenceEvaluator = None

SCALING = {
    "rescale": lambda: [Rescale()],
    "rescale by a number": lambda: [Rescale(16.0)],
    "standardize": lambda: [Standardize(1)],
    "both": lambda: [Rescale(), Standardize(1)],
}


@pytest.fixture
def photos() -> Dataset:
    """Small grey pictures, brighter in one of three thirds."""
    draws = np.random.default_rng(0)
    x, y = draws.integers(0, 128, (260, 6, 6)), draws.integers(0, 3, 260)
    for row, label in enumerate(y):
        x[row, 2 * label : 2 * label + 2] += draws.integers(0, 128, (2, 6))
    x = x.astype(np.uint8)
    return Dataset("photos", x[:200], y[:200], x[200:], y[200:], classes=3)


@pytest.fixture(params=["digits", "photos"])
def data(request: pytest.FixtureRequest) -> Dataset:
    return request.getfixturevalue(request.param)


@pytest.fixture(params=SCALING)
def layers(request: pytest.FixtureRequest, data: Dataset) -> list[xpnet.Layer]:
    features = int(np.prod(data.sample_shape))
    return [*SCALING[request.param](), Flatten(), Linear(features, 12, "tanh"), Linear(12, data.classes)]


def recipe_for(data: Dataset, layers: list[xpnet.Layer]) -> Recipe:
    return recipe_from_table(
        {
            "name": "pixels",
            "data": {"name": data.name},
            "model": {"layers": [describe(layer) for layer in layers]},
            "loss": {"type": "SoftmaxCrossEntropy"},
            "optimizer": {"type": "Adam", "learning_rate": 0.01},
            "training": {"batch_size": 16, "epochs": 3},
        }
    )


class Recorded(SoftmaxCrossEntropy):
    """Keeps the outputs that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs: list[np.ndarray] = []

    def forward(self, outputs, targets, context):
        self.outputs.append(np.array(context.backend.to_numpy(outputs)))
        return super().forward(outputs, targets, context)


def figures(logits: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Mean of -log softmax at the label, and the share of rows whose largest logit is the label's, in float64."""
    z = logits.astype(np.float64)
    z -= z.max(axis=1, keepdims=True)
    losses = np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(y)), y]
    return float(losses.mean()), float((logits.argmax(axis=1) == y).mean())


def require_the_outputs_of_its_evaluation(model: xpnet.Layer, data: Dataset, least_accuracy: float) -> None:
    loss = Recorded()
    outcome = xpnet.evaluate(model, data.test, loss)
    logits = model.predict(data.x_test)
    np.testing.assert_array_equal(logits, np.concatenate(loss.outputs))
    expected_loss, expected_accuracy = figures(logits, data.y_test)
    assert outcome.accuracy == expected_accuracy
    assert outcome.loss == pytest.approx(expected_loss, rel=1e-6)
    assert outcome.accuracy > least_accuracy
    assert outcome == xpnet.evaluate(model, data.test)


def test_of_a_model_from_python(backend, data, layers) -> None:
    model = Sequential(*layers).initialize(backend)
    Trainer(model, SoftmaxCrossEntropy(), xpnet.Adam(0.01)).fit(data.train, epochs=3, batch_size=16)
    require_the_outputs_of_its_evaluation(model, data, least_accuracy=0.6)
    np.testing.assert_array_equal(model.predict(data.x_test), model.predict(data.x_test.astype(np.float32)))


def test_of_a_recipe_and_its_checkpoint(cpu, data, layers, tmp_path) -> None:
    summary = xpnet.train(recipe_for(data, layers), data, cpu, out=tmp_path / "run")
    best = xpnet.load_model(tmp_path / "run" / "best.safetensors", cpu)
    require_the_outputs_of_its_evaluation(best, data, least_accuracy=0.6)
    outcome = xpnet.evaluate(best, data.test)
    assert (outcome.loss, outcome.accuracy) == (summary["test_loss"], summary["test_accuracy"])
    xpnet.save_model(best, tmp_path / "copy.safetensors")
    again = xpnet.load_model(tmp_path / "copy.safetensors", cpu)
    np.testing.assert_array_equal(again.predict(data.x_test), best.predict(data.x_test))


@pytest.mark.skipif(ReferenceEvaluator is None, reason="onnx is not installed; the extra dev has it")
def test_through_onnx(cpu, data, layers, tmp_path) -> None:
    model = Sequential(*layers).initialize(cpu)
    Trainer(model, SoftmaxCrossEntropy(), xpnet.Adam(0.01)).fit(data.train, epochs=3, batch_size=16)
    xpnet.export_onnx(model, tmp_path / "model.onnx", data.sample_shape)
    raw = data.x_test.astype(np.float32)
    (logits,) = ReferenceEvaluator(str(tmp_path / "model.onnx")).run(None, {"input": raw})
    np.testing.assert_allclose(logits, model.predict(data.x_test), rtol=1e-5, atol=1e-5)
    outcome = xpnet.evaluate(model, data.test)
    assert figures(logits, data.y_test) == (pytest.approx(outcome.loss, rel=1e-5), outcome.accuracy)


def test_of_a_run_that_stopped_and_went_on(
    cpu: Any, photos: Dataset, tmp_path: Path, assert_same_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fitted once, before the first step: a resumed run takes what was saved."""
    layers = [Rescale(), Standardize(1), Flatten(), Linear(36, 3)]
    recipe = recipe_for(photos, layers)
    xpnet.train(recipe, photos, cpu, out=tmp_path / "whole")
    xpnet.train(recipe, photos, cpu, out=tmp_path / "half", stop_after_epoch=1)
    for cls in Preprocessing.__subclasses__():
        monkeypatch.setattr(cls, "_fit", lambda *arguments: pytest.fail("it was fitted again"))
    xpnet.resume(tmp_path / "half", cpu, lambda name: photos)
    assert_same_run(tmp_path / "whole", tmp_path / "half")
