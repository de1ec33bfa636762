"""Activations and their derivatives, on rows in compiled code."""

from __future__ import annotations

from typing import Any

from numba import njit

from xpnet_kernels.cpu.elementwise.exponential import exponential, exponential_minus_one
from xpnet_kernels.cpu.numba_extensions.array_intrinsics import larger, no_inline
from xpnet_kernels.cpu.numba_extensions.compilation import INNER

LINEAR, RELU, _SIGMOID, _TANH = range(4)
_ACTIVATIONS = {None: LINEAR, "relu": RELU, "sigmoid": _SIGMOID, "tanh": _TANH}


def activation_code(activation: str | None) -> int:
    """The number of an activation in compiled code; ValueError for an unknown name."""
    if activation not in _ACTIVATIONS:
        raise ValueError(f"unknown activation {activation!r}; the choices are None, 'relu', 'sigmoid' and 'tanh'")
    return _ACTIVATIONS[activation]


@njit(**INNER)
def activate(y: Any, code: int) -> None:
    """Apply an activation to a row, in place."""
    no_inline()
    real = y.dtype.type
    one, two, zero = real(1), real(2), real(0)
    if code == RELU:
        for c in range(y.size):
            y[c] = larger(y[c], zero)
    elif code == _SIGMOID:
        for c in range(y.size):
            e = exponential(-abs(y[c]))
            y[c] = (e if y[c] < zero else one) / (one + e)
    elif code == _TANH:
        for c in range(y.size):
            e = exponential_minus_one(-two * abs(y[c]))
            y[c] = (e if y[c] > zero else -e) / -(two + e)


@njit(**INNER)
def differentiate(g: Any, y: Any, code: int) -> None:
    """Multiply a row by the derivative of an activation, computed from its output ``y``."""
    no_inline()
    real = g.dtype.type
    one, zero = real(1), real(0)
    if code == RELU:
        for c in range(g.size):
            g[c] = g[c] if y[c] > zero else zero
    elif code == _SIGMOID:
        for c in range(g.size):
            g[c] *= y[c] * (one - y[c])
    elif code == _TANH:
        for c in range(g.size):
            g[c] *= one - y[c] * y[c]
