"""The embedding layer."""

from __future__ import annotations

from xpnet import ops
from xpnet.backends import Array
from xpnet.context import Context
from xpnet.errors import positive_integer
from xpnet.initializers import Initializer, Normal
from xpnet.layers.layer import Layer, ParameterSpec
from xpnet.parameters import Shape


class Embedding(Layer):
    """y[n, t] = W[x[n, t]], with x (N, T) or (N,) integers in [0, vocabulary), W (vocabulary, features).

    It is the first layer of a model, which then takes integers without casting them.

    Args:
        vocabulary: the number of indices.
        features: the length of each vector.
        weights: initialiser of W.

    Raises:
        ConfigurationError: a size that is not an integer of at least 1.
        OutOfRangeError: in a pass, an index out of range; on an asynchronous backend its vector is NaN instead.
        DTypeError: in a pass, indices that are not integers.

    Source: Bengio, Ducharme, Vincent and Jauvin, "A neural probabilistic language model", 2003, section 2.

    >>> import xpnet
    >>> layer = Embedding(100, 8).initialize(xpnet.backend("cpu-reference"))
    >>> layer(layer.backend.asarray([[0, 99, 7], [1, 1, 1]])).shape
    (2, 3, 8)
    """

    takes_integers = True

    def __init__(self, vocabulary: int, features: int, weights: Initializer = Normal(1.0)) -> None:  # noqa: B008
        self.vocabulary = positive_integer("vocabulary", vocabulary)
        self.features = positive_integer("features", features)
        self.weights = weights

    def parameter_specs(self) -> dict[str, ParameterSpec]:
        """W."""
        return {"W": ParameterSpec((self.vocabulary, self.features), self.weights, self.vocabulary, self.features)}

    def output_shape(self, input_shape: Shape) -> Shape:
        """(*input_shape, features)."""
        return (*input_shape, self.features)

    def forward(self, x: Array, context: Context) -> Array:
        """The rows of W at the indices."""
        W = self.parameters["W"]
        out = context.empty(self, "y", (*x.shape, self.features), W.dtype)
        y = ops.embedding(context.backend, W, x, out)
        if context.training:
            self.saved = x
        return y

    def backward(self, dy: Array, context: Context) -> Array:
        """Zeros, since indices are not differentiable; writes dW into ``gradients``."""
        Embedding.backward_parameters(self, dy, context)  # a subclass's may call this method
        return context.backend.xp.zeros(dy.shape[:-1], dtype=dy.dtype, device=context.backend.device)

    def backward_parameters(self, dy: Array, context: Context) -> None:
        """dW only."""
        ops.embedding_backward(context.backend, dy, self.pop_saved(), self.gradients["W"])
