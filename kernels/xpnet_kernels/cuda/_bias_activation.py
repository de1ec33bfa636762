"""Bias and activation in one pass."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from numba import int64, types

from .activations import activate, activation_code
from .arrays import REALS, DeviceArray, accumulator, array, output, pointer
from .launch import launch, number, row_grid
from .numba_cuda import cuda
from .primitives import advance, lead, width
from .tiles import load_masked, store_masked


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


def launch_forward(x: DeviceArray, bias: DeviceArray, y: DeviceArray, code: int, stream: int) -> None:
    """Queue ``y = act(x + bias)`` for checked arrays."""
    element, (rows, columns) = x.element, x.shape
    if rows == 0:
        return
    arguments = [
        pointer(x, element), pointer(bias, element), pointer(y, element), number(code), number(rows), number(columns),
        number(x.row_stride), number(y.row_stride),
    ]  # fmt: skip
    launch(forward_kernel(accumulator(element)), arguments, *row_grid(rows, columns, element), stream)


@lru_cache
def forward_kernel(real: types.Type) -> Callable:
    """The kernel of bias and activation; a block has threads along a row x rows."""
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
            load_masked(source, first, columns, True, zero, x, 0)
            load_masked(bias, first, columns, lead(bias) == lead(source), zero, b, 0)
            for k in range(width(z)):
                x[k] = activate(x[k] + b[k], code, zero, one)
            store_masked(target, first, columns, lead(target) == lead(source), x, 0)
            first += cuda.blockDim.x * width(z)

    return forward
