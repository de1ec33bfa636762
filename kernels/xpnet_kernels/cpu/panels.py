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

from xpnet_kernels.cpu.arrays import prefetch, row, scratch
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
_LINE = 16  # floats


@njit(**INNER)
def product(A: Any, B: Any, transposed: bool, C: Any) -> None:
    """``C = A B``, or ``A Bᵀ`` where ``transposed``, of plain matrices, not empty; the rows of B are contiguous."""
    panel, memory = panel_memory(), scratch(np.float32, _COPY)
    (rows, columns), terms = C.shape, A.shape[1]
    copies = A.strides[0] == A.itemsize < A.strides[1] and columns >= _MANY_PANELS * PANEL
    parts = -(-terms // MOST_TERMS)
    for top in range(0, rows, MOST_ROWS):
        for part in range(parts):
            first, last = terms * part // parts, terms * (part + 1) // parts
            left_side = A[top : top + MOST_ROWS, first:last]
            if copies:
                left_side = _copy(left_side, memory)
            for left in range(0, columns, PANEL):
                sums = C[top : top + MOST_ROWS, left : left + PANEL]
                right_side = B[left : left + PANEL, first:last] if transposed else B[first:last, left : left + PANEL]
                _multiply_panel(left_side, right_side, transposed, panel, sums, left == 0, part > 0)


@njit(**INNER)
def _multiply_panel(
    left_side: Any, right_side: Any, transposed: bool, panel: Any, sums: Any, is_first: bool, added: bool
) -> None:
    vectors = -(-sums.shape[1] // LANES)
    height = TILE_ROWS[vectors]
    if transposed:
        pack_transposed(panel, vectors, right_side)
    for i in range(0, sums.shape[0], height):
        if is_first and left_side.strides[1] == left_side.itemsize:
            for ahead in range(i + height, i + 2 * height):
                source = row(left_side, ahead)
                for k in range(0, source.size, _LINE):
                    prefetch(source, k)
        multiply_tile(left_side, i, right_side, i == 0 and not transposed, panel, vectors, sums, added)


@njit(**INNER)
def _copy(A: Any, memory: Any) -> Any:
    """The same transposed matrix, its columns close together."""
    rows, terms = A.shape
    for k in range(terms):
        source, target = row(A.T, k), memory[k * MOST_ROWS : k * MOST_ROWS + rows]
        for i in range(rows):
            target[i] = source[i]
    return plain_matrix((address_of(memory), rows, terms, 4, 4 * MOST_ROWS))
