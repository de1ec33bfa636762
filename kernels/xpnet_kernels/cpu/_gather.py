"""Gathering a batch: rows selected by index, and divided by a number, in one pass, and their labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from xpnet_kernels.cpu.checks.arguments import check_apart, check_input, check_integers, check_kind, check_output
from xpnet_kernels.cpu.checks.compiled import apart, rows_fit
from xpnet_kernels.cpu.numba_extensions.array_arguments import ArgumentMismatchError
from xpnet_kernels.cpu.numba_extensions.array_intrinsics import prefer_512_bit_vectors, prefetch, row
from xpnet_kernels.cpu.numba_extensions.callbacks import callback
from xpnet_kernels.cpu.numba_extensions.compilation import INNER, InBytes, InIntegers, OutIntegers, OutMatrix, kernel
from xpnet_kernels.cpu.threads.scheduler import INVALID_ARGUMENTS, block_length, block_range, parallel_for
from xpnet_kernels.cpu.threads.team import TEAM

_UINT8, _INT64, _SINGLE = np.dtype(np.uint8), np.dtype(np.int64), np.dtype(np.float32)

_WORK = 8  # of an element, in multiplications of a matrix product that take as long
_MIN_ELEMENTS, _MAX_ELEMENTS = 2**13, 2**17  # of a block
_LINE_BYTES = 64
_AHEAD = 4  # rows to prefetch, since the hardware cannot predict indexed rows


def gather(
    rows: np.ndarray,
    indices: np.ndarray,
    divisor: float,
    out: np.ndarray,
    *,
    labels: np.ndarray | None = None,
    labels_out: np.ndarray | None = None,
    error: np.ndarray | None = None,
    step: np.ndarray | None = None,
    steps_per_epoch: int = 1,
    batch_size: int = 0,
) -> None:
    """``out[i] = rows[indices[i]] / divisor``, bit for bit the true quotient; ``labels_out[i] = labels[indices[i]]``.

    Args:
        rows: (M, D) uint8.
        indices: (N,) integers in [0, M).
        divisor: a number, such as 255 for pixels.
        out: (N, D) float32 or float64, output.
        labels: (M,) integers.
        labels_out: (N,) of the labels' type, output.
        error: (1,) int64, output, set to -1 (the CUDA kernel's way to report a bad index).
        step: (1,) int64, s: ``indices`` is then the order of a whole epoch, and the place of the batch in it begins at
            (s mod 2**32 mod ``steps_per_epoch``) · ``batch_size``.
        steps_per_epoch: from 1 to below 2**32.
        batch_size: the distance between batches.

    Raises:
        IndexError: an index is outside [0, M); nothing is written.
        TypeError, ValueError: an array of a wrong type, shape or layout.

    >>> import numpy as np
    >>> out = np.empty((2, 2))
    >>> gather(np.array([[0, 51], [102, 255]], np.uint8), np.array([1, 0]), 255, out)
    >>> out
    array([[0.4, 1. ],
           [0. , 0.2]])
    """
    if step is not None:
        start = int(step[0]) % 2**32 % steps_per_epoch * batch_size
        indices = indices[start : start + len(out)]
    if labels is not None:
        check_integers("labels", labels, np.shape(rows)[:1])
        check_output("labels_out", labels_out, labels.dtype, np.shape(indices))
    if not _fused_gather(rows, indices, divisor, out, error):
        _checked_gather(rows, indices, divisor, out, error)
    if labels is not None:
        labels_out[...] = labels[indices]


def _checked_gather(
    rows: np.ndarray, indices: np.ndarray, divisor: float, out: np.ndarray, error: np.ndarray | None
) -> None:
    """Gather arrays of any layout, or raise with the reason."""
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


def _fused_gather(
    rows: np.ndarray, indices: np.ndarray, divisor: float, out: np.ndarray, error: np.ndarray | None
) -> bool:
    """Check and gather a float32 batch in one compiled call, or write nothing and return false."""
    if error is not None or type(out) is not np.ndarray or out.dtype != _SINGLE:
        return False
    compiled = _check_and_gather[_SINGLE]
    try:
        return TEAM.run(_WORK * out.size, compiled, rows, indices, float(divisor), out)
    except ArgumentMismatchError:
        return False


@njit(**INNER)
def _is_exact(divisor: Any, reciprocal: Any) -> bool:
    """Whether :func:`_divide` gives the true quotient of every byte."""
    zero, exact = divisor - divisor, True
    for byte in range(256):
        x = zero + np.float32(byte)  # of the divisor's type
        exact &= _divide(x, divisor, reciprocal) == x / divisor
    return exact


@njit(**INNER)
def _divide(x: Any, divisor: Any, reciprocal: Any) -> Any:
    """x / divisor as a product with the reciprocal, corrected by its remainder: two fused multiply-adds."""
    quotient = x * reciprocal
    return quotient + (x - quotient * divisor) * reciprocal


@njit(**INNER)
def _divide_row(source: Any, divisor: Any, reciprocal: Any, exact: bool, target: Any) -> None:
    prefer_512_bit_vectors()
    real = target.dtype.type
    if exact:
        for c in range(target.size):
            target[c] = _divide(real(source[c]), divisor, reciprocal)
    else:
        for c in range(target.size):
            target[c] = real(source[c]) / divisor


@njit(**INNER)
def _gather_block(
    rows: Any, indices: Any, divisor: Any, reciprocal: Any, exact: bool, out: Any, step: int, block: int
) -> None:
    first, last = block_range(indices.size, step, block)
    for i in range(first, last):
        ahead = row(rows, indices[min(i + _AHEAD, last - 1)])
        for line in range(0, ahead.size, _LINE_BYTES):
            prefetch(ahead, line)
        _divide_row(row(rows, indices[i]), divisor, reciprocal, exact, row(out, i))


_BLOCK = callback(_gather_block)


@kernel
def _check_and_gather(team: OutIntegers, rows: InBytes, indices: InIntegers, divisor: float, out: OutMatrix) -> int:
    count, columns = out.shape
    if not (
        rows_fit(rows, rows.shape[0], columns) and rows_fit(out, count, columns) and indices.size == count
        and apart(out, rows) and apart(out, indices)
    ):  # fmt: skip
        return INVALID_ARGUMENTS
    return _check_indices_and_gather(team, rows, indices, divisor, out)


@kernel
def _gather(team: OutIntegers, rows: InBytes, indices: InIntegers, divisor: float, out: OutMatrix) -> int:
    return _check_indices_and_gather(team, rows, indices, divisor, out)


@njit(**INNER)
def _check_indices_and_gather(team: Any, rows: Any, indices: Any, divisor: float, out: Any) -> int:
    for i in range(indices.size):
        if indices[i] < 0 or indices[i] >= rows.shape[0]:
            return INVALID_ARGUMENTS
    real = out.dtype.type
    cast_divisor, reciprocal = real(divisor), real(1) / real(divisor)
    exact = cast_divisor > 0 and _is_exact(
        cast_divisor, reciprocal
    )  # a negative divisor would change the sign of zeros
    columns = max(out.shape[1], 1)
    step = block_length(team, indices.size, -(-_MIN_ELEMENTS // columns), -(-_MAX_ELEMENTS // columns))
    return parallel_for(
        team, _BLOCK((rows, indices, cast_divisor, reciprocal, exact, out, step)), -(-indices.size // step)
    )
