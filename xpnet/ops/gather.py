"""Gathering the rows of a batch."""

from __future__ import annotations

import math
from collections.abc import Callable

from xpnet.backends import Array, Backend
from xpnet.ops.outputs import store


def gather(
    backend: Backend,
    rows: Array,
    indices: Array,
    divisor: float = 1.0,
    dtype: str = "float32",
    out: Array | None = None,
) -> Array:
    """out[i] = rows[indices[i]] / divisor: gathers a batch and rescales it, such as bytes to [0, 1], in one pass.

    It divides, because multiplying by the float32 reciprocal of 255 gives other bits for 126 of 256 byte values.

    Args:
        backend: where the arrays live.
        rows: (M, ...), any real type; uint8 images stay uint8 on the device.
        indices: (N,) integers in [0, M), repeats allowed.
        divisor: what to divide by.
        dtype: floating-point type of the result.
        out: (N, ...), receives the batch when given.

    Raises:
        OutOfRangeError: an index outside [0, M); the message names its position. On an asynchronous backend its row
            of the batch is NaN instead.
        DTypeError: indices that are not integers.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> gather(cpu, cpu.asarray([[0, 255], [51, 102]], "uint8"), cpu.asarray([1, 0]), 255.0)
    array([[0.2, 0.4],
           [0. , 1. ]], dtype=float32)
    """
    fused = backend.kernel("gather", *(() if out is None else (out,)))
    if fused is not None and rows.dtype == backend.xp.uint8:
        return _fused(backend, fused, rows, indices, divisor, dtype, out)
    return store(backend.take(rows, indices, dtype) / divisor, out)


def _fused(
    backend: Backend,
    fused: Callable[..., None],
    rows: Array,
    indices: Array,
    divisor: float,
    dtype: str,
    out: Array | None,
) -> Array:
    xp, count = backend.xp, indices.shape[0]
    if out is None:
        out = xp.empty((count, *rows.shape[1:]), dtype=getattr(xp, dtype), device=backend.device)
    flat, flat_out = rows, out
    if rows.ndim != 2:
        features = math.prod(rows.shape[1:])
        flat, flat_out = rows.reshape(rows.shape[0], features), out.reshape(count, features)
    try:
        fused(flat, indices, float(divisor), flat_out)
    except (IndexError, TypeError):
        backend.require_integers(indices, "row indices")
        backend.require_in_range(indices, rows.shape[0], "row index")
        raise
    return out
