"""Gathering a batch: rows selected by index, and divided by a number, in one pass, and their labels."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numba import int64, types, uint32
from numba.np.numpy_support import as_dtype

from .arrays import INTEGERS, REALS, accumulator, array, optional, optional_output, output
from .launch import Launch, row_grid, typed
from .numba_cuda import cuda
from .prepared import run
from .primitives import advance, device_function, given, lead, load_bytes, thread_index, width
from .reductions import block_minimum
from .tiles import store_masked


def gather(
    rows: Any,
    indices: Any,
    divisor: float,
    out: Any,
    *,
    labels: Any = None,
    labels_out: Any = None,
    error: Any = None,
    step: Any = None,
    steps_per_epoch: int = 1,
    batch_size: int = 0,
    stream: int = 0,
) -> None:
    """``out[i] = rows[indices[i]] / divisor``, bit for bit the true quotient; ``labels_out[i] = labels[indices[i]]``.

    Args:
        rows: (M, D) uint8.
        indices: (N,) integers in [0, M); a row of ``out`` whose index is outside becomes NaN, its label 0.
        divisor: a number, such as 255 for pixels.
        out: (N, D) of any element type, output; the quotient is taken in the accumulation type.
        labels: (M,) integers.
        labels_out: (N,) of the labels' type, output.
        error: (1,) int64, output: the first position whose index is outside, or -1.
        step: (1,) int64, s: ``indices`` is then the order of a whole epoch, and the place of the batch in it begins at
            (s mod 2**32 mod ``steps_per_epoch``) · ``batch_size``. A row beyond its end is one with a bad index.
        steps_per_epoch: from 1 to below 2**32.
        batch_size: the distance between batches, from 0 to below 2**31.
        stream: the CUDA stream's handle.
    """
    run(
        prepare, stream, rows, indices, divisor, out, labels, labels_out, error, step, steps_per_epoch, batch_size
    )  # fmt: skip


def prepare(
    rows: Any, indices: Any, divisor: float, out: Any, labels: Any, labels_out: Any, error: Any, step: Any,
    steps_per_epoch: int, batch_size: int,
) -> list[Launch]:  # fmt: skip
    """Check the arguments and plan the launch."""
    source = array("rows", rows, (types.uint8,), dimensions=2)
    positions = array("indices", indices, INTEGERS, dimensions=1)
    columns = source.shape[1]
    if (labels is None) != (labels_out is None):
        raise ValueError("labels and labels_out go together: give both or neither")
    if not 1 <= steps_per_epoch < 2**32:
        raise ValueError(f"steps_per_epoch must be a number from 1 to below 2**32, not {steps_per_epoch}")
    if not 0 <= batch_size < 2**31:
        raise ValueError(f"batch_size must be a number from 0 to below 2**31, not {batch_size}")
    counter = optional("step", step, types.int64, (1,))
    target = output("out", out, REALS, dimensions=2)
    count, element = positions.shape[0] if counter is None else target.shape[0], target.element
    if target.shape != (count, columns):
        raise ValueError(f"out must have the shape {(count, columns)}, not {target.shape}")
    classes = None if labels is None else array("labels", labels, INTEGERS, shape=source.shape[:1])
    label = types.int64 if classes is None else classes.element
    taken = optional_output("labels_out", labels_out, label, (count,))
    report = optional_output("error", error, types.int64, (1,))
    elements = types.uint8, positions.element, element, label, label, types.int64, types.int64
    arguments = [
        source, positions, divisor, target, classes, taken, report, counter, steps_per_epoch, batch_size,
        source.shape[0], positions.shape[0], count, columns, source.row_stride, target.row_stride,
    ]  # fmt: skip
    kernel = typed(gather_kernel(accumulator(element)), *elements)
    return [Launch(kernel, arguments, *row_grid(max(count, 1), columns, element))]


@device_function
def index_at(indices: Any, position: int, length: int) -> int:
    """The index at a position, or -1 outside [0, length)."""
    return int64(indices[position]) if position < length else int64(-1)


@device_function
def first_outside(indices: Any, start: int, length: int, count: int, row_count: int, threads: int) -> int:
    """The first of ``count`` positions whose index is outside [0, row_count), or -1; computed by one block."""
    first = count
    i = int64(thread_index())
    while i < count:
        index = index_at(indices, start + i, length)
        if index < 0 or index >= row_count:
            first = min(first, i)
        i += threads
    first = block_minimum(first, threads)
    return first if first < count else -1


@lru_cache
def gather_kernel(accumulator: types.Type) -> Callable:
    """The gather kernel; a block has threads along a row x rows. The first block also checks the indices."""
    nan = as_dtype(accumulator).type(np.nan)

    def take(
        rows: Any, indices: Any, divisor: float, out: Any, labels: Any, labels_out: Any, error: Any, step: Any,
        steps_per_epoch: int, batch_size: int, row_count: int, length: int, count: int, columns: int,
        rows_stride: int, out_stride: int,
    ) -> None:  # fmt: skip
        start = int64(0)
        if given(step):
            start = int64(uint32(step[0] & 0xFFFFFFFF) % uint32(steps_per_epoch)) * batch_size
        if given(error) and cuda.blockIdx.x == 0:
            bad = first_outside(indices, start, length, count, row_count, cuda.blockDim.x * cuda.blockDim.y)
            if thread_index() == 0:
                error[0] = bad
        i = int64(cuda.blockIdx.x) * cuda.blockDim.y + cuda.threadIdx.y
        if i >= count:
            return
        index = index_at(indices, start + i, length)
        known = index >= 0 and index < row_count
        if given(labels) and cuda.threadIdx.x == 0:
            if known:
                labels_out[i] = labels[index]
            else:
                labels_out[i] = 0
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
