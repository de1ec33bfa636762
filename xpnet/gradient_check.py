"""Gradient checking: backward passes against central differences."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from xpnet import random
from xpnet.backends import Array, Backend
from xpnet.errors import DTypeError
from xpnet.layers import Context, Layer


class GradientCheck(NamedTuple):
    """The result for one array.

    Attributes:
        name: "input", or the parameter's name.
        error: max |a - n| / max(|a|, |n|, 1e-3), with a the backward pass's gradient, n the numerical one.
        place: the index of that maximum.
        analytic, numeric: a and n at that index.

    >>> GradientCheck("W", error=2e-9, place=(0, 1), analytic=0.5, numeric=0.5 + 1e-9).error < 1e-6
    True
    """

    name: str
    error: float
    place: tuple[int, ...]
    analytic: float
    numeric: float


def check_gradients(
    layer: Layer, x: np.ndarray | Array, epsilon: float = 1e-5, samples: int = 200, seed: int = 0
) -> list[GradientCheck]:
    """Compare a layer's (or a whole model's) backward pass with central differences.

    The numerical gradient is (F(θ + ε) - F(θ - ε)) / 2ε, with F = Σ r · f(x) and random r, so that every output counts.
    Keep x away from points without a derivative, such as 0 for a ReLU.

    Args:
        layer: initialised in float64: ``layer.initialize(backend, dtype="float64")``. Its parameters and buffers are
            unchanged afterwards.
        x: (N, *input shape); cast to float64, unless the layer takes integers.
        epsilon: ε.
        samples: entries checked per array; where there are more, chosen at random.
        seed: of r and of that choice.

    Returns:
        One result for the input, unless the layer takes integers, and one for each parameter; the errors of a correct
        backward pass are below 1e-6.

    Raises:
        DTypeError: the layer is not in float64; in float32 rounding errors exceed the difference.

    Source: Saito, "Deep Learning from Scratch", 2016, section 4.4; Chainer's ``check_backward``.

    >>> import xpnet
    >>> layer = xpnet.layers.Linear(3, 2, "tanh").initialize(xpnet.backend("cpu-reference"), dtype="float64")
    >>> [check.name for check in check_gradients(layer, [[0.1, 0.2, 0.3]]) if check.error < 1e-6]
    ['input', 'W', 'b']
    """
    backend = layer.require_backend()
    if layer.dtype != "float64":
        raise DTypeError(
            f"check_gradients needs a model in float64, not {layer.dtype}: initialize(..., dtype='float64')"
        )
    with backend.on_device():
        return _checks(layer, x, backend, epsilon, samples, seed)


def _checks(layer: Layer, x: Any, backend: Backend, epsilon: float, samples: int, seed: int) -> list[GradientCheck]:
    x = backend.xp.asarray(backend.asarray(x, layer.input_dtype), copy=True)
    buffers = {name: backend.xp.asarray(view, copy=True) for name, view in layer.buffers.items()}
    context = Context(backend, training=True, seed=seed)
    y = layer.forward(x, context)
    weights = backend.asarray(random.normal(random.stream_key(seed, "gradient check"), y.size).reshape(y.shape))
    dx = layer.backward(weights, context)
    arrays = {} if layer.takes_integers else {"input": (x, dx)}
    arrays |= {name: (view, layer.gradients[name]) for name, view in layer.parameters.items()}
    analytic = {name: np.array(backend.to_numpy(gradient)) for name, (_, gradient) in arrays.items()}

    def objective() -> float:
        return float(backend.xp.sum(weights * layer.forward(x, context)))

    checks = [
        _check(name, array, analytic[name], objective, epsilon, samples, seed) for name, (array, _) in arrays.items()
    ]
    layer.backward(weights, context)  # consumes what the last forward pass saved
    for name, view in buffers.items():
        layer.buffers[name][...] = view
    return checks


def _check(
    name: str,
    array: Array,
    analytic: np.ndarray,
    objective: Callable[[], float],
    epsilon: float,
    samples: int,
    seed: int,
) -> GradientCheck:
    order = random.permutation(random.stream_key(seed, "gradient check", name), analytic.size)
    worst = GradientCheck(name, 0.0, (), 0.0, 0.0)
    for flat in order[:samples]:
        index = tuple(int(i) for i in np.unravel_index(flat, analytic.shape))
        value = float(array[index])
        objectives = []
        for shift in (epsilon, -epsilon):
            array[index] = value + shift
            objectives.append(objective())
        array[index] = value
        numeric = (objectives[0] - objectives[1]) / (2 * epsilon)
        a = float(analytic[index])
        error = abs(a - numeric) / max(abs(a), abs(numeric), 1e-3)
        if not (math.isnan(worst.error) or error <= worst.error):  # NaN counts as the largest error
            worst = GradientCheck(name, error, index, a, numeric)
    return worst
