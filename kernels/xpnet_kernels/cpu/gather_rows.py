"""A batch of images: rows picked by index, and divided by the pixel range, in one pass."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from xpnet_kernels.cpu.arguments import UnfitError
from xpnet_kernels.cpu.arrays import prefetch, row, wide_vectors
from xpnet_kernels.cpu.checks import check_apart, check_input, check_integers, check_kind, check_output
from xpnet_kernels.cpu.compilation import INNER, InBytes, InIntegers, OutIntegers, OutMatrix, kernel
from xpnet_kernels.cpu.compiled_checks import apart, rows_fit
from xpnet_kernels.cpu.outlining import outlined
from xpnet_kernels.cpu.sharing import DECLINED, block_of, share, stripe
from xpnet_kernels.cpu.team import TEAM

_UINT8, _INT64, _SINGLE = np.dtype(np.uint8), np.dtype(np.int64), np.dtype(np.float32)

_WORK = 8  # of an element, in multiplications of a product
_LEAST_ELEMENTS, _MOST_ELEMENTS = 2**13, 2**17  # of a block
_LINE_BYTES = 64
_AHEAD = 4  # rows that are fetched before their turn: where they lie, only the indices tell


def gather(
    rows: np.ndarray, indices: np.ndarray, divisor: float, out: np.ndarray, *, error: np.ndarray | None = None
) -> None:
    """``out[i] = rows[indices[i]] / divisor``: true divisions, which a product with the reciprocal would not match.

    Args:
        rows: (M, D) uint8.
        indices: (N,) integers in [0, M).
        divisor: the pixel range.
        out: (N, D) float32 or float64, output.
        error: (1,) int64, output, set to -1 (the CUDA kernel's way to report a bad index).

    Raises:
        IndexError: an index is outside; nothing is written.

    >>> import numpy as np
    >>> out = np.empty((2, 2))
    >>> gather(np.array([[0, 51], [102, 255]], np.uint8), np.array([1, 0]), 255, out)
    >>> out
    array([[0.4, 1. ],
           [0. , 0.2]])
    """
    if _at_once(rows, indices, divisor, out, error):
        return
    check_kind("out", out, 2)
    if getattr(rows, "ndim", None) != 2:
        raise ValueError(f"rows must be a matrix, not {type(rows).__name__} of shape {np.shape(rows)}")
    check_input("rows", rows, _UINT8, rows.shape)
    check_integers("indices", indices, (np.size(indices),))
    check_output("out", out, out.dtype, (indices.size, rows.shape[1]))
    check_apart("out", out, "rows", rows)
    check_apart("out", out, "indices", indices)
    if error is not None:
        check_output("error", error, _INT64, (1,))
    positions = np.ascontiguousarray(indices, np.int64)
    if not TEAM.run(_WORK * out.size, _gather[out.dtype], rows, positions, float(divisor), out):
        bad = int(np.argmax((positions < 0) | (positions >= len(rows))))
        raise IndexError(
            f"indices[{bad}] is {indices[bad]}, but there are {len(rows)} rows: indices are 0 to {len(rows) - 1}"
        )
    if error is not None:
        error[0] = -1


def _at_once(rows: np.ndarray, indices: np.ndarray, divisor: float, out: np.ndarray, error: np.ndarray | None) -> bool:
    """Serve a batch of float32 in one compiled call, which checks what it is given, or write nothing: false."""
    if error is not None or type(out) is not np.ndarray or out.dtype != _SINGLE:
        return False
    compiled = _gather_at_once[_SINGLE]
    try:
        return TEAM.run(_WORK * out.size, compiled, rows, indices, float(divisor), out)
    except UnfitError:
        return False


@njit(**INNER)
def _is_exact(divisor: Any, reciprocal: Any) -> bool:
    """Whether :func:`_divide` gives the quotient of every byte as a division does."""
    zero, exact = divisor - divisor, True
    for byte in range(256):
        x = zero + np.float32(byte)  # in the divisor's type
        exact &= _divide(x, divisor, reciprocal) == x / divisor
    return exact


@njit(**INNER)
def _divide(x: Any, divisor: Any, reciprocal: Any) -> Any:
    """x / divisor by a product, and a correction from what it leaves: two fused operations."""
    quotient = x * reciprocal
    return quotient + (x - quotient * divisor) * reciprocal


@njit(**INNER)
def _take_row(source: Any, divisor: Any, reciprocal: Any, exact: bool, target: Any) -> None:
    wide_vectors()
    real = target.dtype.type
    if exact:
        for c in range(target.size):
            target[c] = _divide(real(source[c]), divisor, reciprocal)
    else:
        for c in range(target.size):
            target[c] = real(source[c]) / divisor


@njit(**INNER)
def _take_block(
    rows: Any, indices: Any, pixel_range: Any, reciprocal: Any, exact: bool, out: Any, step: int, block: int
) -> None:
    first, last = block_of(indices.size, step, block)
    for i in range(first, last):
        ahead = row(rows, indices[min(i + _AHEAD, last - 1)])
        for line in range(0, ahead.size, _LINE_BYTES):
            prefetch(ahead, line)
        _take_row(row(rows, indices[i]), pixel_range, reciprocal, exact, row(out, i))


_BLOCK = outlined(_take_block)


@kernel
def _gather_at_once(words: OutIntegers, rows: InBytes, indices: InIntegers, divisor: float, out: OutMatrix) -> int:
    count, columns = out.shape
    if not (
        rows_fit(rows, rows.shape[0], columns) and rows_fit(out, count, columns) and indices.size == count
        and apart(out, rows) and apart(out, indices)
    ):  # fmt: skip
        return DECLINED
    return _serve(words, rows, indices, divisor, out)


@kernel
def _gather(words: OutIntegers, rows: InBytes, indices: InIntegers, divisor: float, out: OutMatrix) -> int:
    return _serve(words, rows, indices, divisor, out)


@njit(**INNER)
def _serve(words: Any, rows: Any, indices: Any, divisor: float, out: Any) -> int:
    for i in range(indices.size):
        if indices[i] < 0 or indices[i] >= rows.shape[0]:
            return DECLINED
    real = out.dtype.type
    pixel_range, reciprocal = real(divisor), real(1) / real(divisor)
    exact = pixel_range > 0 and _is_exact(pixel_range, reciprocal)  # what is negative makes zeros negative
    columns = max(out.shape[1], 1)
    step = stripe(words, indices.size, -(-_LEAST_ELEMENTS // columns), -(-_MOST_ELEMENTS // columns))
    return share(words, _BLOCK((rows, indices, pixel_range, reciprocal, exact, out, step)), -(-indices.size // step))
