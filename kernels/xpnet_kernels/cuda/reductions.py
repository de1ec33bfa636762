"""Sums and maxima over the threads that share a row, in a fixed order.

A row is served by ``threads`` neighbouring threads of a block: a power of two up to a warp, or a whole number of
warps, and then the block has that one row. Every thread of the block calls these functions, and each gets the result.
"""

from __future__ import annotations

import math
from typing import Any

from .primitives import WARP, barrier, device_function, scratch, shuffle_xor, thread_index


@device_function
def larger(a: Any, b: Any) -> Any:
    """The larger of two numbers, or NaN if one is NaN."""
    return a if b <= a or math.isnan(a) else b


@device_function
def _share_by_warps(value: Any) -> Any:
    """Shared memory that holds the value of each warp's first thread."""
    shared = scratch(value)
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
def column_sum(value: Any, columns: int, rows: int) -> Any:
    """The sum over the block's second index, for each of its first: the block is ``columns`` x ``rows`` threads.

    ``columns`` is a power of two smaller than a warp, and ``columns`` times the number of warps is at most 32.
    """
    offset = WARP // 2
    while offset >= columns:
        value = value + shuffle_xor(value, offset)
        offset >>= 1
    shared = scratch(value)
    thread = thread_index()
    if thread % WARP < columns:
        shared[thread // WARP * columns + thread % WARP] = value
    barrier()
    value = shared[thread % columns]
    for warp in range(1, columns * rows // WARP):
        value = value + shared[warp * columns + thread % columns]
    barrier()
    return value
