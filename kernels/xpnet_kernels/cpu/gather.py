"""A batch of images: rows picked by index, and divided by the pixel range, in one pass."""

from __future__ import annotations

import numpy as np

from xpnet_kernels.cpu.arrays import row
from xpnet_kernels.cpu.checks import check_input, check_integers, check_kind, check_output
from xpnet_kernels.cpu.compilation import InBytes, InIntegers, OutMatrix, kernel
from xpnet_kernels.cpu.pool import over_rows

_UINT8, _INT64 = np.dtype(np.uint8), np.dtype(np.int64)


def take_rows(
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
    >>> take_rows(np.array([[0, 51], [102, 255]], np.uint8), np.array([1, 0]), 255, out)
    >>> out
    array([[0.4, 1. ],
           [0. , 0.2]])
    """
    check_kind("out", out, 2)
    if getattr(rows, "ndim", None) != 2:
        raise ValueError(f"rows must be a matrix, not {type(rows).__name__} of shape {np.shape(rows)}")
    check_input("rows", rows, _UINT8, rows.shape)
    check_integers("indices", indices, np.shape(indices)[:1])
    check_output("out", out, out.dtype, (indices.shape[0], rows.shape[1]))
    if error is not None:
        check_output("error", error, _INT64, (1,))
    positions = np.ascontiguousarray(indices, np.int64)
    bad = _first_bad[out.dtype](positions, rows.shape[0])
    if bad >= 0:
        raise IndexError(
            f"indices[{bad}] is {indices[bad]}, but there are {len(rows)} rows: indices are 0 to {len(rows) - 1}"
        )
    compiled = _take_rows[out.dtype]
    over_rows(lambda first, last: compiled(rows, positions, float(divisor), out, first, last), *out.shape)
    if error is not None:
        error[0] = -1


@kernel
def _first_bad(indices: InIntegers, rows: int) -> int:
    for i in range(indices.size):
        if indices[i] < 0 or indices[i] >= rows:
            return i
    return -1


@kernel
def _take_rows(rows: InBytes, indices: InIntegers, divisor: float, out: OutMatrix, first: int, last: int) -> None:
    real = out.dtype.type
    pixel_range = real(divisor)
    for i in range(first, last):
        source, target = row(rows, indices[i]), row(out, i)
        for c in range(target.size):
            target[c] = real(source[c]) / pixel_range
