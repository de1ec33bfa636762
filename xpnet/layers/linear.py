"""The fully connected layer."""

from __future__ import annotations

import math

from xpnet import ops
from xpnet.backends import Array
from xpnet.context import Context
from xpnet.errors import ShapeError, boolean, one_of, positive_integer
from xpnet.initializers import FanInUniform, Initializer
from xpnet.layers.layer import Layer, ParameterSpec
from xpnet.parameters import Shape


class Linear(Layer):
    """y = a(x W + b), with x (N, …, inputs), W (inputs, outputs), b (outputs,), y (N, …, outputs).

    It works on the last axis of samples with several, such as sequences (T, inputs); images need a
    :class:`~xpnet.Flatten` before it.

    Args:
        inputs: features of a sample.
        outputs: units.
        activation: "relu", "sigmoid", "tanh" or None (the identity). Given here rather than as a layer of its own,
            it can be fused with the addition of b.
        weights: initialiser of W.
        biases: initialiser of b.
        bias: whether to add b.

    Raises:
        ConfigurationError: no inputs or outputs, an unknown activation, or a ``bias`` that is neither true nor false.
        ShapeError: samples whose last axis does not have length ``inputs``.

    Source: the "Affine" layer of Saito, "Deep Learning from Scratch", 2016, section 5.6.

    >>> import xpnet
    >>> layer = Linear(3, 2, activation="relu").initialize(xpnet.backend("cpu-reference"), seed=0)
    >>> layer(layer.backend.asarray([[1.0, 2.0, 3.0]])).shape
    (1, 2)
    """

    takes_bfloat16 = True

    def __init__(
        self,
        inputs: int,
        outputs: int,
        activation: str | None = None,
        weights: Initializer = FanInUniform(),  # noqa: B008 - initialisers hold no state
        biases: Initializer = FanInUniform(),  # noqa: B008
        bias: bool = True,
    ) -> None:
        self.inputs = positive_integer("inputs", inputs)
        self.outputs = positive_integer("outputs", outputs)
        self.activation = None if activation is None else one_of("activation", activation, ops.ACTIVATIONS)
        self.weights = weights
        self.biases = biases
        self.bias = boolean("bias", bias)

    def parameter_specs(self) -> dict[str, ParameterSpec]:
        """W and, with a bias, b."""
        specs = {"W": ParameterSpec((self.inputs, self.outputs), self.weights, self.inputs, self.outputs)}
        if self.bias:
            specs["b"] = ParameterSpec((self.outputs,), self.biases, self.inputs, self.outputs)
        return specs

    def output_shape(self, input_shape: Shape) -> Shape:
        """(…, outputs)."""
        if not input_shape or input_shape[-1] != self.inputs:
            several = len(input_shape) > 1
            raise ShapeError(
                f"Linear({self.inputs}, {self.outputs}) takes samples of shape ({'..., ' if several else ''}"
                f"{self.inputs}{')' if several else ',)'}, not {tuple(input_shape)}"
                f"{'; put a Flatten() in front of it' if several else ''}"
            )
        return (*input_shape[:-1], self.outputs)

    @property
    def _known_shape(self) -> Shape:
        return (self.inputs,)

    def flops(self, input_shape: Shape) -> int:
        """2 · inputs · outputs for each position of a sample's leading axes."""
        self.output_shape(input_shape)
        return 2 * self.inputs * self.outputs * math.prod(input_shape[:-1])

    def forward(self, x: Array, context: Context) -> Array:
        """y = a(x W + b)."""
        shape = x.shape
        if shape[-1] != self.inputs or len(shape) == 1:
            self.output_shape(shape[1:])  # raises
        W, b = self.parameters["W"], self.parameters["b"] if self.bias else None
        if context.backend.activation_dtype is not None:
            narrowed = context.backend.narrowed
            x, W, b = narrowed(x), narrowed(W), None if b is None else narrowed(b)
        out = context.empty(self, "y", (*shape[:-1], self.outputs), x.dtype)
        y = ops.linear(context.backend, x, W, b, self.activation, out)
        if context.training:
            self.saved = x, y, W
        return y

    def backward(self, dy: Array, context: Context) -> Array:
        """dx; writes dW and db into ``gradients``."""
        return self._backward(dy, context, input_gradient=True)

    def backward_parameters(self, dy: Array, context: Context) -> None:
        """dW and db only, without the matrix product for dx."""
        self._backward(dy, context, input_gradient=False)

    def _backward(self, dy: Array, context: Context, input_gradient: bool) -> Array | None:
        x, y, W = self.pop_saved()
        if context.backend.activation_dtype is not None:
            dy = context.backend.narrowed(dy)  # the gradient of a loss in float32
        out = context.empty(self, "dx", x.shape, x.dtype) if input_gradient else None
        dz = None if self.activation is None else context.empty(self, "dz", y.shape, y.dtype)
        dW, db = self.gradients["W"], self.gradients["b"] if self.bias else None
        return ops.linear_backward(
            context.backend, dy, x, y, W, self.activation, dW, db, input_gradient=input_gradient, out=out, dz=dz
        )
