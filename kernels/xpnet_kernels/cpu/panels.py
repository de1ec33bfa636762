"""A matrix product, panel by panel.

The left side is read where it lies. The right side is packed, a panel at a time, and all rows of the left side pass by
it, as in Goto and van de Geijn, "Anatomy of high-performance matrix multiplication" (2008).
"""

from __future__ import annotations

from typing import Any

from numba import njit

from xpnet_kernels.cpu.compilation import ARITHMETIC
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


@njit(**ARITHMETIC)
def product(A: Any, B: Any, transposed: bool, C: Any) -> None:
    """``C = A B``, or ``A Bᵀ`` where ``transposed``, of float32 and not empty; the rows of B are contiguous."""
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
