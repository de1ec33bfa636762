"""Masked loads and stores of pieces of a row: 16 bytes at a time where these are aligned and inside the row.

A row need not start on a 16-byte boundary. Its vectors are counted from the boundary before it, so that only the first
and the last may be partial. A tile is the part of a row that its threads hold at one time: ``slots`` vectors each,
``step`` columns apart, so that neighbouring threads access neighbouring vectors; a thread holds them as they are in
memory, four 32-bit words each. Its columns are 32-bit numbers.
"""

from __future__ import annotations

from typing import Any

from numba import int32, uint32

from .primitives import (
    device_function,
    fill_words,
    lead,
    load,
    load_element,
    load_vector,
    load_words,
    recomputed,
    store,
    store_vector,
    unpack,
    width,
)


@device_function
def load_masked(row: Any, first: int, columns: int, aligned: bool, outside: Any, buffer: Any, offset: int) -> None:
    """Fill ``buffer[offset:]`` with the vector of the row that starts at column ``first``.

    Columns outside the row become ``outside``.
    """
    if aligned and first >= 0 and first + width(row) <= columns:
        load_vector(row, first, buffer, offset)
    elif first < columns:
        for k in range(width(row)):
            inside = first + k >= 0 and first + k < columns
            buffer[offset + k] = load(row, first + k) if inside else outside
    else:
        for k in range(width(row)):
            buffer[offset + k] = outside


@device_function
def store_masked(row: Any, first: int, columns: int, aligned: bool, buffer: Any, offset: int) -> None:
    """Store ``buffer[offset:]`` as the vector of the row that starts at column ``first``."""
    if aligned and first >= 0 and first + width(row) <= columns:
        store_vector(row, first, buffer, offset)
    elif first < columns:
        for k in range(width(row)):
            if first + k >= 0 and first + k < columns:
                store(row, first + k, buffer[offset + k])


@device_function
def vector_starts(row: Any, columns: int) -> int:
    """The number of columns at which a whole vector of the row may start."""
    return uint32(columns - width(row) + 1) if columns >= width(row) else uint32(0)


@device_function
def is_inside(column: int, k: int, columns: int) -> bool:
    """Whether the column ``k`` after ``column`` is one of the row's; 32-bit numbers."""
    return uint32(column + k) < uint32(columns)


@device_function
def load_tile(row: Any, first: int, step: int, slots: int, columns: int, words: Any) -> None:
    """Load this thread's vectors of a tile, the first of them at column ``first``, into ``words``.

    No load waits for the one before it. Columns outside the row become −∞.
    """
    starts = vector_starts(row, columns)  # a negative column, as an unsigned number, is above it
    for slot in range(slots):
        column = int32(first + slot * step)
        if uint32(column) < starts:
            load_words(row, column, words, slot)
        else:
            fill_words(row, words, slot)
    if lead(row) != 0 or columns % width(row) != 0:
        first = recomputed(first)
        for slot in range(slots):
            column = int32(first + slot * step)
            if uint32(column) >= starts and column < columns:
                for k in range(width(row)):
                    if is_inside(column, k, columns):
                        load_element(row, int32(column + k), words, slot, k)


@device_function
def unpack_again(row: Any, words: Any, slot: int, values: Any) -> None:
    """As ``unpack``, but values that were unpacked before are not kept in registers for it."""
    if width(row) == 8:  # else the words are the values
        for k in range(4):
            words[4 * slot + k] = recomputed(words[4 * slot + k])
    unpack(row, words, slot, values)


@device_function
def store_to_row(row: Any, column: int, columns: int, aligned: bool, values: Any) -> None:
    """Store ``values`` as the vector of a row, whose columns are 32-bit numbers, that starts at ``column``."""
    if aligned and uint32(column) < vector_starts(row, columns):
        store_vector(row, column, values, 0)
    elif column < columns:
        for k in range(width(row)):
            if is_inside(column, k, columns):
                store(row, int32(column + k), values[k])
