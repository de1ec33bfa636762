"""The macro-kernel: a matrix product on one thread, as a loop over packed panels.

B is packed panel by panel, and each panel is multiplied with all rows of A, as in Goto and van de Geijn, "Anatomy of
high-performance matrix multiplication" (2008). The first tile of a panel packs it on the way. A is read in place; only
a transposed A, whose terms are far apart, is copied if there are many panels. The bits are the same either way: partial
sums of at most ``MAX_TERMS`` terms are added in order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from xpnet_kernels.cpu.gemm.descriptors import address_of, from_descriptor
from xpnet_kernels.cpu.gemm.micro_kernel import (
    MAX_TERMS,
    MAX_VECTORS,
    TILE_ROWS,
    micro_kernel,
    pack_transposed,
    panel_buffer,
)
from xpnet_kernels.cpu.numba_extensions.array_intrinsics import no_inline, prefetch, row, stack_array
from xpnet_kernels.cpu.numba_extensions.compilation import INNER
from xpnet_kernels.cpu.numba_extensions.simd import LANES

PANEL = MAX_VECTORS * LANES
MAX_ROWS = 44 * TILE_ROWS[MAX_VECTORS]  # of a block of A, which fits into the L2 cache
_COPY_SIZE = MAX_ROWS * MAX_TERMS
_MANY_PANELS = 4
_MANY_TILES = 32  # enough time to prefetch the next panel, which saves 2 % of a wide layer's step
_LINE_FLOATS = 16  # in a cache line


@njit(**INNER)
def product(A: Any, B: Any, transposed: bool, C: Any) -> None:
    """``C = A B``, or ``A Bᵀ`` where ``transposed``, of matrices that are not empty; the rows of B are contiguous."""
    (rows, columns), terms = C.shape, A.shape[1]
    copies = A.strides[0] == A.itemsize < A.strides[1] and columns >= _MANY_PANELS * PANEL
    parts = -(-terms // MAX_TERMS)
    for top in range(0, rows, MAX_ROWS):
        sums = C[top : top + MAX_ROWS]
        for part in range(parts):
            first, last = terms * part // parts, terms * (part + 1) // parts
            left_side = A[top : top + MAX_ROWS, first:last]
            right_side = B[:, first:last] if transposed else B[first:last]
            if copies:
                _add_product_of_copy(left_side, right_side, transposed, sums, part > 0)
            else:
                _add_product(left_side, right_side, transposed, sums, part > 0)


@njit(**INNER)
def _add_product_of_copy(A: Any, B: Any, transposed: bool, C: Any, added: bool) -> None:
    """As :func:`_add_product`, with a copy of A whose columns are close together."""
    no_inline()  # so that only this function takes so much of the stack
    memory = stack_array(np.float32, _COPY_SIZE)
    rows, terms = A.shape
    for k in range(terms):
        source, target = row(A.T, k), memory[k * MAX_ROWS : k * MAX_ROWS + rows]
        for i in range(rows):
            target[i] = source[i]
    _add_product(from_descriptor((address_of(memory), rows, terms, 4, 4 * MAX_ROWS)), B, transposed, C, added)


@njit(**INNER)
def _add_product(A: Any, B: Any, transposed: bool, C: Any, added: bool) -> None:
    """``C += A B`` or ``A Bᵀ`` of at most ``MAX_TERMS`` terms, panel by panel; ``C = …`` if ``added`` is false."""
    no_inline()
    panel = panel_buffer()
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
        if is_first and left_side.strides[1] == left_side.itemsize:  # later panels find it in the L2 cache
            _prefetch_rows(left_side, i + height, i + 2 * height)
        if tiles >= _MANY_TILES:
            _prefetch_rows(ahead, ahead.shape[0] * tile // tiles, ahead.shape[0] * (tile + 1) // tiles)
        micro_kernel(left_side, i, right_side, i == 0 and not transposed, panel, vectors, sums, added)


@njit(**INNER)
def _prefetch_rows(matrix: Any, first: int, last: int) -> None:
    """Prefetch rows, which may lie beyond the end."""
    for i in range(first, last):
        line = row(matrix, i)
        for k in range(0, line.size, _LINE_FLOATS):
            prefetch(line, k)
