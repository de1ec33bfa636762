"""A chain of layers, the usual model."""

from __future__ import annotations

from xpnet.backends import Array
from xpnet.context import Context
from xpnet.errors import ConfigurationError, ShapeError
from xpnet.layers.allocation import owned_layer_message
from xpnet.layers.layer import Layer
from xpnet.layers.precision import in_bfloat16
from xpnet.parameters import Shape


class Sequential(Layer):
    """y = fₙ(… f₂(f₁(x))).

    Args:
        layers: at least one. They are named by their position, "0", "1", …, so that a parameter is called "0.W".
            Preprocessing layers at the start are named after their class, "rescale" or "standardize", and not counted.

    Raises:
        ConfigurationError: no layers, an argument that is not a Layer, a layer used twice, or a layer that is part of
            an initialised model.
        ShapeError: samples that a layer does not accept; the message names the layer.

    >>> import numpy as np, xpnet
    >>> layers = xpnet.Linear(4, 8, "tanh"), xpnet.Linear(8, 3)
    >>> model = Sequential(*layers).initialize(xpnet.backend("cpu-reference"))
    >>> sorted(model.parameters), model.predict(np.zeros((5, 4), np.float32)).shape
    (['0.W', '0.b', '1.W', '1.b'], (5, 3))
    """

    takes_bfloat16 = True

    def __init__(self, *layers: Layer) -> None:
        if not layers:
            raise ConfigurationError(f"a {type(self).__name__} needs at least one layer")
        for place, layer in enumerate(layers):
            if not isinstance(layer, Layer):
                raise ConfigurationError(f"layer {place} of a {type(self).__name__} must be a Layer, not {layer!r}")
        if len(set(map(id, layers))) < len(layers):
            raise ConfigurationError("a layer can be used in a Sequential only once: its parameters would be shared")
        for place, layer in enumerate(layers):
            if layer.backend is not None and layer.parameters.base is not layer.parameters:
                raise ConfigurationError(owned_layer_message(str(place), layer))
        self.layers = layers

    @property
    def takes_integers(self) -> bool:  # type: ignore[override]
        """Whether the first layer does."""
        return self.layers[0].takes_integers

    def children(self) -> dict[str, Layer]:
        """The layers by name."""
        children: dict[str, Layer] = {}
        count = 0
        for layer in self.layers:
            kind = type(layer).__name__.lower()
            if layer.preprocesses and count == 0 and kind not in children:
                children[kind] = layer
            else:
                children[str(count)] = layer
                count += 1
        return children

    def output_shape(self, input_shape: Shape) -> Shape:
        """Through all layers."""
        for name, layer in self.children().items():
            try:
                input_shape = layer.output_shape(input_shape)
            except ShapeError as error:
                raise ShapeError(f"layer {name}: {error}") from None
        return input_shape

    def flops(self, input_shape: Shape) -> int:
        """The sum over the layers."""
        total = 0
        for layer in self.layers:
            total += layer.flops(input_shape)
            input_shape = layer.output_shape(input_shape)
        return total

    def forward(self, x: Array, context: Context) -> Array:
        """Through the layers, first to last."""
        for layer in self.layers if context.backend.activation_dtype is None else in_bfloat16(self.layers):
            x = layer.forward(x, context)
        return x

    def backward(self, dy: Array, context: Context) -> Array:
        """Through the layers, last to first."""
        layers = self.layers if context.backend.activation_dtype is None else in_bfloat16(self.layers)
        for layer in reversed(layers):
            dy = layer.backward(dy, context)
        return dy

    def backward_parameters(self, dy: Array, context: Context) -> None:
        """As ``backward``, without the gradient with respect to the input; stops at the first layer with parameters."""
        layers = self.layers if context.backend.activation_dtype is None else in_bfloat16(self.layers)
        first = self._first_with_parameters()
        for layer in reversed(layers[first + 1 :]):
            dy = layer.backward(dy, context)
        layers[first].backward_parameters(dy, context)

    def _chain(self) -> dict[str, Layer]:
        return self.children() if type(self).forward is Sequential.forward else super()._chain()

    def _first_with_parameters(self) -> int:
        """The place of the first layer with parameters; 0 if none has."""
        for place, layer in enumerate(self.layers):
            if layer.parameters:
                return place
        return 0
