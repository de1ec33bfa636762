"""Blocks of threads over some columns of a matrix, in which each thread processes a few rows at a time.

A thread has one part of each of its rows: a vector of 16 bytes if all rows allow it, else one element. It loads
several of them before it uses the first.
"""

from __future__ import annotations

from typing import Any

from numba import types

from .arrays import DeviceArray
from .primitives import BLOCK, WARP, device_function, load_element, load_words, store, store_vector

MOST_WORDS = 64  # of 32 bits in the parts that a thread loads at once, each of which has four
_BLOCKS = 256  # that give work to every multiprocessor of a GPU


def vectors_fit(element: types.Type, columns: int, *matrices: DeviceArray | None) -> bool:
    """Whether the rows of all matrices are whole, aligned vectors of 16 bytes."""
    item = element.bitwidth // 8
    return columns * item % 16 == 0 and all(
        matrix is None or (matrix.address % 16 == 0 and matrix.row_stride * item % 16 == 0) for matrix in matrices
    )


def slot_count(vectors: bool) -> int:
    """How many rows a thread loads at once."""
    return 4 if vectors else MOST_WORDS // 4


def column_grid(rows: int, parts: int, part_bytes: int, slots: int) -> tuple[int, tuple[int, int]]:
    """The grid and the block for sums over all rows: each block has a few of a row's ``parts``.

    At least 32 bytes of a row, the smallest memory transaction; more if there are many blocks.
    """
    across = min(32 // part_bytes, WARP)
    while across < WARP and across * part_bytes < 128 and parts > _BLOCKS * across:
        across *= 2
    along = WARP // across
    while 2 * along * across <= BLOCK and along * slots < rows:
        along *= 2
    return -(-parts // across), (across, along)


def block_grid(rows: int, parts: int, slots: int) -> tuple[int, int, tuple[int, int]]:
    """How many blocks share a row, all of whose ``parts`` are independent; the grid; and the block."""
    threads = 1
    while threads < min(WARP, parts):
        threads *= 2
    along = min(128, BLOCK) // threads
    across = -(-parts // threads)
    return across, across * -(-rows // (along * slots)), (threads, along)


@device_function
def load_part(matrix: Any, index: int, vectors: bool, words: Any, slot: int) -> None:
    """Load the part of a row at ``index`` into the 16 bytes ``words[4 * slot:]``."""
    if vectors:
        load_words(matrix, index, words, slot)
    else:
        load_element(matrix, index, words, slot, 0)


@device_function
def store_part(matrix: Any, index: int, vectors: bool, values: Any) -> None:
    """Round the first values to the element type and store them as the part of a row at ``index``."""
    if vectors:
        store_vector(matrix, index, values, 0)
    else:
        store(matrix, index, values[0])
