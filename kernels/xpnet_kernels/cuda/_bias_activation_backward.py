"""The gradients of bias and activation in one pass."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from numba import float64, int64, types, uint32

from .activations import activation_code, multiply_by_slopes
from .arrays import REALS, DeviceArray, accumulator, array, output
from .launch import Launch, typed
from .numba_cuda import cuda
from .prepared import run
from .primitives import WARP, given, store, thread_index, unpack, width
from .reductions import sum_columns
from .row_blocks import MOST_WORDS, column_grid, load_part, slot_count, store_part, vectors_fit


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
    run(prepare, stream, dy, y, activation, dz, db)


def prepare(dy: Any, y: Any, activation: str | None, dz: Any, db: Any) -> list[Launch]:
    """Check the arguments and plan the launch."""
    code = activation_code(activation)
    upstream = array("dy", dy, REALS, dimensions=2)
    element, shape = upstream.element, upstream.shape
    activated = upstream if activation is None else array("y", y, (element,), shape=shape)
    gradient = output("dz", dz, (element,), shape=shape)
    sums = output("db", db, (element, accumulator(element)), shape=shape[1:])
    return backward_launches(upstream, activated, gradient, sums, code)


def backward_launches(
    dy: DeviceArray, y: DeviceArray, dz: DeviceArray | None, db: DeviceArray, code: int
) -> list[Launch]:
    """The launch of ``dz = dy · act′`` and its column sums ``db`` for checked arrays; None: dz is not computed."""
    element, (rows, columns) = dy.element, dy.shape
    vectors = vectors_fit(element, columns, dy, y, dz)
    part = 128 if vectors else element.bitwidth
    grid, block = column_grid(rows, columns * element.bitwidth // part, part // 8, slot_count(vectors))
    if not grid:
        return []
    kernel = typed(backward_kernel(accumulator(element), vectors), element, element, element, db.element)
    dz_stride = 0 if dz is None else dz.row_stride
    arguments = [dy, y, dz, db, code, rows, columns, dy.row_stride, y.row_stride, dz_stride]
    return [Launch(kernel, arguments, grid, block)]


@lru_cache
def backward_kernel(real: types.Type, vectors: bool) -> Callable:
    """The backward kernel; a block processes a few columns of all rows, and sums them in a fixed order.

    ``vectors``: a thread's part of a row is an aligned vector of 16 bytes; else it is one element.
    """
    zero, one = real(0), real(1)
    slots = slot_count(vectors)

    def backward(
        dy: Any, y: Any, dz: Any, db: Any, code: int, rows: int, columns: int, dy_stride: int, y_stride: int,
        dz_stride: int,
    ) -> None:  # fmt: skip
        count = width(dy) if vectors else 1
        column = (int64(cuda.blockIdx.x) * cuda.blockDim.x + cuda.threadIdx.x) * count
        upstream, activated = cuda.local.array(MOST_WORDS, uint32), cuda.local.array(MOST_WORDS, uint32)
        g, a, sums = cuda.local.array(8, real), cuda.local.array(8, real), cuda.local.array(8, real)
        for k in range(count):
            sums[k] = zero
        first, last = int64(cuda.threadIdx.y), rows if column < columns else 0
        while first < last:
            for slot in range(slots):
                i = first + slot * cuda.blockDim.y
                if i < last:
                    load_part(dy, i * dy_stride + column, vectors, upstream, slot)
                    load_part(y, i * y_stride + column, vectors, activated, slot)
            for slot in range(slots):
                i = first + slot * cuda.blockDim.y
                if i < last:
                    unpack(dy, upstream, slot, g)
                    unpack(y, activated, slot, a)
                    multiply_by_slopes(g, a, count, code, zero, one)
                    for k in range(count):
                        sums[k] += g[k]
                    if given(dz):
                        store_part(dz, i * dz_stride + column, vectors, g)
            first += slots * cuda.blockDim.y
        shared = sum_columns(sums, count, cuda.blockDim.x)
        warps = cuda.blockDim.x * cuda.blockDim.y // WARP
        size = count * cuda.blockDim.x
        place = int64(thread_index())
        while place < size:
            total = float64(shared[place])
            for warp in range(1, warps):
                total += shared[warp * size + place]
            column = (
                int64(cuda.blockIdx.x) * cuda.blockDim.x + place % cuda.blockDim.x
            ) * count + place // cuda.blockDim.x
            if column < columns:
                store(db, column, real(total))
            place += cuda.blockDim.x * cuda.blockDim.y

    return backward
