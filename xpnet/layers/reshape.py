"""Layers that reshape samples."""

from __future__ import annotations

import math
from collections.abc import Sequence

from xpnet.backends import Array
from xpnet.context import Context
from xpnet.errors import ConfigurationError, ShapeError, positive_integer
from xpnet.layers.layer import Layer
from xpnet.parameters import Shape


class _Reshaping(Layer):
    takes_bfloat16 = True

    def forward(self, x: Array, context: Context) -> Array:
        """x reshaped: a copy, or, if the context reuses memory, a view where the layout allows one."""
        shape = (x.shape[0], *self.output_shape(x.shape[1:]))
        if context.training:
            self.saved = x.shape
        backend = context.backend
        return backend.reshape(x, shape) if context.reuse else backend.xp.reshape(x, shape, copy=True)

    def backward(self, dy: Array, context: Context) -> Array:
        """dy in the shape of x."""
        return context.backend.reshape(dy, self.pop_saved())


class Flatten(_Reshaping):
    """(N, a, b, …) becomes (N, a·b·…), in C order; vectors stay as they are.

    >>> import xpnet
    >>> layer = Flatten().initialize(xpnet.backend("cpu-reference"))
    >>> layer(layer.backend.xp.zeros((2, 28, 28))).shape
    (2, 784)
    """

    def output_shape(self, input_shape: Shape) -> Shape:
        """(a·b·…,)."""
        return (math.prod(input_shape),)


class Reshape(_Reshaping):
    """(N, a, b, …) becomes (N, \\*shape), in C order, such as grey images (N, H, W) with a channel axis, (N, 1, H, W).

    Args:
        shape: of one sample.

    Raises:
        ConfigurationError: ``shape`` is not a list of integers of at least 1.
        ShapeError: samples with another number of elements.

    >>> import xpnet
    >>> layer = Reshape([1, 28, 28]).initialize(xpnet.backend("cpu-reference"))
    >>> layer(layer.backend.xp.zeros((2, 28, 28))).shape
    (2, 1, 28, 28)
    """

    def __init__(self, shape: Sequence[int]) -> None:
        if not isinstance(shape, (list, tuple)) or not shape:
            raise ConfigurationError(f"shape must be a list of whole numbers, such as [1, 28, 28], not {shape!r}")
        self.shape = [positive_integer(f"shape[{axis}]", length) for axis, length in enumerate(shape)]

    @property
    def _known_shape(self) -> Shape:
        return tuple(self.shape)

    def output_shape(self, input_shape: Shape) -> Shape:
        """``shape``."""
        if math.prod(input_shape) != math.prod(self.shape):
            raise ShapeError(
                f"Reshape({self.shape}) takes samples of {math.prod(self.shape)} numbers, but one of shape "
                f"{tuple(input_shape)} has {math.prod(input_shape)}"
            )
        return tuple(self.shape)
