"""Every layer, the loss and every optimizer, on the CPU and on another device from the same weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import xpnet
from xpnet import layers, optimizers
from xpnet.backends import Backend
from xpnet.layers.preprocessing import Preprocessing

ROWS = 30
LAYERS: dict[str, tuple[Callable[[], xpnet.Layer], tuple[int, ...]]] = {
    "AvgPool2d": (lambda: xpnet.AvgPool2d(2), (3, 6, 6)),
    "BatchNorm": (lambda: xpnet.BatchNorm(3), (3, 4)),
    "Conv2d": (lambda: xpnet.Conv2d(3, 5, 3, 2, 1, "tanh"), (3, 7, 7)),
    "Dropout": (lambda: xpnet.Dropout(0.4), (3, 4)),
    "Embedding": (lambda: xpnet.Embedding(9, 4), (5,)),
    "Flatten": (xpnet.Flatten, (3, 4)),
    "GELU": (xpnet.GELU, (3, 4)),
    "LayerNorm": (lambda: xpnet.LayerNorm(4), (3, 4)),
    "LeakyReLU": (xpnet.LeakyReLU, (3, 4)),
    "Linear": (lambda: xpnet.Linear(12, 7, "tanh"), (12,)),
    "MaxPool2d": (lambda: xpnet.MaxPool2d(3, 2), (3, 7, 7)),
    "ReLU": (xpnet.ReLU, (3, 4)),
    "Reshape": (lambda: xpnet.Reshape([2, 6]), (3, 4)),
    "Rescale": (lambda: xpnet.Rescale(3.0), (3, 4)),
    "Residual": (lambda: xpnet.Residual(xpnet.Linear(12, 7, "tanh"), xpnet.Linear(7, 12)), (12,)),
    "Sequential": (lambda: xpnet.Sequential(xpnet.Linear(12, 9, "relu"), xpnet.Linear(9, 5, "sigmoid")), (12,)),
    "Sigmoid": (xpnet.Sigmoid, (3, 4)),
    "Softmax": (xpnet.Softmax, (12,)),
    "Softplus": (xpnet.Softplus, (3, 4)),
    "Standardize": (lambda: xpnet.Standardize(3), (3, 4)),
    "Tanh": (xpnet.Tanh, (3, 4)),
}


def subclasses(module: Any, base: type) -> set[str]:
    """The names of the public classes of a module that specialise ``base``."""
    public = {name: getattr(module, name) for name in dir(module) if not name.startswith("_")}
    return {name for name, kind in public.items() if isinstance(kind, type) and issubclass(kind, base) and kind != base}


def test_every_layer_is_compared() -> None:
    assert set(LAYERS) == subclasses(layers, xpnet.Layer)


def pass_through(backend: Backend, name: str, dtype: str, passes: int = 2) -> dict[str, np.ndarray]:
    """The output and all gradients of a layer, after as many passes."""
    make, shape = LAYERS[name]
    layer = make().initialize(backend, seed=3, dtype=dtype)
    random = np.random.default_rng(0)
    context = xpnet.Context(backend, training=True, seed=5)
    for step in range(passes):
        context.step = step
        x = random.integers(9, size=(ROWS, *shape)) if layer.takes_integers else random.normal(size=(ROWS, *shape))
        if isinstance(layer, Preprocessing):
            layer.fit(x)
        y = layer.forward(backend.asarray(x, layer.input_dtype), context)
        dx = layer.backward(backend.asarray(random.normal(size=y.shape), dtype), context)
    outputs = {
        "y": y,
        "dx": dx,
        **layer.gradients,
        **{f"buffer {name}": array for name, array in layer.buffers.items()},
    }
    return {name: np.array(backend.to_numpy(array)) for name, array in outputs.items()}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_computes_the_same_on_both_devices(
    cpu: Backend, device: Backend, dtype: str, close: Any, name: str
) -> None:
    ours, theirs = pass_through(cpu, name, dtype), pass_through(device, name, dtype)
    assert ours.keys() == theirs.keys()
    for kind, expected in ours.items():
        close(theirs[kind], expected.astype(np.float64), np.abs(expected).max(), length=ROWS)


@pytest.mark.parametrize("name", sorted(subclasses(optimizers, xpnet.optimizers.Optimizer)))
def test_single_steps_of_every_optimizer(cpu: Backend, device: Backend, dtype: str, close: Any, name: str) -> None:
    """Each step from the same state: trajectories drift apart, steps do not."""
    random, results = np.random.default_rng(0), []
    draws = [random.normal(size=(12, 7)) for _ in range(6)]
    for backend in (cpu, device):
        model = xpnet.Linear(12, 7).initialize(backend, seed=1, dtype=dtype)
        optimizer = getattr(xpnet, name)(0.01)
        optimizer.initialize(model)
        for step, draw in enumerate(draws):
            model.gradients["W"][...] = backend.asarray(draw, dtype)
            optimizer.update(step)
        results.append(np.array(backend.to_numpy(model.parameters["W"])))
    close(results[1], results[0].astype(np.float64), 1.0, length=4 * len(draws))
