"""From images to vectors."""

from __future__ import annotations

import math

from xpnet.backends import Array
from xpnet.layers.context import Context
from xpnet.layers.layer import Layer
from xpnet.parameters import Shape


class Flatten(Layer):
    """(N, a, b, …) becomes (N, a·b·…), in C order; vectors stay as they are.

    >>> import xpnet
    >>> layer = Flatten().initialize(xpnet.backend("cpu-reference"))
    >>> layer(layer.backend.xp.zeros((2, 28, 28))).shape
    (2, 784)
    """

    def output_shape(self, input_shape: Shape) -> Shape:
        """(a·b·…,)."""
        return (math.prod(input_shape),)

    def forward(self, x: Array, context: Context) -> Array:
        """A copy; under a context that reuses its memory a view, where the layout allows one."""
        if context.training:
            self._kept = x.shape
        shape = (x.shape[0], *self.output_shape(x.shape[1:]))
        return context.backend.xp.reshape(x, shape, copy=None if context.reuse else True)

    def backward(self, dy: Array, context: Context) -> Array:
        """dy in the shape of x."""
        return context.backend.xp.reshape(dy, self._take_kept())
