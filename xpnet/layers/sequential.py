"""Layers one after the other: the usual model."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from xpnet.backends import Array
from xpnet.errors import ConfigurationError, ShapeError, positive_integer
from xpnet.layers.context import Context
from xpnet.layers.layer import Layer
from xpnet.layers.linear import Linear
from xpnet.layers.reshape import Reshape
from xpnet.parameters import Shape


class Sequential(Layer):
    """y = fₙ(… f₂(f₁(x))).

    Args:
        layers: at least one. Their names are their places: "0", "1", …; a parameter is called "0.W".

    Raises:
        ConfigurationError: no layer, one that is none, that comes twice, or that is part of an initialised model.
        ShapeError: samples that a layer does not take; the message names it.

    >>> import xpnet
    >>> model = Sequential(Linear(4, 8, "tanh"), Linear(8, 3)).initialize(xpnet.backend("cpu-reference"))
    >>> sorted(model.parameters), model.predict(np.zeros((5, 4), np.float32)).shape
    (['0.W', '0.b', '1.W', '1.b'], (5, 3))
    """

    def __init__(self, *layers: Layer) -> None:
        if not layers:
            raise ConfigurationError(f"a {type(self).__name__} needs at least one layer")
        for place, layer in enumerate(layers):
            if not isinstance(layer, Layer):
                raise ConfigurationError(f"layer {place} of a {type(self).__name__} must be a Layer, not {layer!r}")
        if len(set(map(id, layers))) < len(layers):
            raise ConfigurationError("a layer may stand in a Sequential only once: its parameters would be shared")
        if any(layer.backend is not None for layer in layers):
            raise ConfigurationError("a layer of an initialised model cannot join another: build new layers")
        self.layers = layers

    @property
    def takes_integers(self) -> bool:  # type: ignore[override]
        """Whether the first layer does."""
        return self.layers[0].takes_integers

    def children(self) -> dict[str, Layer]:
        """The layers by place."""
        return {str(place): layer for place, layer in enumerate(self.layers)}

    def output_shape(self, input_shape: Shape) -> Shape:
        """Through all layers."""
        for place, layer in enumerate(self.layers):
            try:
                input_shape = layer.output_shape(input_shape)
            except ShapeError as error:
                raise ShapeError(f"layer {place}: {error}") from None
        return input_shape

    def flops(self, input_shape: Shape) -> int:
        """The layers' sum."""
        total = 0
        for layer in self.layers:
            total += layer.flops(input_shape)
            input_shape = layer.output_shape(input_shape)
        return total

    def forward(self, x: Array, context: Context) -> Array:
        """Through the layers, first to last."""
        for layer in self.layers:
            x = layer.forward(x, context)
        return x

    def backward(self, dy: Array, context: Context) -> Array:
        """Through the layers, last to first."""
        for layer in reversed(self.layers):
            dy = layer.backward(dy, context)
        return dy

    def backward_parameters(self, dy: Array, context: Context) -> None:
        """As ``backward``, without the gradient with respect to the data."""
        first = self._first_that_learns()
        for layer in reversed(self.layers):
            if layer is first:
                break
            dy = layer.backward(dy, context)
        first.backward_parameters(dy, context)

    def _first_that_learns(self) -> Layer:
        for layer in self.layers:
            if layer.parameters:
                return layer
        return self.layers[0]

    def predict(self, x: np.ndarray | Array, batch_size: int = 1000) -> np.ndarray:
        """The outputs, computed batch by batch and brought to the host.

        Args:
            x: (N, *input shape): a NumPy array, or an array on the model's backend.
            batch_size: rows computed at a time.

        Returns:
            (N, *output shape), a NumPy array.
        """
        backend = self.require_backend()
        positive_integer("batch_size", batch_size)
        x = np.asarray(x) if isinstance(x, (list, tuple)) else x
        rows = x.shape[0]
        bounds = [(start, min(start + batch_size, rows)) for start in range(0, max(rows, 1), batch_size)]
        outputs = (self(backend.asarray(x[start:stop, ...], self.input_dtype)) for start, stop in bounds)
        return np.concatenate([backend.to_numpy(output) for output in outputs])

    def predict_labels(self, x: np.ndarray | Array, batch_size: int = 1000) -> np.ndarray:
        """The class with the largest output, the first of several: (N,) or (N, …) int64, a NumPy array."""
        return np.argmax(self.predict(x, batch_size), axis=-1)

    def summary(self, input_shape: Shape | None = None) -> str:
        """A table of the layers: name, output shape, number of parameters, FLOPs.

        FLOPs are the floating-point operations of a forward pass of one sample, as PyTorch's ``FlopCounterMode`` counts
        them: those of matrix products (Linear, Conv2d), 2 for a multiply-add. Biases, activations, normalisations,
        pooling and look-ups count 0. A backward pass has twice as many, less those of the first layer's dx.

        Args:
            input_shape: of one sample; None: read off the first Linear or Reshape layer.

        >>> print(Sequential(Linear(784, 50, "relu"), Linear(50, 10)).summary())
        layer  kind             output  parameters   FLOPs
        0      Linear relu       (50,)      39,250  78,400
        1      Linear            (10,)         510   1,000
        total                               39,760  79,400
        """
        if input_shape is None:
            input_shape = known_input_shape(self)
        rows, parameters, flops = [("layer", "kind", "output", "parameters", "FLOPs")], 0, 0
        for name, layer in self.children().items():
            work, input_shape = layer.flops(input_shape), layer.output_shape(input_shape)
            count = sum(math.prod(item.shape) for _, item in layer._collect("parameter_specs"))
            parameters, flops = parameters + count, flops + work
            kind = f"{type(layer).__name__} {getattr(layer, 'activation', None) or ''}"
            rows.append((name, kind.strip(), str(input_shape), f"{count:,}", f"{work:,}"))
        rows.append(("total", "", "", f"{parameters:,}", f"{flops:,}"))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join("  ".join(map(_aligned, row, widths, "<<>>>")) for row in rows)


def _aligned(text: str, width: int, side: str) -> str:
    return f"{text:{side}{width}}"


def known_input_shape(model: Layer) -> Shape:
    """What the first layer that learns or reshapes says of a sample; () when that is nothing."""
    for layer in _leaves(model):
        if isinstance(layer, Reshape):
            return tuple(layer.shape)
        if layer.parameter_specs():
            return (layer.inputs,) if isinstance(layer, Linear) else ()
    return ()


def _leaves(layer: Layer) -> Iterator[Layer]:
    """The layers without children, in order."""
    children = layer.children()
    if not children:
        yield layer
    for child in children.values():
        yield from _leaves(child)
