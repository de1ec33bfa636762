"""Sums and maxima over the threads that share a row, in a fixed order.

A row is served by ``threads`` neighbouring threads of a block: a power of two up to a warp, or a whole number of
warps, and then the block has that one row. Every thread of the block calls these functions, and each gets the result.
"""

from __future__ import annotations

import math
from typing import Any

from .primitives import WARP, barrier, device_function, shuffle_xor, thread_index, thread_scratch, warp_scratch


@device_function
def larger(a: Any, b: Any) -> Any:
    """The larger of two numbers, or NaN if one is NaN."""
    return a if b <= a or math.isnan(a) else b


@device_function
def _share_by_warps(value: Any) -> Any:
    """Shared memory that holds the value of each warp's first thread."""
    shared = warp_scratch(value)
    if thread_index() % WARP == 0:
        shared[thread_index() // WARP] = value
    barrier()
    return shared


@device_function
def row_sum(value: Any, threads: int) -> Any:
    """The sum over the row's threads."""
    offset = min(threads, WARP) >> 1
    while offset > 0:
        value = value + shuffle_xor(value, offset)
        offset >>= 1
    if threads > WARP:
        shared = _share_by_warps(value)
        value = shared[0]
        for warp in range(1, threads // WARP):
            value = value + shared[warp]
        barrier()
    return value


@device_function
def row_max(value: Any, threads: int) -> Any:
    """The maximum over the row's threads; NaN when one of them has NaN."""
    offset = min(threads, WARP) >> 1
    while offset > 0:
        value = larger(value, shuffle_xor(value, offset))
        offset >>= 1
    if threads > WARP:
        shared = _share_by_warps(value)
        value = shared[0]
        for warp in range(1, threads // WARP):
            value = larger(value, shared[warp])
        barrier()
    return value


@device_function
def sum_columns(sums: Any, count: int, columns: int) -> Any:
    """Add up ``sums``, ``count`` values of each thread, over the block's second index; the block is ``columns`` x rows.

    Returns shared memory in which the value k of the threads at c has, for each warp, a part of its sum at the index
    (warp · count + k) · columns + c. ``columns`` is a power of two, at most a warp; ``columns`` times ``count`` is at
    most two warps. Called once by a kernel, since a second call would need a barrier before it.
    """
    offset = WARP // 2
    while offset >= columns:
        for k in range(count):
            sums[k] = sums[k] + shuffle_xor(sums[k], offset)
        offset >>= 1
    shared = thread_scratch(sums[0])
    warp, lane = thread_index() // WARP, thread_index() % WARP
    if lane < columns:
        for k in range(count):
            shared[(warp * count + k) * columns + lane] = sums[k]
    barrier()
    return shared
