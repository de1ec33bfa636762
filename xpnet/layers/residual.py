"""Residual connections."""

from __future__ import annotations

from xpnet.backends import Array
from xpnet.context import Context
from xpnet.errors import ShapeError
from xpnet.layers.sequential import Sequential
from xpnet.ops.outputs import store
from xpnet.parameters import Shape


class Residual(Sequential):
    """y = x + fₙ(… f₂(f₁(x))).

    Args:
        layers: at least one, named as in a Sequential; their output has the shape of their input.

    Raises:
        ConfigurationError: as for a Sequential.
        ShapeError: the layers change the shape.

    Source: He, Zhang, Ren and Sun, "Deep residual learning for image recognition", 2016, equation 1.

    >>> import xpnet
    >>> block = Residual(xpnet.Linear(4, 8, "relu"), xpnet.Linear(8, 4))
    >>> model = xpnet.Sequential(xpnet.Linear(3, 4), block).initialize(xpnet.backend("cpu-reference"))
    >>> model.output_shape((3,)), list(model.parameters)[2:]
    ((4,), ['1.0.W', '1.0.b', '1.1.W', '1.1.b'])
    """

    def output_shape(self, input_shape: Shape) -> Shape:
        """``input_shape``."""
        self._require_same_shape(input_shape, super().output_shape(input_shape))
        return input_shape

    def forward(self, x: Array, context: Context) -> Array:
        """x plus the output of the layers."""
        y = super().forward(x, context)
        self._require_same_shape(x.shape[1:], y.shape[1:])  # the sum would broadcast other shapes
        return store(x + y, context.empty(self, "y", x.shape, x.dtype))

    def backward(self, dy: Array, context: Context) -> Array:
        """dy plus the gradient through the layers."""
        return store(dy + super().backward(dy, context), context.empty(self, "dx", dy.shape, dy.dtype))

    def _require_same_shape(self, input_shape: Shape, output_shape: Shape) -> None:
        if tuple(input_shape) != tuple(output_shape):
            raise ShapeError(
                f"the layers of a Residual change samples of shape {tuple(input_shape)} to {tuple(output_shape)}: "
                "their output must have the shape of their input"
            )
