"""The fully connected layer."""

from __future__ import annotations

from xpnet import ops
from xpnet.backends import Array
from xpnet.context import Context
from xpnet.errors import ShapeError, one_of, positive_integer
from xpnet.initializers import FanInUniform, Initializer
from xpnet.layers.layer import Layer, ParameterSpec
from xpnet.parameters import Shape


class Linear(Layer):
    """y = a(x W + b), with x (N, inputs), W (inputs, outputs), b (outputs,), y (N, outputs).

    Args:
        inputs: features of a sample.
        outputs: units.
        activation: "relu", "sigmoid", "tanh" or None (the identity). Given here rather than as a layer of its own,
            it can be fused with the sum.
        weights: initialiser of W.
        biases: initialiser of b.

    Raises:
        ConfigurationError: no inputs or outputs, or an unknown activation.
        ShapeError: samples of another shape than (inputs,).

    Source: the "Affine" layer of Saito, "Deep Learning from Scratch", 2016, section 5.6.

    >>> import xpnet
    >>> layer = Linear(3, 2, activation="relu").initialize(xpnet.backend("cpu-reference"), seed=0)
    >>> layer(layer.backend.asarray([[1.0, 2.0, 3.0]])).shape
    (1, 2)
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        activation: str | None = None,
        weights: Initializer = FanInUniform(),  # noqa: B008 - initialisers hold no state
        biases: Initializer = FanInUniform(),  # noqa: B008
    ) -> None:
        self.inputs = positive_integer("inputs", inputs)
        self.outputs = positive_integer("outputs", outputs)
        self.activation = None if activation is None else one_of("activation", activation, ops.ACTIVATIONS)
        self.weights = weights
        self.biases = biases

    def parameter_specs(self) -> dict[str, ParameterSpec]:
        """W and b."""
        return {
            "W": ParameterSpec((self.inputs, self.outputs), self.weights, self.inputs, self.outputs),
            "b": ParameterSpec((self.outputs,), self.biases, self.inputs, self.outputs),
        }

    def output_shape(self, input_shape: Shape) -> Shape:
        """(outputs,)."""
        if tuple(input_shape) != (self.inputs,):
            flatten = "; put a Flatten() in front of it" if len(input_shape) > 1 else ""
            raise ShapeError(
                f"Linear({self.inputs}, {self.outputs}) takes samples of shape ({self.inputs},), not "
                f"{tuple(input_shape)}{flatten}"
            )
        return (self.outputs,)

    def flops(self, input_shape: Shape) -> int:
        """2 · inputs · outputs."""
        self.output_shape(input_shape)
        return 2 * self.inputs * self.outputs

    def forward(self, x: Array, context: Context) -> Array:
        """y = a(x W + b)."""
        self.output_shape(x.shape[1:])
        W, b = self.parameters["W"], self.parameters["b"]
        out = context.empty(self, "y", (x.shape[0], self.outputs), x.dtype)
        y = ops.linear(context.backend, x, W, b, self.activation, out)
        if context.training:
            self.saved = x, y
        return y

    def backward(self, dy: Array, context: Context) -> Array:
        """dx, with dW and db left in ``gradients``."""
        return self._backward(dy, context, input_gradient=True)

    def backward_parameters(self, dy: Array, context: Context) -> None:
        """dW and db alone: saves one of the three matrix products."""
        self._backward(dy, context, input_gradient=False)

    def _backward(self, dy: Array, context: Context, input_gradient: bool) -> Array | None:
        x, y = self.pop_saved()
        out = context.empty(self, "dx", x.shape, x.dtype) if input_gradient else None
        dz = None if self.activation is None else context.empty(self, "dz", y.shape, y.dtype)
        W, dW, db = self.parameters["W"], self.gradients["W"], self.gradients["b"]
        return ops.linear_backward(
            context.backend, dy, x, y, W, self.activation, dW, db, input_gradient=input_gradient, out=out, dz=dz
        )
