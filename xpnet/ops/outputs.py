"""Where an operation's result goes."""

from __future__ import annotations

from xpnet.backends import Array


def store(result: Array, out: Array | None) -> Array:
    """The result, in ``out`` when the caller gave one."""
    if out is None:
        return result
    out[...] = result
    return out
