"""Activations and their derivatives, one value at a time in device code."""

from __future__ import annotations

import math
from typing import Any

from .primitives import device_function, exponential

_LINEAR, _RELU, _SIGMOID, _TANH = range(4)
_ACTIVATIONS = {None: _LINEAR, "relu": _RELU, "sigmoid": _SIGMOID, "tanh": _TANH}


def activation_code(activation: str | None) -> int:
    """The number of an activation in device code; ValueError for an unknown name."""
    if activation not in _ACTIVATIONS:
        raise ValueError(f"unknown activation {activation!r}; the choices are None, 'relu', 'sigmoid' and 'tanh'")
    return _ACTIVATIONS[activation]


@device_function
def add_and_activate(x: Any, bias: Any, count: int, code: int, zero: Any, one: Any) -> None:
    """Replace ``count`` values by the activation of their sums with ``bias``; NaN stays NaN."""
    for k in range(count):
        x[k] += bias[k]
    if code == _RELU:
        for k in range(count):
            x[k] = zero if x[k] <= zero else x[k]
    elif code == _SIGMOID:
        for k in range(count):
            e = exponential(-abs(x[k]))
            x[k] = (e if x[k] < zero else one) / (one + e)
    elif code == _TANH:
        for k in range(count):
            x[k] = math.tanh(x[k])


@device_function
def multiply_by_slopes(gradients: Any, y: Any, count: int, code: int, zero: Any, one: Any) -> None:
    """Multiply ``count`` gradients by the derivatives of the activation, which are taken from its outputs ``y``."""
    if code == _RELU:
        for k in range(count):
            gradients[k] *= one if y[k] > zero else zero
    elif code == _SIGMOID:
        for k in range(count):
            gradients[k] *= y[k] * (one - y[k])
    elif code == _TANH:
        for k in range(count):
            gradients[k] *= one - y[k] * y[k]
