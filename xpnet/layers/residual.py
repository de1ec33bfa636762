"""Layers with a shortcut around them."""

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
        layers: at least one; together they give the shape that they take. Named as in a Sequential.

    Raises:
        ConfigurationError: as a Sequential.
        ShapeError: the layers give another shape than they take.

    Source: He, Zhang, Ren and Sun, "Deep residual learning for image recognition", 2016, equation 1.

    >>> import xpnet
    >>> block = Residual(xpnet.Linear(4, 8, "relu"), xpnet.Linear(8, 4))
    >>> model = xpnet.Sequential(xpnet.Linear(3, 4), block).initialize(xpnet.backend("cpu-reference"))
    >>> model.output_shape((3,)), list(model.parameters)[2:]
    ((4,), ['1.0.W', '1.0.b', '1.1.W', '1.1.b'])
    """

    def output_shape(self, input_shape: Shape) -> Shape:
        """The input's."""
        self._require_same(input_shape, super().output_shape(input_shape))
        return input_shape

    def forward(self, x: Array, context: Context) -> Array:
        """x and what the layers make of it, added."""
        y = super().forward(x, context)
        self._require_same(x.shape[1:], y.shape[1:])  # broadcasting would add other shapes, too
        return store(x + y, context.empty(self, "y", x.shape, x.dtype))

    def backward(self, dy: Array, context: Context) -> Array:
        """dy through the layers, and past them."""
        return store(dy + super().backward(dy, context), context.empty(self, "dx", dy.shape, dy.dtype))

    def _require_same(self, taken: Shape, given: Shape) -> None:
        if tuple(taken) != tuple(given):
            raise ShapeError(
                f"the layers of a Residual make {tuple(given)} of samples of shape {tuple(taken)}: they must give the "
                "shape that they take, to be added to it"
            )
