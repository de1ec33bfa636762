"""Activations as layers of their own, where they follow something else than a Linear."""

from __future__ import annotations

from xpnet import ops
from xpnet.backends import Array
from xpnet.layers.context import Context
from xpnet.layers.layer import Layer


class _ElementWise(Layer):
    activation: str

    def forward(self, x: Array, context: Context) -> Array:
        """The function, element by element."""
        out = context.empty(self, "y", x.shape, x.dtype)
        y = ops.ACTIVATIONS[self.activation].forward(context.backend, x, out)
        if context.training:
            self._kept = y
        return y

    def backward(self, dy: Array, context: Context) -> Array:
        """dy times the derivative."""
        y = self._take_kept()
        out = context.empty(self, "dx", y.shape, y.dtype)
        return ops.ACTIVATIONS[self.activation].backward(context.backend, dy, y, out)


class ReLU(_ElementWise):
    """y = max(x, 0), any shape.

    >>> import xpnet
    >>> layer = ReLU().initialize(xpnet.backend("cpu-reference"))
    >>> layer(layer.backend.asarray([[-1.0, 2.0]]))
    array([[0., 2.]], dtype=float32)
    """

    activation = "relu"


class Sigmoid(_ElementWise):
    """y = 1 / (1 + exp(-x)), any shape.

    >>> import xpnet
    >>> layer = Sigmoid().initialize(xpnet.backend("cpu-reference"))
    >>> layer(layer.backend.asarray([[0.0]]))
    array([[0.5]], dtype=float32)
    """

    activation = "sigmoid"


class Tanh(_ElementWise):
    """y = tanh(x), any shape.

    >>> import xpnet
    >>> layer = Tanh().initialize(xpnet.backend("cpu-reference"))
    >>> layer(layer.backend.asarray([[0.0]]))
    array([[0.]], dtype=float32)
    """

    activation = "tanh"


class Softmax(Layer):
    """y[c] = exp(x[c]) / Σₖ exp(x[k]), over the last axis.

    For training, leave it out and use SoftmaxCrossEntropy on the logits: faster, and exact where this rounds to 0.

    >>> import xpnet
    >>> layer = Softmax().initialize(xpnet.backend("cpu-reference"))
    >>> layer(layer.backend.asarray([[1.0, 1.0]]))
    array([[0.5, 0.5]], dtype=float32)
    """

    def forward(self, x: Array, context: Context) -> Array:
        """The probabilities."""
        y = ops.softmax(context.backend, x, context.empty(self, "y", x.shape, x.dtype))
        if context.training:
            self._kept = y
        return y

    def backward(self, dy: Array, context: Context) -> Array:
        """dx = y · (dy - Σₖ dy[k] y[k])."""
        y = self._take_kept()
        return ops.softmax_backward(context.backend, dy, y, context.empty(self, "dx", y.shape, y.dtype))
