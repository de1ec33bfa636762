"""Helpers for the ``out`` argument of operations and for leading axes."""

from __future__ import annotations

import math

from xpnet.backends import Array, Backend


def store(result: Array, out: Array | None) -> Array:
    """The result, written into ``out`` if one is given."""
    if out is None:
        return result
    out[...] = result
    return out


def as_rows(backend: Backend, x: Array) -> Array:
    """x as (N, features), its leading axes flattened; a view where the layout allows one."""
    return backend.reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))


def view_as_rows(backend: Backend, out: Array | None) -> Array | None:
    """A view of ``out``, which must be C-contiguous, with its leading axes flattened."""
    if out is None:
        return None
    return backend.xp.reshape(out, (math.prod(out.shape[:-1]), out.shape[-1]), copy=False)
