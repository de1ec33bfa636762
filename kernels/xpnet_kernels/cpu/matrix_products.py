"""Matrix products, those of small float32 layers on one thread of our own.

OpenBLAS's threads spin between products. On a machine that does anything else they wait for each other, up to hundreds
of times a small product's own time; on an idle one they leave what comes next in the other core's cache.

The left side is read where it lies. The right side is packed, a panel at a time, and all rows of the left side pass by
it, as in Goto and van de Geijn, "Anatomy of high-performance matrix multiplication" (2008).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from xpnet_kernels.cpu.compilation import ARITHMETIC, InMatrix, OutMatrix, kernel
from xpnet_kernels.cpu.register_tiles import (
    MOST_TERMS,
    MOST_VECTORS,
    TILE_ROWS,
    multiply_tile,
    pack,
    pack_transposed,
    panel_memory,
)
from xpnet_kernels.cpu.vectors import LANES

_SINGLE = np.dtype(np.float32)

# In multiplications: 100 rows by 784 by 50. Two of OpenBLAS's threads on two idle cores are faster with twice as much.
_MOST_WORK = 2**22


def multiply(A: np.ndarray, B: np.ndarray, C: np.ndarray, *, transposed: bool = False) -> None:
    """``C = A B``, or ``A Bᵀ`` where ``transposed``, of checked matrices of one type.

    NumPy's product serves what is large, float64 or narrower than a vector, and processors without wide vectors.

    Args:
        A: (rows, terms), of any strides.
        B: (terms, columns), or (columns, terms) where ``transposed``; its rows are contiguous.
        C: (rows, columns), output.
        transposed: whether B is.

    >>> A, B, C = np.array([[1.0, 2.0, 3.0]]), np.array([[1.0, 1.0, 1.0], [4.0, 5.0, 6.0]]), np.empty((1, 2))
    >>> multiply(A, B, C, transposed=True)
    >>> C
    array([[ 6., 32.]])
    """
    columns = C.shape[1]
    if is_ours(C.dtype, A.size * columns) and columns >= LANES:
        _multiply[_SINGLE](A, B, transposed, C)
    else:
        np.matmul(A, B.T if transposed else B, out=C)


def is_ours(dtype: np.dtype, work: int) -> bool:
    """Whether a product of this type, with so many multiplications, is one for :func:`product`."""
    return LANES > 0 and dtype == _SINGLE and 0 < work <= _MOST_WORK


@kernel
def _multiply(A: InMatrix, B: InMatrix, transposed: bool, C: OutMatrix) -> None:
    product(A, B, transposed, C)


@njit(**ARITHMETIC)
def product(A: Any, B: Any, transposed: bool, C: Any) -> None:
    """As :func:`multiply`, of float32 and not empty."""
    panel = panel_memory()
    (rows, columns), terms = C.shape, A.shape[1]
    parts = -(-terms // MOST_TERMS)
    for left in range(0, columns, MOST_VECTORS * LANES):
        right = min(left + MOST_VECTORS * LANES, columns)
        vectors = -(-(right - left) // LANES)
        for part in range(parts):
            first, last = terms * part // parts, terms * (part + 1) // parts
            if transposed:
                pack_transposed(panel, vectors, B, first, last, left, right)
            else:
                pack(panel, vectors, B, first, last, left, right)
            for row in range(0, rows, TILE_ROWS[vectors]):
                multiply_tile(A, row, rows, first, last, panel, vectors, C, left, right)
