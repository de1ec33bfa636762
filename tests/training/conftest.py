"""Small things to train on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpnet
from xpnet.backends import Backend
from xpnet.configuration import Recipe, recipe_from_table
from xpnet.data import Dataset
from xpnet.training import resume, train

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
    return Dataset("small", x[:30], y[:30], x[30:], y[30:], classes=3, pixel_range=1.0)


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
            "training": {"batch_size": 8, "epochs": 4},
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
