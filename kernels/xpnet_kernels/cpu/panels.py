"""A matrix product on one thread, panel by panel.

The right side is packed, a panel at a time, and all rows of the left side pass by it, as in Goto and van de Geijn,
"Anatomy of high-performance matrix multiplication" (2008). Where many panels follow each other the left side is packed
too, some rows and terms at a time; else it is read where it lies. An element is the same either way: the sums of at
most ``MOST_TERMS`` terms are added in their order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from xpnet_kernels.cpu.arrays import scratch
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

PANEL = MOST_VECTORS * LANES
_HEIGHT = TILE_ROWS[MOST_VECTORS]
PACKED_ROWS = 44 * _HEIGHT  # which stay in the second-level cache
_PACKED = PACKED_ROWS * MOST_TERMS
_MANY_PANELS = 8


@njit(**ARITHMETIC)
def product(A: Any, B: Any, transposed: bool, C: Any) -> None:
    """``C = A B``, or ``A Bᵀ`` where ``transposed``, of float32 and not empty; the rows of B are contiguous."""
    if C.shape[1] >= _MANY_PANELS * PANEL and C.shape[0] > _HEIGHT:
        _product_packed(A, B, transposed, C)
    else:
        _product_in_place(A, B, transposed, C)


@njit(**ARITHMETIC)
def _product_in_place(A: Any, B: Any, transposed: bool, C: Any) -> None:
    panel = panel_memory()
    (rows, columns), terms = C.shape, A.shape[1]
    parts = -(-terms // MOST_TERMS)
    for left in range(0, columns, PANEL):
        right = min(left + PANEL, columns)
        vectors = -(-(right - left) // LANES)
        for part in range(parts):
            first, last = terms * part // parts, terms * (part + 1) // parts
            _pack_panel(panel, vectors, B, transposed, first, last, left, right)
            for row in range(0, rows, TILE_ROWS[vectors]):
                multiply_tile(A, row, rows, first, last, panel, vectors, C, left, right, part > 0)


@njit(**ARITHMETIC)
def _product_packed(A: Any, B: Any, transposed: bool, C: Any) -> None:
    panel, packed = panel_memory(), scratch(np.float32, _PACKED)
    (rows, columns), terms = C.shape, A.shape[1]
    parts = -(-terms // MOST_TERMS)
    for top in range(0, rows, PACKED_ROWS):
        bottom = min(top + PACKED_ROWS, rows)
        for part in range(parts):
            first, last = terms * part // parts, terms * (part + 1) // parts
            _pack_tiles(packed, A[top:bottom, first:last])
            for left in range(0, columns, PANEL):
                right = min(left + PANEL, columns)
                _pack_panel(panel, MOST_VECTORS, B, transposed, first, last, left, right)
                for row in range(top, bottom, _HEIGHT):
                    tile = _tile(packed, row - top, last - first)
                    target = C[row : min(row + _HEIGHT, bottom)]
                    multiply_tile(
                        tile, 0, target.shape[0], 0, last - first, panel, MOST_VECTORS,
                        target, left, right, part > 0,
                    )  # fmt: skip


@njit(**ARITHMETIC)
def _pack_panel(
    panel: Any, vectors: int, B: Any, transposed: bool, first: int, last: int, left: int, right: int
) -> None:
    if transposed:
        pack_transposed(panel, vectors, B, first, last, left, right)
    else:
        pack(panel, vectors, B, first, last, left, right)


@njit(**ARITHMETIC)
def _tile(packed: Any, row: int, terms: int) -> Any:
    """The packed rows from ``row`` on, a multiple of a tile's."""
    return packed[row * terms : (row + _HEIGHT) * terms].reshape(terms, _HEIGHT).T


@njit(**ARITHMETIC)
def _pack_tiles(packed: Any, A: Any) -> None:
    """Copy the left side tile by tile, so that what a term takes of a tile lies together."""
    rows, terms = A.shape
    by_terms = A.strides[0] < A.strides[1]
    for row in range(0, rows, _HEIGHT):
        tile, height = _tile(packed, row, terms), min(_HEIGHT, rows - row)
        if by_terms:
            for k in range(terms):
                for r in range(height):
                    tile[r, k] = A[row + r, k]
        else:
            for r in range(height):
                for k in range(terms):
                    tile[r, k] = A[row + r, k]
