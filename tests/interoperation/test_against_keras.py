"""Networks trained in Keras (on PyTorch) are imported with the same logits."""

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


def save(model: keras.Model, path: str) -> None:
    if path.endswith("npz"):
        np.savez(path, *model.get_weights())
    else:
        model.save_weights(path)


FORMATS = pytest.mark.parametrize("path", ["theirs.weights.h5", "theirs.npz"])


@FORMATS
def test_importing_a_trained_network(backend: Backend, trained: keras.Model, path: str) -> None:
    save(trained, path)
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


@pytest.fixture(scope="module")
def residual() -> keras.Model:
    """Shortcuts around convolutions, whose layers are saved by class; normalisations before and behind the Flatten."""
    layers = keras.layers
    keras.utils.set_random_seed(0)
    x = given = keras.Input((10, 8, 2))
    x = layers.BatchNormalization()(x)
    x = layers.Conv2D(4, 3, activation="relu")(x)
    y = layers.BatchNormalization(epsilon=1e-5)(layers.Conv2D(4, 3, padding="same")(x))
    y = layers.Conv2D(4, 3, padding="same")(layers.LeakyReLU(negative_slope=0.2)(y))
    x = layers.AveragePooling2D(2)(layers.Add()([x, layers.BatchNormalization()(y)]))
    x = layers.LayerNormalization()(layers.BatchNormalization(momentum=0.8)(layers.Flatten()(x)))
    x = layers.Dense(10)(layers.Activation("softplus")(layers.Dense(16)(x)))
    model = keras.Model(given, x)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    draws = np.random.default_rng(0)
    model.fit(3 * draws.random((64, 10, 8, 2)), draws.integers(10, size=64), epochs=3, verbose=0)
    return model


@FORMATS
def test_importing_a_trained_residual_network(backend: Backend, residual: keras.Model, path: str) -> None:
    save(residual, path)
    model = xpnet.Sequential(
        xpnet.BatchNorm(2, epsilon=1e-3),
        xpnet.Conv2d(2, 4, 3, activation="relu"),
        xpnet.Residual(
            *(xpnet.Conv2d(4, 4, 3, padding="same"), xpnet.BatchNorm(4), xpnet.LeakyReLU(0.2)),
            *(xpnet.Conv2d(4, 4, 3, padding="same"), xpnet.BatchNorm(4, epsilon=1e-3)),
        ),
        *(xpnet.AvgPool2d(2), xpnet.Flatten(), xpnet.BatchNorm(48, epsilon=1e-3), xpnet.LayerNorm(48, 1e-3)),
        *(xpnet.Linear(48, 16), xpnet.Softplus(), xpnet.Linear(16, 10)),
    ).initialize(backend)
    xpnet.import_weights(model, path, input_shape=(2, 10, 8))
    x = np.random.default_rng(1).random((32, 10, 8, 2), np.float32)
    theirs = residual(x).detach().cpu().numpy()
    np.testing.assert_allclose(model.predict(x.transpose(0, 3, 1, 2)), theirs, rtol=1e-5, atol=1e-5)


@FORMATS
def test_importing_an_embedding(cpu: Backend, path: str) -> None:
    keras.utils.set_random_seed(0)
    layers = keras.layers
    theirs = keras.Sequential(
        [
            keras.Input((5,), dtype="int32"),
            layers.Embedding(7, 3),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(4),
        ]
    )
    save(theirs, path)
    model = xpnet.Sequential(xpnet.Embedding(7, 3), xpnet.Flatten(), xpnet.Dropout(0.5), xpnet.Linear(15, 4))
    xpnet.import_weights(model.initialize(cpu), path, input_shape=(5,))
    x = np.random.default_rng(1).integers(7, size=(9, 5))
    np.testing.assert_allclose(model.predict(x), theirs(x).detach().cpu().numpy(), rtol=1e-5, atol=1e-5)
