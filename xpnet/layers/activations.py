"""Activations as layers; after a Linear or Conv2d, the layer's ``activation`` argument can be fused instead."""

from __future__ import annotations

from xpnet import ops
from xpnet.backends import Array, Backend
from xpnet.context import Context
from xpnet.errors import finite_number
from xpnet.layers.layer import Layer


class _SavesOutput(Layer):
    """An activation whose derivative is computed from its output."""

    activation: str

    def forward(self, x: Array, context: Context) -> Array:
        """The function, element by element."""
        out = context.empty(self, "y", x.shape, x.dtype)
        y = ops.ACTIVATIONS[self.activation].forward(context.backend, x, out)
        if context.training:
            self.saved = y
        return y

    def backward(self, dy: Array, context: Context) -> Array:
        """dy times the derivative."""
        y = self.pop_saved()
        out = context.empty(self, "dx", y.shape, y.dtype)
        return ops.ACTIVATIONS[self.activation].backward(context.backend, dy, y, out)


class ReLU(_SavesOutput):
    """y = max(x, 0), any shape.

    >>> import xpnet
    >>> layer = ReLU().initialize(xpnet.backend("cpu-reference"))
    >>> layer(layer.backend.asarray([[-1.0, 2.0]]))
    array([[0., 2.]], dtype=float32)
    """

    activation = "relu"


class Sigmoid(_SavesOutput):
    """y = 1 / (1 + exp(-x)), any shape.

    >>> import xpnet
    >>> layer = Sigmoid().initialize(xpnet.backend("cpu-reference"))
    >>> layer(layer.backend.asarray([[0.0]]))
    array([[0.5]], dtype=float32)
    """

    activation = "sigmoid"


class Tanh(_SavesOutput):
    """y = tanh(x), any shape.

    >>> import xpnet
    >>> layer = Tanh().initialize(xpnet.backend("cpu-reference"))
    >>> layer(layer.backend.asarray([[0.0]]))
    array([[0.]], dtype=float32)
    """

    activation = "tanh"


class _SavesInput(Layer):
    """An activation whose derivative is computed from its input."""

    def forward(self, x: Array, context: Context) -> Array:
        """The function, element by element."""
        if context.training:
            self.saved = x
        return self._function(context.backend, x, context.empty(self, "y", x.shape, x.dtype))

    def backward(self, dy: Array, context: Context) -> Array:
        """dy times the derivative."""
        x = self.pop_saved()
        return self._derivative(context.backend, dy, x, context.empty(self, "dx", x.shape, x.dtype))

    def _function(self, backend: Backend, x: Array, out: Array | None) -> Array:
        raise NotImplementedError

    def _derivative(self, backend: Backend, dy: Array, x: Array, out: Array | None) -> Array:
        raise NotImplementedError


class GELU(_SavesInput):
    """y = x/2 (1 + tanh(sqrt(2/π) (x + 0.044715 x³))), any shape.

    Source: Hendrycks and Gimpel, "Gaussian error linear units (GELUs)", 2016, section 2, the tanh form.

    >>> import xpnet
    >>> layer = GELU().initialize(xpnet.backend("cpu-reference"))
    >>> layer(layer.backend.asarray([[-1000.0, 0.0, 1000.0]]))
    array([[   0.,    0., 1000.]], dtype=float32)
    """

    _function = staticmethod(ops.gelu)
    _derivative = staticmethod(ops.gelu_backward)


class LeakyReLU(_SavesInput):
    """y = x where x > 0, else negative_slope · x, any shape.

    Args:
        negative_slope: at least 0.

    Raises:
        ConfigurationError: a slope below 0.

    Source: Maas, Hannun and Ng, "Rectifier nonlinearities improve neural network acoustic models", 2013.

    >>> import xpnet
    >>> layer = LeakyReLU(0.5).initialize(xpnet.backend("cpu-reference"))
    >>> layer(layer.backend.asarray([[-1.0, 2.0]]))
    array([[-0.5,  2. ]], dtype=float32)
    """

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = finite_number("negative_slope", negative_slope, low=0.0)

    def _function(self, backend: Backend, x: Array, out: Array | None) -> Array:
        return ops.leaky_relu(backend, x, self.negative_slope, out)

    def _derivative(self, backend: Backend, dy: Array, x: Array, out: Array | None) -> Array:
        return ops.leaky_relu_backward(backend, dy, x, self.negative_slope, out)


class Softplus(_SavesInput):
    """y = log(1 + exp(x)), any shape: a smooth ReLU.

    Source: Glorot, Bordes and Bengio, "Deep sparse rectifier neural networks", 2011, section 2.

    >>> import xpnet
    >>> layer = Softplus().initialize(xpnet.backend("cpu-reference"))
    >>> layer(layer.backend.asarray([[-1000.0, 1000.0]]))
    array([[   0., 1000.]], dtype=float32)
    """

    _function = staticmethod(ops.softplus)
    _derivative = staticmethod(ops.softplus_backward)


class Softmax(Layer):
    """y[c] = exp(x[c]) / Σₖ exp(x[k]), over the last axis.

    To train a classifier, leave it out and use SoftmaxCrossEntropy on the logits, which is faster and more accurate.

    >>> import xpnet
    >>> layer = Softmax().initialize(xpnet.backend("cpu-reference"))
    >>> layer(layer.backend.asarray([[1.0, 1.0]]))
    array([[0.5, 0.5]], dtype=float32)
    """

    def forward(self, x: Array, context: Context) -> Array:
        """The probabilities."""
        y = ops.softmax(context.backend, x, context.empty(self, "y", x.shape, x.dtype))
        if context.training:
            self.saved = y
        return y

    def backward(self, dy: Array, context: Context) -> Array:
        """dx = y · (dy - Σₖ dy[k] y[k])."""
        y = self.pop_saved()
        return ops.softmax_backward(context.backend, dy, y, context.empty(self, "dx", y.shape, y.dtype))
