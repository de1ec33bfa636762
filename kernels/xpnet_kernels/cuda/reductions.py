"""Sums and maxima over the threads that share a row, in a fixed order.

A row is served by ``threads`` neighbouring threads of a block: a power of two up to a warp, or a whole number of
warps, and then the block has that one row. Every thread of the block calls these functions, and each gets the result.
"""

from __future__ import annotations

import math
from typing import Any

from numba import int32

from .primitives import WARP, barrier, device_function, shuffle_xor, thread_index, thread_scratch, warp_scratch


@device_function
def _from_warps(value: Any, threads: int, outside: Any) -> Any:
    """One warp's value in each lane of every warp, and ``outside`` in the lanes that are left over."""
    shared = warp_scratch(value)
    warp, lane = thread_index() // WARP, thread_index() % WARP
    if lane == 0:
        shared[warp] = value
    barrier()
    return shared[lane] if lane < threads // WARP else outside


@device_function
def _lanes_sum(value: Any, lanes: int) -> Any:
    offset = int32(lanes >> 1)
    while offset > 0:
        value = value + shuffle_xor(value, offset)
        offset = int32(offset >> 1)
    return value


@device_function
def row_sum(value: Any, zero: Any, threads: int) -> Any:
    """The sum over the row's threads; ``zero`` is of the value's type."""
    value = _lanes_sum(value, min(threads, WARP))
    if threads > WARP:
        value = _lanes_sum(_from_warps(value, threads, zero), WARP)
        barrier()
    return value


@device_function
def _comes_before(a: Any, a_place: int, b: Any, b_place: int) -> bool:
    """Whether ``a`` is larger than ``b``, or equal and at a lower place; NaN is larger than any number."""
    if a == b or (math.isnan(a) and math.isnan(b)):
        return a_place < b_place
    return a > b or math.isnan(a)


@device_function
def _lanes_maximum(value: Any, place: int, lanes: int) -> Any:
    offset = int32(lanes >> 1)
    while offset > 0:
        other, other_place = shuffle_xor(value, offset), shuffle_xor(place, offset)
        if _comes_before(other, other_place, value, place):
            value, place = other, other_place
        offset = int32(offset >> 1)
    return value, place


@device_function
def row_maximum(value: Any, place: int, threads: int) -> Any:
    """The largest of the row's values, NaN above all, and the lowest of its places."""
    value, place = _lanes_maximum(value, place, min(threads, WARP))
    if threads > WARP:
        value, place = _lanes_maximum(_from_warps(value, threads, value), _from_warps(place, threads, place), WARP)
        barrier()
    return value, place


@device_function
def block_minimum(value: int, threads: int) -> int:
    """The smallest of the block's whole numbers."""
    offset = int32(WARP // 2)
    while offset > 0:
        value = min(value, shuffle_xor(value, offset))
        offset = int32(offset >> 1)
    shared = warp_scratch(value)
    if thread_index() % WARP == 0:
        shared[thread_index() // WARP] = value
    barrier()
    for warp in range(threads // WARP):
        value = min(value, shared[warp])
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
