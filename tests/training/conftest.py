"""Small things to train on, a step written out by hand, and a callback that notes every moment."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpnet
from xpnet import Linear, Samples, Sequential, SoftmaxCrossEntropy, Trainer
from xpnet.backends import Backend
from xpnet.configuration import Recipe, recipe_from_table
from xpnet.data import Dataset
from xpnet.training import Callback, resume, train

Go = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def digits() -> Dataset:
    """The bundled digits."""
    return xpnet.data.load("digits")


@pytest.fixture
def small_data() -> Dataset:
    """Thirty points to train on and ten to test on, in three classes that a plane tells apart."""
    x = np.random.default_rng(0).uniform(0.0, 1.0, (40, 4)).astype(np.float32)
    y = np.argmax(x[:, :3], axis=1)
    return Dataset("small", x[:30], y[:30], x[30:], y[30:], classes=3)


@pytest.fixture
def small_recipe() -> Recipe:
    """Four steps in each of four epochs on ``small_data``."""
    return recipe_from_table(
        {
            "name": "small",
            "data": {"name": "small"},
            "model": {
                "layers": [
                    {"type": "Linear", "inputs": 4, "outputs": 6, "activation": "tanh"},
                    {"type": "Linear", "inputs": 6, "outputs": 3},
                ]
            },
            "loss": {"type": "SoftmaxCrossEntropy"},
            "optimizer": {"type": "Adam", "learning_rate": 0.03},
            "training": {"batch_size": 8, "epochs": 4, "validate_on_test": True},
        }
    )


@pytest.fixture
def start(small_recipe: Recipe, small_data: Dataset) -> Go:
    """``start(folder, backend, …)``: train the small recipe there."""

    def go(folder: Path, backend: Backend, recipe: Recipe = small_recipe, **options: Any) -> dict[str, Any]:
        return train(recipe, small_data, backend, seed=3, out=folder, **options)

    return go


@pytest.fixture
def go_on(small_data: Dataset) -> Go:
    """``go_on(folder, backend, …)``: resume the run there."""

    def go(folder: Path, backend: Backend, **options: Any) -> dict[str, Any]:
        return resume(folder, backend, lambda name: small_data, **options)

    return go


ROWS, CLASSES = 10, 3


def samples(rows: int = ROWS) -> Samples:
    rng = np.random.default_rng(1)
    return Samples(rng.uniform(0.0, 1.0, (rows, 4)), rng.integers(0, CLASSES, rows))


def network(backend: Backend, seed: int = 0, dtype: str | None = "float64") -> Sequential:
    return Sequential(Linear(4, 5, "tanh"), Linear(5, CLASSES)).initialize(backend, seed, dtype)


def trainer(model: Sequential, learning_rate: float = 0.5, **options: Any) -> Trainer:
    return Trainer(model, SoftmaxCrossEntropy(), xpnet.SGD(learning_rate), **options)


def on_host(model: Sequential) -> dict[str, np.ndarray]:
    return {name: np.array(model.backend.to_numpy(view)) for name, view in model.parameters.items()}


def events(history: list[dict[str, Any]], event: str) -> list[dict[str, Any]]:
    return [record for record in history if record["event"] == event]


def step_by_hand(weights: dict[str, np.ndarray], x: np.ndarray, y: np.ndarray, rate: float) -> tuple[float, int]:
    """θ ← θ - η dL/dθ for tanh and softmax cross-entropy, written out; gives the batch's mean loss and hits."""
    hidden = np.tanh(x @ weights["0.W"] + weights["0.b"])
    logits = hidden @ weights["1.W"] + weights["1.b"]
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    loss, hits = -np.log(p[np.arange(len(y)), y]).mean(), int((logits.argmax(axis=1) == y).sum())
    d_logits = (p - np.eye(CLASSES)[y]) / len(y)
    d_sum = (d_logits @ weights["1.W"].T) * (1 - hidden**2)
    gradients = {"0.W": x.T @ d_sum, "0.b": d_sum.sum(axis=0), "1.W": hidden.T @ d_logits, "1.b": d_logits.sum(axis=0)}
    for name, gradient in gradients.items():
        weights[name] = weights[name] - rate * gradient
    return float(loss), hits


class Recorder(Callback):
    """Writes down every moment and the step at which it came."""

    def __init__(self, moments: list[tuple[Any, ...]], name: str = "") -> None:
        self.moments = moments
        self.name = name

    def note(self, moment: str, trainer: Trainer, *details: Any) -> None:
        self.moments.append((*filter(None, [self.name]), moment, trainer.step, *details))

    def on_fit_begin(self, trainer: Trainer) -> None:
        self.note("fit begin", trainer)

    def on_batch(self, trainer: Trainer, record: dict[str, Any]) -> None:
        self.note("batch", trainer)

    def on_diagnosis(self, trainer: Trainer, record: dict[str, Any]) -> None:
        self.note("diagnosis", trainer, record["kind"])

    def on_evaluation(self, trainer: Trainer, record: dict[str, Any], improved: bool) -> None:
        self.note("evaluation", trainer, improved)

    def on_checkpoint(self, trainer: Trainer) -> None:
        self.note("checkpoint", trainer)

    def on_fit_end(self, trainer: Trainer) -> None:
        self.note("fit end", trainer)


def without_times(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in record.items() if key != "training_seconds"} for record in history]
