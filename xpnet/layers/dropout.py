"""Dropout: in training, some of the units are left out."""

from __future__ import annotations

from xpnet import ops, random
from xpnet.backends import Array
from xpnet.context import Context
from xpnet.errors import finite_number
from xpnet.layers.layer import Layer


class Dropout(Layer):
    """In training y = x / (1 - rate) with probability 1 - rate, else 0, element by element; in inference y = x.

    Which elements are dropped follows from the context's seed and step and from the layer's place in the model alone:
    the same ones on every backend, and again in a run that is resumed.

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

    def __init__(self, rate: float = 0.5) -> None:
        self.rate = finite_number("rate", rate, low=0.0, below=1.0)

    def forward(self, x: Array, context: Context) -> Array:
        """In training the elements that are kept, scaled; in inference x (a copy, where it could be the user's)."""
        if not context.training:
            return x if context.reuse else context.backend.xp.asarray(x, copy=True)
        key = random.stream_key(context.seed, "dropout", self.path)
        self.saved = key, context.step
        return self._drop(x, key, context.step, context, "y")

    def backward(self, dy: Array, context: Context) -> Array:
        """dy, dropped and scaled like x."""
        key, step = self.pop_saved()
        return self._drop(dy, key, step, context, "dx")

    def _drop(self, x: Array, key: tuple[int, int], step: int, context: Context, name: str) -> Array:
        out = context.empty(self, name, x.shape, x.dtype)
        return ops.dropout(context.backend, x, self.rate, key, step, out)
