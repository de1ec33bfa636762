"""The softmax of one row, in pieces that compiled code puts together.

A row is taken in chunks that stay in the first-level cache. The exponentials of a chunk are taken against the largest
logit so far, its reference, and stored unscaled; a last pass, over what is still in the second-level cache, multiplies
each chunk by one number, which mends the reference and divides by the sum. So the logits are read from memory once and
the output is written once. The next chunk is fetched while the exponentials of this one are computed: memory and
arithmetic each take about as long, and the processor would not look so far ahead. Sums are in float64.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from xpnet_kernels.cpu.arrays import larger, prefetch, wide_vectors
from xpnet_kernels.cpu.compilation import INNER, REDUCTION
from xpnet_kernels.cpu.exponential import exponential

CHUNK = 1024
_PIECE = 256
_LINE_BYTES = 64


@njit(**REDUCTION)
def maximum(z: Any) -> Any:
    """The largest element, NaN when there is one, -inf when there is nothing."""
    wide_vectors()
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
    """The position of the largest element, by NumPy's rules: the first of equals, the first NaN before all."""
    top, position = maximum(z[:CHUNK]), 0
    for start in range(CHUNK, z.size, CHUNK):
        chunk_top = maximum(z[start : start + CHUNK])
        if chunk_top > top or (np.isnan(chunk_top) and not np.isnan(top)):
            top, position = chunk_top, start
    return position + first_index(z[position : position + CHUNK], top)


@njit(**INNER)
def _exponentials_of(z: Any, reference: Any, out: Any) -> None:
    wide_vectors()
    for i in range(z.size):
        out[i] = exponential(z[i] - reference)


# A function of its own: called with one array twice, the other fails the compiled check for overlap, and runs a loop
# that is not vectorised.
@njit(**INNER)
def _exponentials_in_place(z: Any, reference: Any) -> None:
    wide_vectors()
    for i in range(z.size):
        z[i] = exponential(z[i] - reference)


@njit(**INNER)
def _exponentials(chunk: Any, top: Any, out: Any, in_place: bool) -> float:
    """``out = exp(chunk - top)`` and its sum; what follows the chunk in memory is fetched meanwhile."""
    reference = top if top != -np.inf else np.float32(0)  # -inf - -inf would be NaN
    for start in range(0, chunk.size, _PIECE):
        for i in range(start, start + _PIECE, _LINE_BYTES // chunk.itemsize):
            prefetch(chunk, CHUNK + i)
        if in_place:
            _exponentials_in_place(out[start : start + _PIECE], reference)
        else:
            piece = chunk[start : start + _PIECE]
            _exponentials_of(piece, reference, out[start : start + piece.size])
    return total(out[: chunk.size])  # a second pass costs less than float64 sums inside the first


@njit(**INNER)
def softmax_row(z: Any, out: Any, references: Any, scratch: Any, in_place: bool) -> tuple[Any, int, float]:
    """The largest logit, its position, and Σ exp(z - largest).

    ``out`` receives the exponentials against their chunk's element of ``references``. Where it is empty they are only
    summed; where ``in_place`` is true it is ``z``.
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
            sum_ += _exponentials(chunk, top, scratch, False)
    return top, position, sum_


@njit(**INNER)
def _scale(chunk: Any, factor: Any) -> None:
    wide_vectors()
    for i in range(chunk.size):
        chunk[i] *= factor


@njit(**INNER)
def scale_row(out: Any, references: Any, top: Any, factor: float) -> None:
    """Multiply the exponentials that :func:`softmax_row` left by ``factor``, and bring them to one reference."""
    for k in range(references.size):
        chunk = out[k * CHUNK : (k + 1) * CHUNK]
        chunk_factor = out.dtype.type(factor * math.exp(np.float64(references[k]) - np.float64(top)))
        _scale(chunk, chunk_factor)
