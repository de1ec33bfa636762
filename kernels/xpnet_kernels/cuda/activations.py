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
def activate(x: Any, code: int, zero: Any, one: Any) -> Any:
    """The activation of one value; NaN stays NaN."""
    if code == _RELU:
        return zero if x <= zero else x
    if code == _SIGMOID:
        e = exponential(-abs(x))
        return (e if x < zero else one) / (one + e)
    if code == _TANH:
        return math.tanh(x)
    return x


@device_function
def slope(y: Any, code: int, zero: Any, one: Any) -> Any:
    """The derivative of the activation, from its output."""
    if code == _RELU:
        return one if y > zero else zero
    if code == _SIGMOID:
        return y * (one - y)
    if code == _TANH:
        return one - y * y
    return one
