"""Matrix products shared by a team, by rows or by columns; the bits do not depend on the division."""

from __future__ import annotations

from typing import Any

from numba import njit

from xpnet_kernels.cpu.gemm.compiled_product import call_product
from xpnet_kernels.cpu.gemm.macro_kernel import MAX_ROWS, PANEL
from xpnet_kernels.cpu.gemm.micro_kernel import MAX_VECTORS, TILE_ROWS
from xpnet_kernels.cpu.numba_extensions.callbacks import callback
from xpnet_kernels.cpu.numba_extensions.compilation import INNER
from xpnet_kernels.cpu.numba_extensions.simd import LANES
from xpnet_kernels.cpu.threads.scheduler import block_length, block_range, parallel_for, team_size

_MIN_SHARED_WORK = 2**19  # multiplications, of which a microsecond has some tens of thousands


@njit(**INNER)
def parallel_product(team: Any, address: int, A: Any, B: Any, transposed: bool, C: Any, by_rows: bool) -> int:
    """``C = A B``, or ``A Bᵀ`` where ``transposed``; returns the scheduler's status.

    Args:
        team: the state of the team.
        address: of the product, from :func:`~xpnet_kernels.cpu.gemm.compiled_product.product_address`.
        A: (rows, terms), made by :func:`~xpnet_kernels.cpu.gemm.descriptors.as_strided`, as are B and C.
        B: (terms, columns), or (columns, terms) where ``transposed``.
        transposed: whether B is.
        C: (rows, columns), output.
        by_rows: divide the rows, even where the columns could be divided.
    """
    row_step, column_step, blocks = partition(team, C.shape[0], A.shape[1], C.shape[1], by_rows)
    return parallel_for(team, _BLOCK((address, A, B, transposed, C, row_step, column_step)), blocks)


@njit(**INNER)
def is_too_short(rows: int, terms: int, columns: int) -> bool:
    """Whether a product of this shape is too short to be shared."""
    return rows * terms * -(-columns // LANES) * LANES < _MIN_SHARED_WORK


@njit(**INNER)
def partition(team: Any, rows: int, terms: int, columns: int, by_rows: bool) -> tuple[int, int, int]:
    """(rows per block, columns per block, number of blocks); one of the first two is the whole extent.

    Every block packs all of its columns. So the columns are divided, into single panels, of which a member with a slow
    core takes fewer; unless they are few, the rows are many, or the caller asks for rows.
    """
    if is_too_short(rows, terms, columns):
        return rows, columns, 1
    if not by_rows and rows <= MAX_ROWS and columns >= 2 * PANEL * team_size(team):
        return rows, PANEL, -(-columns // PANEL)
    step = block_length(team, rows, TILE_ROWS[MAX_VECTORS], MAX_ROWS)
    return step, columns, -(-rows // step)


@njit(**INNER)
def block_bounds(C: Any, row_step: int, column_step: int, block: int) -> tuple[int, int, int, int]:
    """(first row, row after the last, first column, column after the last) of a block."""
    rows, columns = C.shape
    if row_step < rows:
        first, last = block_range(rows, row_step, block)
        return first, last, 0, columns
    left, right = block_range(columns, column_step, block)
    return 0, rows, left, right


@njit(**INNER)
def _block(address: int, A: Any, B: Any, transposed: bool, C: Any, row_step: int, column_step: int, block: int) -> None:
    first, last, left, right = block_bounds(C, row_step, column_step, block)
    B = B[left:right] if transposed else B[:, left:right]
    call_product(address, A[first:last], B, transposed, C[first:last, left:right])


_BLOCK = callback(_block)
