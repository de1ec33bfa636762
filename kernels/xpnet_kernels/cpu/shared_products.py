"""Matrix products divided among the members of a team, by rows or by columns. An element is the same either way."""

from __future__ import annotations

from typing import Any

from numba import njit

from xpnet_kernels.cpu.compilation import INNER
from xpnet_kernels.cpu.outlining import outlined
from xpnet_kernels.cpu.panels import MOST_ROWS, PANEL
from xpnet_kernels.cpu.product_code import multiply_by
from xpnet_kernels.cpu.register_tiles import MOST_VECTORS, TILE_ROWS
from xpnet_kernels.cpu.sharing import PRODUCT_CODE, block_of, share, stripe, team_size
from xpnet_kernels.cpu.vectors import LANES

_LEAST_WORK = 2**19  # in multiplications, of which a microsecond has some tens of thousands


@njit(**INNER)
def shared_product(words: Any, A: Any, B: Any, transposed: bool, C: Any, by_rows: bool) -> int:
    """``C = A B``, or ``A Bᵀ`` where ``transposed``, of :func:`plain` matrices; what :func:`share` returns."""
    row_step, column_step, blocks = division(words, C.shape[0], A.shape[1], C.shape[1], by_rows)
    return share(words, _BLOCK((words[PRODUCT_CODE], A, B, transposed, C, row_step, column_step)), blocks)


@njit(**INNER)
def is_short(rows: int, terms: int, columns: int) -> bool:
    """Whether a product of this shape is not worth dividing."""
    return rows * terms * -(-columns // LANES) * LANES < _LEAST_WORK


@njit(**INNER)
def division(words: Any, rows: int, terms: int, columns: int, by_rows: bool) -> tuple[int, int, int]:
    """The rows and the columns of a block of the product, all of one of them, and the number of blocks.

    A block packs all of its columns. So these are divided, unless they are few, or the rows are many or to be divided:
    into single panels, of which a member whose core is slow does fewer.
    """
    if is_short(rows, terms, columns):
        return rows, columns, 1
    if not by_rows and rows <= MOST_ROWS and columns >= 2 * PANEL * team_size(words):
        return rows, PANEL, -(-columns // PANEL)
    step = stripe(words, rows, TILE_ROWS[MOST_VECTORS], MOST_ROWS)
    return step, columns, -(-rows // step)


@njit(**INNER)
def part_of(C: Any, row_step: int, column_step: int, block: int) -> tuple[int, int, int, int]:
    """The first row and column of a block, and the first after it."""
    rows, columns = C.shape
    if row_step < rows:
        first, last = block_of(rows, row_step, block)
        return first, last, 0, columns
    left, right = block_of(columns, column_step, block)
    return 0, rows, left, right


@njit(**INNER)
def _block(code: int, A: Any, B: Any, transposed: bool, C: Any, row_step: int, column_step: int, block: int) -> None:
    first, last, left, right = part_of(C, row_step, column_step, block)
    B = B[left:right] if transposed else B[:, left:right]
    multiply_by(code, A[first:last], B, transposed, C[first:last, left:right])


_BLOCK = outlined(_block)
