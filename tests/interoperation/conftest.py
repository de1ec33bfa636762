"""A small network, and its equation in float64 on weights in the layouts of PyTorch and of Keras."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from xpnet import Conv2d, Flatten, Linear, MaxPool2d, Reshape, Sequential
from xpnet.backends import Backend

Weights = dict[str, np.ndarray]

LINEARS = ("fc1", "fc2", "fc10")


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def draws() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def x(draws: np.random.Generator) -> np.ndarray:
    return draws.random((5, 6, 6))


@pytest.fixture
def network(backend: Backend) -> Sequential:
    """A convolution with three channels, flattened, then two layers of one shape, then a classifier."""
    return build(backend)


@pytest.fixture
def cpu_network(cpu: Backend) -> Sequential:
    """The same on the CPU alone."""
    return build(cpu)


def build(backend: Backend) -> Sequential:
    model = Sequential(
        Reshape([1, 6, 6]),
        Conv2d(1, 3, 3, activation="relu"),
        MaxPool2d(2),
        Flatten(),
        Linear(12, 12, "tanh"),
        Linear(12, 12),
        Linear(12, 4),
    )
    return model.initialize(backend, seed=1)


@pytest.fixture
def state(draws: np.random.Generator) -> Weights:
    """In PyTorch's layout; "fc2" is the second of the two alike, though "fc10" comes first in the alphabet."""
    shapes = {"conv": (3, 1, 3, 3), "fc1": (12, 12), "fc2": (12, 12), "fc10": (4, 12)}
    state = {}
    for name, shape in shapes.items():
        state[f"{name}.weight"] = draws.standard_normal(shape)
        state[f"{name}.bias"] = draws.standard_normal(shape[:1])
    return state


@pytest.fixture
def pytorch_logits(x: np.ndarray, state: Weights) -> np.ndarray:
    """The network's outputs for x, by its equation, channels first."""
    windows = sliding_window_view(x[:, None], (3, 3), axis=(2, 3))
    y = np.einsum("nchwij,ocij->nohw", windows, state["conv.weight"]) + state["conv.bias"][:, None, None]
    y = np.maximum(y, 0).reshape(len(x), 3, 2, 2, 2, 2).max(axis=(3, 5)).reshape(len(x), -1)
    y = np.tanh(y @ state["fc1.weight"].T + state["fc1.bias"])
    y = y @ state["fc2.weight"].T + state["fc2.bias"]
    return y @ state["fc10.weight"].T + state["fc10.bias"]


@pytest.fixture
def keras_logits(x: np.ndarray, keras_arrays: list[np.ndarray]) -> np.ndarray:
    """The network's outputs for x, by its equation, channels last; they differ, as Keras flattens in another order."""
    (kernel, bias), *dense = zip(keras_arrays[::2], keras_arrays[1::2], strict=True)
    windows = sliding_window_view(x[..., None], (3, 3), axis=(1, 2))
    y = np.einsum("nhwcij,ijco->nhwo", windows, kernel) + bias
    y = np.maximum(y, 0).reshape(len(x), 2, 2, 2, 2, 3).max(axis=(2, 4)).reshape(len(x), -1)
    for place, (kernel, bias) in enumerate(dense):
        y = y @ kernel + bias
        y = np.tanh(y) if place == 0 else y
    return y


@pytest.fixture
def keras_arrays(state: Weights) -> list[np.ndarray]:
    """The weights in Keras's layout, kernel and bias of each layer in turn."""
    arrays = [state["conv.weight"].transpose(2, 3, 1, 0), state["conv.bias"]]
    for name in LINEARS:
        arrays += [state[f"{name}.weight"].T, state[f"{name}.bias"]]
    return arrays
