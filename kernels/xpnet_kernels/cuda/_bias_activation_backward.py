"""The gradients of bias and activation in one pass."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from numba import int64, types

from .activations import activation_code, slope
from .arrays import REALS, DeviceArray, accumulator, array, output, pointer
from .launch import launch, number
from .numba_cuda import cuda
from .primitives import BLOCK, advance, given, lead, store, width
from .reductions import column_sum
from .tiles import load_masked, store_masked


def bias_activation_backward(dy: Any, y: Any, activation: str | None, dz: Any, db: Any, *, stream: int = 0) -> None:
    """``dz = dy · act′`` and ``db``, the sums of its columns.

    Args:
        dy: (N, C) of any element type.
        y: (N, C), the output of the activation; may be ``None`` for the activation ``None``.
        activation: ``None``, "relu", "sigmoid" or "tanh".
        dz: (N, C), output; may be ``dy``.
        db: (C,), output; of the element type, or of the type in which it is summed (float32 for 16 bits).
        stream: the CUDA stream's handle.
    """
    code = activation_code(activation)
    upstream = array("dy", dy, REALS, dimensions=2)
    element, shape = upstream.element, upstream.shape
    activated = upstream if activation is None else array("y", y, (element,), shape=shape)
    gradient = output("dz", dz, (element,), shape=shape)
    sums = output("db", db, (element, accumulator(element)), shape=shape[1:])
    launch_backward(upstream, activated, gradient, sums, code, stream)


def launch_backward(
    dy: DeviceArray, y: DeviceArray, dz: DeviceArray | None, db: DeviceArray, code: int, stream: int
) -> None:
    """Queue ``dz = dy · act′`` and its column sums ``db`` for checked arrays; None: dz is not computed."""
    element, (rows, columns) = dy.element, dy.shape
    arguments = [
        pointer(dy, element), pointer(y, element), pointer(dz, element), pointer(db, db.element), number(code),
        number(rows), number(columns), number(dy.row_stride), number(y.row_stride),
        number(0 if dz is None else dz.row_stride),
    ]  # fmt: skip
    lanes = 2  # a block's columns: 32 bytes, the smallest memory transaction, so that many blocks have work
    grid = -(-columns * element.bitwidth // (lanes * 128))
    if grid:
        launch(backward_kernel(accumulator(element)), arguments, grid, (lanes, BLOCK // lanes), stream)


@lru_cache
def backward_kernel(real: types.Type) -> Callable:
    """The backward kernel; a block processes a few columns of all rows, and sums them in a fixed order."""
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
            load_masked(upstream, first, columns, lead(upstream) == 0, zero, g, 0)
            load_masked(activated, first, columns, lead(activated) == 0, zero, a, 0)
            for k in range(width(dy)):
                g[k] *= slope(a[k], code, zero, one)
                sums[k] += g[k]
            if given(dz):
                target = advance(dz, i * dz_stride)
                store_masked(target, first, columns, lead(target) == 0, g, 0)
            i += cuda.blockDim.y
        # A copy, because a loop over barriers is not unrolled, so that an array which it indexes is not in registers.
        totals = cuda.local.array(8, types.float64)
        for k in range(width(dy)):
            totals[k] = sums[k]
        for k in range(width(dy)):
            total = column_sum(totals[k], cuda.blockDim.x, cuda.blockDim.y)
            if cuda.threadIdx.y == 0 and first + k < columns:
                store(db, first + k, real(total))

    return backward
