"""Gathering a batch: rows selected by index, and divided by a number, in one pass."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numba import int64, types
from numba.np.numpy_support import as_dtype

from .arrays import INTEGERS, REALS, accumulator, array, optional_output, output
from .launch import Launch, row_grid, typed
from .numba_cuda import cuda
from .prepared import run
from .primitives import advance, device_function, given, lead, load_bytes, thread_index, width
from .reductions import row_max
from .tiles import store_masked


def gather(rows: Any, indices: Any, divisor: float, out: Any, *, error: Any = None, stream: int = 0) -> None:
    """``out[i] = rows[indices[i]] / divisor``, bit for bit the true quotient.

    Args:
        rows: (M, D) uint8.
        indices: (N,) integers in [0, M); a row of ``out`` whose index is outside becomes NaN.
        divisor: a number, such as 255 for pixels.
        out: (N, D) of any element type, output; the quotient is taken in the accumulation type.
        error: (1,) int64, output: the first position whose index is outside, or -1.
        stream: the CUDA stream's handle.
    """
    run(prepare, stream, rows, indices, divisor, out, error)


def prepare(rows: Any, indices: Any, divisor: float, out: Any, error: Any) -> list[Launch]:
    """Check the arguments and plan the launch."""
    source = array("rows", rows, (types.uint8,), dimensions=2)
    positions = array("indices", indices, INTEGERS, dimensions=1)
    count, columns = positions.shape[0], source.shape[1]
    target = output("out", out, REALS, shape=(count, columns))
    report = optional_output("error", error, types.int64, (1,))
    element = target.element
    kernel = typed(gather_kernel(accumulator(element)), types.uint8, positions.element, element, types.int64)
    arguments = [
        source, positions, divisor, target, report, source.shape[0], count, columns, source.row_stride,
        target.row_stride,
    ]  # fmt: skip
    return [Launch(kernel, arguments, *row_grid(max(count, 1), columns, element))]


@device_function
def first_outside(indices: Any, count: int, row_count: int, threads: int) -> int:
    """The first position whose index is outside [0, row_count), or -1; computed by one block."""
    first = count
    i = int64(thread_index())
    while i < count:
        index = int64(indices[i])
        if index < 0 or index >= row_count:
            first = min(first, i)
        i += threads
    first = -row_max(-first, threads)
    return first if first < count else -1


@lru_cache
def gather_kernel(accumulator: types.Type) -> Callable:
    """The gather kernel; a block has threads along a row x rows. The first block also checks the indices."""
    nan = as_dtype(accumulator).type(np.nan)

    def take(
        rows: Any, indices: Any, divisor: float, out: Any, error: Any, row_count: int, count: int, columns: int,
        rows_stride: int, out_stride: int,
    ) -> None:  # fmt: skip
        if given(error) and cuda.blockIdx.x == 0:
            bad = first_outside(indices, count, row_count, cuda.blockDim.x * cuda.blockDim.y)
            if thread_index() == 0:
                error[0] = bad
        i = int64(cuda.blockIdx.x) * cuda.blockDim.y + cuda.threadIdx.y
        if i >= count:
            return
        index = int64(indices[i])
        known = index >= 0 and index < row_count
        source = advance(rows, index * rows_stride if known else 0)
        target = advance(out, i * out_stride)
        values = cuda.local.array(8, accumulator)
        first = cuda.threadIdx.x * width(target) - lead(target)
        aligned = (lead(source) + first) % width(target) == 0
        while first < columns:
            if known and aligned and first >= 0 and first + width(target) <= columns:
                load_bytes(source, first, target, values)
            else:
                for k in range(width(target)):
                    inside = known and first + k >= 0 and first + k < columns
                    values[k] = accumulator(source[first + k]) if inside else nan
            for k in range(width(target)):
                values[k] /= accumulator(divisor)
            store_masked(target, first, columns, True, values, 0)
            first += cuda.blockDim.x * width(target)

    return take
