"""Keras itself, on PyTorch: a network trained there comes in with the same logits."""

from __future__ import annotations

import os

import numpy as np
import pytest

import xpnet
from xpnet.backends import Backend

pytest.importorskip("torch", reason="PyTorch is not installed; 'make test-peers' compares with it")
os.environ.setdefault("KERAS_BACKEND", "torch")
keras = pytest.importorskip("keras", reason="Keras is not installed; 'make test-peers' compares with it")
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")]


@pytest.fixture(scope="module")
def trained() -> keras.Model:
    """Convolutions of several channels, flattened; a dropout, whose state is saved too; two layers of one shape."""
    layers = keras.layers
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((14, 14)),
            layers.Reshape((14, 14, 1)),
            layers.Conv2D(4, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(6, 3, strides=2),
            layers.Flatten(),
            layers.Dropout(0.2),
            layers.Dense(16, activation="tanh"),
            layers.Dense(16),
            layers.Dense(10),
        ]
    )
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    draws = np.random.default_rng(0)
    model.fit(draws.random((64, 14, 14)), draws.integers(10, size=64), epochs=3, verbose=0)
    return model


@pytest.mark.parametrize("path", ["theirs.weights.h5", "theirs.npz"])
def test_a_network_trained_there_comes_in(backend: Backend, trained: keras.Model, path: str) -> None:
    if path.endswith("npz"):
        np.savez(path, *trained.get_weights())
    else:
        trained.save_weights(path)
    model = xpnet.Sequential(
        xpnet.Reshape([1, 14, 14]),
        xpnet.Conv2d(1, 4, 3, padding="same", activation="relu"),
        xpnet.MaxPool2d(2),
        xpnet.Conv2d(4, 6, 3, stride=2),
        xpnet.Flatten(),
        xpnet.Linear(54, 16, "tanh"),
        xpnet.Linear(16, 16),
        xpnet.Linear(16, 10),
    ).initialize(backend)
    xpnet.import_weights(model, path)
    x = np.random.default_rng(1).random((32, 14, 14), np.float32)
    theirs = trained(x).detach().cpu().numpy()
    np.testing.assert_allclose(model.predict(x), theirs, rtol=1e-5, atol=1e-5)
