"""Image layouts: layers take and return (N, C, H, W), operations (N, H, W, C).

The matrix product of a convolution leaves the channels in the last axis. Layers therefore exchange permuted views,
which cost nothing, instead of copying into the other layout and back.
"""

from __future__ import annotations

from xpnet.backends import Array, Backend
from xpnet.errors import ShapeError
from xpnet.parameters import Shape


def channels_last(backend: Backend, x: Array) -> Array:
    """A view of (N, C, H, W) as (N, H, W, C)."""
    return backend.xp.permute_dims(x, (0, 2, 3, 1))


def channels_first(backend: Backend, x: Array) -> Array:
    """A view of (N, H, W, C) as (N, C, H, W)."""
    return backend.xp.permute_dims(x, (0, 3, 1, 2))


def require_image(layer: str, shape: Shape, channels: int | None = None) -> Shape:
    """``shape`` if it is (C, H, W) with the expected number of channels, else ShapeError."""
    if len(shape) == 3 and channels in (None, shape[0]) and min(shape) > 0:
        return tuple(shape)
    hint = ""
    if len(shape) == 2:
        hint = f"; put a Reshape([1, {shape[0]}, {shape[1]}]) in front of it"
    elif len(shape) == 3 and shape[2] == channels:
        hint = "; the channels come first"
    expected = "channels" if channels is None else channels
    raise ShapeError(f"{layer} takes samples of shape ({expected}, height, width), not {tuple(shape)}{hint}")
