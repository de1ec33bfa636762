"""The dropout layer."""

from __future__ import annotations

from xpnet import ops, random
from xpnet.backends import Array
from xpnet.context import Context
from xpnet.errors import finite_number
from xpnet.layers.layer import Layer

_Drawn = tuple[tuple[int, int], int, Array | None]  # what a mask depends on: key, step, step on the device


class Dropout(Layer):
    """In training y = x / (1 - rate) with probability 1 - rate, else 0, element by element; in inference y = x.

    The mask depends only on the context's seed and step and on the layer's path in the model: it is the same on every
    backend and in a resumed run.

    Args:
        rate: the probability of dropping, from 0 to below 1.

    Raises:
        ConfigurationError: a rate outside that range.

    Source: Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", 2014, with the
    scaling at training time.

    >>> import xpnet
    >>> layer = Dropout(0.5).initialize(xpnet.backend("cpu-reference"))
    >>> x = layer.backend.asarray([[1.0, 2.0, 3.0, 4.0]])
    >>> layer.forward(x, xpnet.Context(layer.backend, training=True, seed=0))
    array([[0., 4., 6., 0.]])
    >>> layer(x)
    array([[1., 2., 3., 4.]], dtype=float32)
    """

    takes_bfloat16 = True

    def __init__(self, rate: float = 0.5) -> None:
        self.rate = finite_number("rate", rate, low=0.0, below=1.0)

    def forward(self, x: Array, context: Context) -> Array:
        """x masked and scaled in training; in inference x, copied unless the context reuses memory."""
        if not context.training:
            return x if context.reuse else context.backend.xp.asarray(x, copy=True)
        key = random.stream_key(context.seed, "dropout", self.path)
        self.saved = drawn = key, context.step, context.device_step
        return self._drop(x, drawn, context, "y")

    def backward(self, dy: Array, context: Context) -> Array:
        """dy with the mask and scale of x."""
        return self._drop(dy, self.pop_saved(), context, "dx")

    def _drop(self, x: Array, drawn: _Drawn, context: Context, name: str) -> Array:
        key, step, device_step = drawn
        out = context.empty(self, name, x.shape, x.dtype)
        return ops.dropout(context.backend, x, self.rate, key, step, out, device_step)
