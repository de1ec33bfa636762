"""What an operation takes and gives: leading axes, and where a result goes."""

from __future__ import annotations

import math

from xpnet.backends import Array, Backend


def store(result: Array, out: Array | None) -> Array:
    """The result, in ``out`` when the caller gave one."""
    if out is None:
        return result
    out[...] = result
    return out


def as_rows(backend: Backend, x: Array) -> Array:
    """(N, features): all axes of x but the last as one; a view where the layout allows one."""
    return backend.reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))


def rows_of(backend: Backend, out: Array | None) -> Array | None:
    """The memory of ``out``, which must be C-contiguous, as rows."""
    if out is None:
        return None
    return backend.xp.reshape(out, (math.prod(out.shape[:-1]), out.shape[-1]), copy=False)
