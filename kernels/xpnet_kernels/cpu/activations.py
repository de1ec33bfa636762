"""Bias and activation in one pass, and backward the gradient of both."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from xpnet_kernels.cpu.arrays import larger, row, stay_apart
from xpnet_kernels.cpu.checks import check_apart, check_input, check_kind, check_output, is_in_place
from xpnet_kernels.cpu.compilation import INNER, InMatrix, InVector, OutDoubles, OutMatrix, kernel
from xpnet_kernels.cpu.exponential import exponential, exponential_minus_one
from xpnet_kernels.cpu.pool import over_rows

_SUM_BLOCKS = 8  # each has a sum of its own for every column

LINEAR, RELU, _SIGMOID, _TANH = range(4)
_ACTIVATIONS = {None: LINEAR, "relu": RELU, "sigmoid": _SIGMOID, "tanh": _TANH}


def bias_activation(z: np.ndarray, bias: np.ndarray, activation: str | None, out: np.ndarray) -> None:
    """``out = act(z + bias)``.

    Args:
        z: (N, C) float32 or float64.
        bias: (C,).
        activation: ``None``, "relu", "sigmoid" or "tanh".
        out: (N, C), output; may be ``z``.

    >>> import numpy as np
    >>> out = np.empty((1, 3))
    >>> bias_activation(np.array([[-2.0, 0.0, 2.0]]), np.array([1.0, 0.0, 1.0]), "relu", out)
    >>> out
    array([[0., 0., 3.]])
    """
    code = activation_code(activation)
    check_kind("z", z, 2)
    check_input("z", z, z.dtype, z.shape)
    check_input("bias", bias, z.dtype, z.shape[1:])
    check_output("out", out, z.dtype, z.shape)
    in_place = is_in_place("out", out, "z", z)
    forward = _forward[z.dtype]
    over_rows(lambda first, last: forward(z, bias, code, out, in_place, first, last), *z.shape)


def bias_activation_backward(
    dy: np.ndarray, y: np.ndarray | None, activation: str | None, dz: np.ndarray, db: np.ndarray
) -> None:
    """``dz = dy · act′`` and ``db``, the sums of its columns.

    Args:
        dy: (N, C) float32 or float64.
        y: (N, C), the output of the activation; ``None`` will do for the activation ``None``.
        activation: ``None``, "relu", "sigmoid" or "tanh".
        dz: (N, C), output; may be ``dy``.
        db: (C,), output, summed in float64.

    >>> import numpy as np
    >>> dz, db = np.empty((2, 2)), np.empty(2)
    >>> bias_activation_backward(np.ones((2, 2)), np.array([[0.0, 3.0], [1.0, 2.0]]), "relu", dz, db)
    >>> dz.tolist(), db.tolist()
    ([[0.0, 1.0], [1.0, 1.0]], [1.0, 2.0])
    """
    code = activation_code(activation)
    check_kind("dy", dy, 2)
    check_input("dy", dy, dy.dtype, dy.shape)
    if code == LINEAR:
        y = dy  # not looked at
    else:
        check_input("y", y, dy.dtype, dy.shape)
        check_apart("dz", dz, "y", y)
    check_output("dz", dz, dy.dtype, dy.shape)
    check_output("db", db, dy.dtype, dy.shape[1:])
    in_place = is_in_place("dz", dz, "dy", dy)
    backward = _backward[dy.dtype]

    def serve(first: int, last: int) -> np.ndarray:
        sums = np.zeros(dy.shape[1])
        backward(dy, y, code, dz, in_place, sums, first, last)
        return sums

    db[:] = sum(over_rows(serve, *dy.shape, most=_SUM_BLOCKS))


def add_to(matrix: np.ndarray, other: np.ndarray) -> None:
    """``matrix += other``, of checked matrices."""
    compiled = _add_to[matrix.dtype]
    over_rows(lambda first, last: compiled(matrix, other, first, last), *matrix.shape)


def column_sums(matrix: np.ndarray) -> np.ndarray:
    """The sums of the columns of a checked matrix, in float64."""
    compiled = _column_sums[matrix.dtype]

    def serve(first: int, last: int) -> np.ndarray:
        sums = np.zeros(matrix.shape[1])
        compiled(matrix, sums, first, last)
        return sums

    return sum(over_rows(serve, *matrix.shape, most=_SUM_BLOCKS))


def activation_code(activation: str | None) -> int:
    """The number that stands for an activation in compiled code; ValueError when there is none of that name."""
    if activation not in _ACTIVATIONS:
        raise ValueError(f"unknown activation {activation!r}; the choices are None, 'relu', 'sigmoid' and 'tanh'")
    return _ACTIVATIONS[activation]


@njit(**INNER)
def activate(y: Any, code: int) -> None:
    """Apply an activation to a row."""
    stay_apart()
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
    """Multiply a row by the derivative of an activation, which gave ``y``."""
    stay_apart()
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


@kernel
def _forward(z: InMatrix, bias: InVector, code: int, out: OutMatrix, in_place: bool, first: int, last: int) -> None:
    for i in range(first, last):
        y = row(out, i)
        if in_place:
            for c in range(y.size):
                y[c] += bias[c]
        else:
            x = row(z, i)
            for c in range(y.size):
                y[c] = x[c] + bias[c]
        activate(y, code)


@njit(**INNER)
def add_row(sums: Any, row_: Any) -> None:
    """``sums += row_``."""
    for c in range(row_.size):
        sums[c] += row_[c]


@kernel
def _add_to(matrix: OutMatrix, other: InMatrix, first: int, last: int) -> None:
    for i in range(first, last):
        add_row(row(matrix, i), row(other, i))


@kernel
def _column_sums(matrix: InMatrix, sums: OutDoubles, first: int, last: int) -> None:
    for i in range(first, last):
        add_row(sums, row(matrix, i))


@kernel
def _backward(
    dy: InMatrix, y: InMatrix, code: int, dz: OutMatrix, in_place: bool, sums: OutDoubles, first: int, last: int
) -> None:
    for i in range(first, last):
        g, a = row(dz, i), row(y, i)
        if not in_place:
            g_y = row(dy, i)
            for c in range(g.size):
                g[c] = g_y[c]
        differentiate(g, a, code)
        add_row(sums, g)
