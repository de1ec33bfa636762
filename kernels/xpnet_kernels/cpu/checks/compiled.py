"""Checks of shape, layout and overlap in compiled code, for calls so short that Python would double their time."""

from __future__ import annotations

from typing import Any

from numba import njit

from xpnet_kernels.cpu.numba_extensions.compilation import INNER


@njit(**INNER)
def rows_fit(matrix: Any, rows: int, columns: int) -> bool:
    """Whether a matrix has this shape, and its rows are contiguous, in ascending order and do not overlap."""
    item, stride = matrix.itemsize, matrix.strides[0]
    contiguous = columns <= 1 or matrix.strides[1] == item
    return matrix.shape == (rows, columns) and contiguous and (rows <= 1 or stride >= columns * item)


@njit(**INNER)
def apart(one: Any, other: Any) -> bool:
    """Whether the address ranges of two arrays, whose elements are in ascending order, do not overlap."""
    start, other_start = one.ctypes.data, other.ctypes.data
    return start + _extent(one) <= other_start or other_start + _extent(other) <= start


@njit(**INNER)
def _extent(array: Any) -> int:
    """The number of bytes from the start of the first element to the end of the last."""
    rows = array.shape[0]
    return 0 if array.size == 0 else (rows - 1) * array.strides[0] + array.size // rows * array.itemsize
