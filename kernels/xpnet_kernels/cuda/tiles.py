"""Masked loads and stores of pieces of a row: 16 bytes at a time where these are aligned and inside the row.

A row need not start on a 16-byte boundary. Its vectors are counted from the boundary before it, so that only the first
and the last may be partial. A tile is the part of a row that its threads hold at one time: ``slots`` vectors each,
``step`` columns apart, so that neighbouring threads access neighbouring vectors.
"""

from __future__ import annotations

from typing import Any

from .primitives import device_function, load, load_vector, store, store_vector, width


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
def load_tile(row: Any, first: int, step: int, slots: int, columns: int, outside: Any, buffer: Any) -> None:
    """Fill ``buffer`` with this thread's vectors of a tile, the first of them at column ``first``."""
    for slot in range(slots):
        load_masked(row, first + slot * step, columns, True, outside, buffer, slot * width(row))


@device_function
def store_tile(row: Any, first: int, step: int, slots: int, columns: int, aligned: bool, buffer: Any) -> None:
    """Store ``buffer`` as this thread's vectors of a tile, the first of them at column ``first``."""
    for slot in range(slots):
        store_masked(row, first + slot * step, columns, aligned, buffer, slot * width(row))
