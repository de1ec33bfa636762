"""The online softmax of one row: the logits are read from memory once, and the output is written once.

A row is processed in chunks that fit into the L1 cache. A chunk's exponentials are relative to the largest logit so far
(its reference), and stored unscaled. A last pass, over output that is still in the L2 cache, multiplies each chunk by
one number, which corrects the reference and divides by the sum. The next chunk is prefetched while the
exponentials of this one are computed, since memory and arithmetic take about the same time and the hardware prefetcher
does not look that far ahead. Sums are in float64.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from xpnet_kernels.cpu.elementwise.exponential import exponential
from xpnet_kernels.cpu.numba_extensions.array_intrinsics import larger, prefer_512_bit_vectors, prefetch
from xpnet_kernels.cpu.numba_extensions.compilation import INNER, REDUCTION

CHUNK = 1024
_PIECE = 256
_LINE_BYTES = 64


@njit(**REDUCTION)
def maximum(z: Any) -> Any:
    """The largest element; NaN if one is NaN, -inf if there is none."""
    prefer_512_bit_vectors()
    top = z.dtype.type(-np.inf)
    for i in range(z.size):
        top = larger(top, z[i])
    return top


@njit(**REDUCTION)
def total(z: Any) -> float:
    """The sum, in float64."""
    result = 0.0
    for i in range(z.size):
        result += z[i]
    return result


@njit(**REDUCTION)
def _first_match(part: Any, value: Any) -> int:
    size = np.int32(part.size)
    position = size
    if np.isnan(value):
        for i in range(part.size):
            position = min(position, np.int32(i + (not np.isnan(part[i])) * size))
    else:
        for i in range(part.size):
            position = min(position, np.int32(i + (part[i] != value) * size))
    return position


@njit(**INNER)
def first_index(chunk: Any, value: Any) -> int:
    """The first position of ``value``, which is in the chunk and may be NaN."""
    start = 0
    while True:
        part = chunk[start : start + _PIECE]
        position = _first_match(part, value)
        if position < part.size or start + _PIECE >= chunk.size:
            return start + position
        start += _PIECE


@njit(**INNER)
def argmax(z: Any) -> int:
    """The arg-max by NumPy's rules: the first of equals, and the first NaN above all numbers."""
    top, position = maximum(z[:CHUNK]), 0
    for start in range(CHUNK, z.size, CHUNK):
        chunk_top = maximum(z[start : start + CHUNK])
        if chunk_top > top or (np.isnan(chunk_top) and not np.isnan(top)):
            top, position = chunk_top, start
    return position + first_index(z[position : position + CHUNK], top)


@njit(**INNER)
def _exponentials_of(z: Any, reference: Any, out: Any) -> None:
    prefer_512_bit_vectors()
    for i in range(z.size):
        out[i] = exponential(z[i] - reference)


# Separate from _exponentials_of: with the same array twice, that fails LLVM's run-time check for overlap, and runs its
# scalar loop.
@njit(**INNER)
def _exponentials_in_place(z: Any, reference: Any) -> None:
    prefer_512_bit_vectors()
    for i in range(z.size):
        z[i] = exponential(z[i] - reference)


@njit(**INNER)
def _exponentials(chunk: Any, top: Any, out: Any, in_place: bool) -> float:
    """``out = exp(chunk - top)``; returns its sum. Prefetches what follows the chunk in memory."""
    reference = top if top != -np.inf else np.float32(0)  # -inf - -inf would be NaN
    for start in range(0, chunk.size, _PIECE):
        for i in range(start, start + _PIECE, _LINE_BYTES // chunk.itemsize):
            prefetch(chunk, CHUNK + i)
        if in_place:
            _exponentials_in_place(out[start : start + _PIECE], reference)
        else:
            piece = chunk[start : start + _PIECE]
            _exponentials_of(piece, reference, out[start : start + piece.size])
    return total(out[: chunk.size])  # a second pass is cheaper than float64 sums inside the first


@njit(**INNER)
def softmax_row(z: Any, out: Any, references: Any, buffer: Any, in_place: bool) -> tuple[Any, int, float]:
    """The largest logit, its position, and Σ exp(z - largest).

    ``out`` receives the exponentials relative to their chunk's element of ``references``. If it is empty they are only
    summed, with ``buffer`` for a chunk of them; if ``in_place`` is true it is ``z``.
    """
    top, position, sum_ = z.dtype.type(-np.inf), 0, 0.0
    for k in range(references.size):
        start = k * CHUNK
        chunk = z[start : start + CHUNK]
        chunk_top = maximum(chunk)
        if chunk_top > top or (np.isnan(chunk_top) and not np.isnan(top)):
            sum_ *= math.exp(np.float64(top) - np.float64(chunk_top))
            top, position = chunk_top, start + first_index(chunk, chunk_top)
        references[k] = top
        if out.size > 0:
            sum_ += _exponentials(chunk, top, out[start : start + CHUNK], in_place)
        else:
            sum_ += _exponentials(chunk, top, buffer, False)
    return top, position, sum_


@njit(**INNER)
def _scale(chunk: Any, factor: Any) -> None:
    prefer_512_bit_vectors()
    for i in range(chunk.size):
        chunk[i] *= factor


@njit(**INNER)
def scale_row(out: Any, references: Any, top: Any, factor: float) -> None:
    """Multiply the exponentials that :func:`softmax_row` wrote by ``factor``, relative to the one reference ``top``."""
    for k in range(references.size):
        chunk = out[k * CHUNK : (k + 1) * CHUNK]
        chunk_factor = out.dtype.type(factor * math.exp(np.float64(references[k]) - np.float64(top)))
        _scale(chunk, chunk_factor)
