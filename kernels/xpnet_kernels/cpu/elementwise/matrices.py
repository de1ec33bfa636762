"""Sums of matrices and of their columns, over the thread pool."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from xpnet_kernels.cpu.numba_extensions.array_intrinsics import row
from xpnet_kernels.cpu.numba_extensions.compilation import INNER, InMatrix, OutDoubles, OutMatrix, kernel
from xpnet_kernels.cpu.threads.pool import over_rows

SUM_BLOCKS = 8  # the most blocks of rows, each with its own sums of the columns


def add_to(matrix: np.ndarray, other: np.ndarray) -> None:
    """``matrix += other``, of checked matrices."""
    compiled = _add_to[matrix.dtype]
    over_rows(lambda first, last: compiled(matrix, other, first, last), *matrix.shape)


def column_sums(matrix: np.ndarray) -> np.ndarray:
    """The sums of the columns of a checked matrix, in float64."""
    compiled = _column_sums[matrix.dtype]

    def sum_block(first: int, last: int) -> np.ndarray:
        sums = np.zeros(matrix.shape[1])
        compiled(matrix, sums, first, last)
        return sums

    return sum(over_rows(sum_block, *matrix.shape, max_blocks=SUM_BLOCKS))


@njit(**INNER)
def add_row(sums: Any, row_: Any) -> None:
    """``sums += row_``."""
    for c in range(row_.size):
        sums[c] += row_[c]


@kernel
def _add_to(matrix: OutMatrix, other: InMatrix, first: int, last: int) -> None:
    for i in range(first, last):
        add_row(row(matrix, i), row(other, i))


@kernel
def _column_sums(matrix: InMatrix, sums: OutDoubles, first: int, last: int) -> None:
    for i in range(first, last):
        add_row(sums, row(matrix, i))
