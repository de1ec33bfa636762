"""Bias and activation in one pass, and backward the gradient of both."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from numba import cuda, int64, types

from .arrays import REALS, DeviceArray, accumulator, array, output, pointer
from .launch import launch, number, row_grid
from .primitives import BLOCK, advance, device_function, exponential, given, lead, store, width
from .reductions import column_sum
from .tiles import deliver, fetch

_LINEAR, _RELU, _SIGMOID, _TANH = range(4)
_ACTIVATIONS = {None: _LINEAR, "relu": _RELU, "sigmoid": _SIGMOID, "tanh": _TANH}


def bias_activation(z: Any, bias: Any, activation: str | None, out: Any, *, stream: int = 0) -> None:
    """``out = act(z + bias)``.

    Args:
        z: (N, C) of any element type.
        bias: (C,).
        activation: ``None``, "relu", "sigmoid" or "tanh".
        out: (N, C), output; may be ``z``.
        stream: the CUDA stream's handle.
    """
    code = activation_code(activation)
    x = array("z", z, REALS, dimensions=2)
    b = array("bias", bias, (x.element,), shape=x.shape[1:])
    y = output("out", out, (x.element,), shape=x.shape)
    launch_forward(x, b, y, code, stream)


def bias_activation_backward(dy: Any, y: Any, activation: str | None, dz: Any, db: Any, *, stream: int = 0) -> None:
    """``dz = dy · act′`` and ``db``, the sums of its columns.

    Args:
        dy: (N, C) of any element type.
        y: (N, C), the output of the activation; ``None`` will do for the activation ``None``.
        activation: ``None``, "relu", "sigmoid" or "tanh".
        dz: (N, C), output; may be ``dy``.
        db: (C,), output.
        stream: the CUDA stream's handle.
    """
    code = activation_code(activation)
    upstream = array("dy", dy, REALS, dimensions=2)
    element, shape = upstream.element, upstream.shape
    activated = upstream if activation is None else array("y", y, (element,), shape=shape)
    gradient = output("dz", dz, (element,), shape=shape)
    sums = output("db", db, (element,), shape=shape[1:])
    launch_backward(upstream, activated, gradient, sums, code, stream)


def launch_forward(x: DeviceArray, bias: DeviceArray, y: DeviceArray, code: int, stream: int) -> None:
    """Queue ``y = act(x + bias)`` for arrays that were checked."""
    element, (rows, columns) = x.element, x.shape
    if rows == 0:
        return
    arguments = [
        pointer(x, element), pointer(bias, element), pointer(y, element), number(code), number(rows), number(columns),
        number(x.row_stride), number(y.row_stride),
    ]  # fmt: skip
    launch(forward_kernel(accumulator(element)), arguments, *row_grid(rows, columns, element), stream)


def launch_backward(
    dy: DeviceArray, y: DeviceArray, dz: DeviceArray | None, db: DeviceArray, code: int, stream: int
) -> None:
    """Queue ``dz = dy · act′`` and its column sums ``db`` for arrays that were checked; None: dz is not wanted."""
    element, (rows, columns) = dy.element, dy.shape
    arguments = [
        pointer(dy, element), pointer(y, element), pointer(dz, element), pointer(db, element), number(code),
        number(rows), number(columns), number(dy.row_stride), number(y.row_stride),
        number(0 if dz is None else dz.row_stride),
    ]  # fmt: skip
    lanes = 2  # a block's columns: 32 bytes, the least that memory moves, so that many blocks have work
    grid = -(-columns * element.bitwidth // (lanes * 128))
    if grid:
        launch(backward_kernel(accumulator(element)), arguments, grid, (lanes, BLOCK // lanes), stream)


def activation_code(activation: str | None) -> int:
    """The activation as kernels know it; ValueError for one that there is not."""
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


@lru_cache
def forward_kernel(real: types.Type) -> Callable:
    """The kernel of bias and activation; a block of threads x rows."""
    zero, one = real(0), real(1)

    def forward(
        z: Any, bias: Any, out: Any, code: int, rows: int, columns: int, z_stride: int, out_stride: int
    ) -> None:
        i = int64(cuda.blockIdx.x) * cuda.blockDim.y + cuda.threadIdx.y
        if i >= rows:
            return
        source, target = advance(z, i * z_stride), advance(out, i * out_stride)
        x, b = cuda.local.array(8, real), cuda.local.array(8, real)
        first = cuda.threadIdx.x * width(z) - lead(source)
        while first < columns:
            fetch(source, first, columns, True, zero, x, 0)
            fetch(bias, first, columns, lead(bias) == lead(source), zero, b, 0)
            for k in range(width(z)):
                x[k] = activate(x[k] + b[k], code, zero, one)
            deliver(target, first, columns, lead(target) == lead(source), x, 0)
            first += cuda.blockDim.x * width(z)

    return forward


@lru_cache
def backward_kernel(real: types.Type) -> Callable:
    """The backward kernel; a block has a few columns and all rows, and sums them in a fixed order."""
    zero, one = real(0), real(1)

    def backward(
        dy: Any, y: Any, dz: Any, db: Any, code: int, rows: int, columns: int, dy_stride: int, y_stride: int,
        dz_stride: int,
    ) -> None:  # fmt: skip
        first = (int64(cuda.blockIdx.x) * cuda.blockDim.x + cuda.threadIdx.x) * width(dy)
        g, a = cuda.local.array(8, real), cuda.local.array(8, real)
        sums = cuda.local.array(8, real)
        for k in range(width(dy)):
            sums[k] = zero
        i = int64(cuda.threadIdx.y)
        while i < rows:
            upstream, activated = advance(dy, i * dy_stride), advance(y, i * y_stride)
            fetch(upstream, first, columns, lead(upstream) == 0, zero, g, 0)
            fetch(activated, first, columns, lead(activated) == 0, zero, a, 0)
            for k in range(width(dy)):
                g[k] *= slope(a[k], code, zero, one)
                sums[k] += g[k]
            if given(dz):
                target = advance(dz, i * dz_stride)
                deliver(target, first, columns, lead(target) == 0, g, 0)
            i += cuda.blockDim.y
        totals = cuda.local.array(8, types.float64)  # a loop over barriers stays a loop, and what it indexes in memory
        for k in range(width(dy)):
            totals[k] = sums[k]
        for k in range(width(dy)):
            total = column_sum(totals[k], cuda.blockDim.x, cuda.blockDim.y)
            if cuda.threadIdx.y == 0 and first + k < columns:
                store(db, first + k, real(total))

    return backward
