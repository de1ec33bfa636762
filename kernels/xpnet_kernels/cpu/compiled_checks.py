"""What :mod:`checks` looks at, seen by compiled code: for calls so short that checks in Python would double them."""

from __future__ import annotations

from typing import Any

from numba import njit

from xpnet_kernels.cpu.compilation import INNER


@njit(**INNER)
def rows_fit(matrix: Any, rows: int, columns: int) -> bool:
    """Whether the shape is this, and the rows are contiguous, in ascending order and apart."""
    item, stride = matrix.itemsize, matrix.strides[0]
    contiguous = columns <= 1 or matrix.strides[1] == item
    return matrix.shape == (rows, columns) and contiguous and (rows <= 1 or stride >= columns * item)


@njit(**INNER)
def apart(one: Any, other: Any) -> bool:
    """Whether two arrays whose elements are in ascending order do not overlap; false too where they interleave."""
    start, other_start = one.ctypes.data, other.ctypes.data
    return start + _extent(one) <= other_start or other_start + _extent(other) <= start


@njit(**INNER)
def _extent(array: Any) -> int:
    """The bytes from the first element to the last."""
    rows = array.shape[0]
    return 0 if array.size == 0 else (rows - 1) * array.strides[0] + array.size // rows * array.itemsize
