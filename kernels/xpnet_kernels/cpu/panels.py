"""A matrix product on one thread, panel by panel.

The right side is packed, a panel at a time, and all rows of the left side pass by it, as in Goto and van de Geijn,
"Anatomy of high-performance matrix multiplication" (2008). The first tile of a panel packs it as it goes. The left side
is read where it lies; but a transposed one, whose terms are far apart, is copied where many panels follow each other.
An element is the same either way: the sums of at most ``MOST_TERMS`` terms are added in their order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from xpnet_kernels.cpu.arrays import prefetch, row, scratch, stay_apart
from xpnet_kernels.cpu.compilation import INNER
from xpnet_kernels.cpu.plain_matrices import address_of, plain_matrix
from xpnet_kernels.cpu.register_tiles import (
    MOST_TERMS,
    MOST_VECTORS,
    TILE_ROWS,
    multiply_tile,
    pack_transposed,
    panel_memory,
)
from xpnet_kernels.cpu.vectors import LANES

PANEL = MOST_VECTORS * LANES
MOST_ROWS = 44 * TILE_ROWS[MOST_VECTORS]  # of a part of the left side, which stays in the second-level cache
_COPY = MOST_ROWS * MOST_TERMS
_MANY_PANELS = 4
_MANY_TILES = 32  # so many take long enough for the next panel to come: weights just updated are 2 % of a wide step
_LINE = 16  # floats


@njit(**INNER)
def product(A: Any, B: Any, transposed: bool, C: Any) -> None:
    """``C = A B``, or ``A Bᵀ`` where ``transposed``, of plain matrices, not empty; the rows of B are contiguous."""
    (rows, columns), terms = C.shape, A.shape[1]
    copies = A.strides[0] == A.itemsize < A.strides[1] and columns >= _MANY_PANELS * PANEL
    parts = -(-terms // MOST_TERMS)
    for top in range(0, rows, MOST_ROWS):
        sums = C[top : top + MOST_ROWS]
        for part in range(parts):
            first, last = terms * part // parts, terms * (part + 1) // parts
            left_side = A[top : top + MOST_ROWS, first:last]
            right_side = B[:, first:last] if transposed else B[first:last]
            if copies:
                _add_product_of_copy(left_side, right_side, transposed, sums, part > 0)
            else:
                _add_product(left_side, right_side, transposed, sums, part > 0)


@njit(**INNER)
def _add_product_of_copy(A: Any, B: Any, transposed: bool, C: Any, added: bool) -> None:
    """As :func:`_add_product`, with the columns of A close together."""
    stay_apart()  # for only what is copied shall take so much of the stack
    memory = scratch(np.float32, _COPY)
    rows, terms = A.shape
    for k in range(terms):
        source, target = row(A.T, k), memory[k * MOST_ROWS : k * MOST_ROWS + rows]
        for i in range(rows):
            target[i] = source[i]
    _add_product(plain_matrix((address_of(memory), rows, terms, 4, 4 * MOST_ROWS)), B, transposed, C, added)


@njit(**INNER)
def _add_product(A: Any, B: Any, transposed: bool, C: Any, added: bool) -> None:
    """``C += A B`` or ``A Bᵀ`` of a few terms, panel by panel; where ``added`` is false C is set."""
    stay_apart()
    panel = panel_memory()
    for left in range(0, C.shape[1], PANEL):
        right, after = left + PANEL, left + 2 * PANEL
        right_side, ahead = (B[left:right], B[right:after]) if transposed else (B[:, left:right], B[:, right:after])
        _multiply_panel(A, right_side, ahead, transposed, panel, C[:, left:right], left == 0, added)


@njit(**INNER)
def _multiply_panel(
    left_side: Any, right_side: Any, ahead: Any, transposed: bool, panel: Any, sums: Any, is_first: bool, added: bool
) -> None:
    vectors = -(-sums.shape[1] // LANES)
    height = TILE_ROWS[vectors]
    if transposed:
        pack_transposed(panel, vectors, right_side)
    tiles = -(-sums.shape[0] // height)
    for tile in range(tiles):
        i = tile * height
        if is_first and left_side.strides[1] == left_side.itemsize:  # later panels find it in the second-level cache
            _fetch(left_side, i + height, i + 2 * height)
        if tiles >= _MANY_TILES:
            _fetch(ahead, ahead.shape[0] * tile // tiles, ahead.shape[0] * (tile + 1) // tiles)
        multiply_tile(left_side, i, right_side, i == 0 and not transposed, panel, vectors, sums, added)


@njit(**INNER)
def _fetch(matrix: Any, first: int, last: int) -> None:
    """Fetch rows, which may lie beyond the end, into the caches."""
    for i in range(first, last):
        line = row(matrix, i)
        for k in range(0, line.size, _LINE):
            prefetch(line, k)
