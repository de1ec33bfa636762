"""Layers in a pass in bfloat16: one that does not take bfloat16 computes in float32, and its results are rounded."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from xpnet.backends import Array, Backend
from xpnet.context import Context
from xpnet.errors import ConfigurationError
from xpnet.layers.tree import walk

Layer = Any  # xpnet.Layer, whose module imports this one


class InFloat32:
    """The passes of a layer, computed in float32 within a pass in bfloat16.

    >>> import xpnet
    >>> layer = xpnet.Tanh().initialize(xpnet.backend("cpu-reference").at_precision("bf16"))
    >>> InFloat32(layer).forward(layer.backend.asarray([[1.0]], "float32"), Context(layer.backend))
    array([[0.761719]], dtype=bfloat16)
    """

    def __init__(self, layer: Layer) -> None:
        self._layer = layer

    def forward(self, x: Array, context: Context) -> Array:
        """The output, rounded to bfloat16."""
        backend = context.backend
        return backend.narrowed(self._layer.forward(backend.widened(x), context.in_float32()))

    def backward(self, dy: Array, context: Context) -> Array:
        """The gradient with respect to the input, rounded to bfloat16; those of parameters are in float32."""
        backend = context.backend
        return backend.narrowed(self._layer.backward(backend.widened(dy), context.in_float32()))

    def backward_parameters(self, dy: Array, context: Context) -> None:
        """As ``backward``, without the gradient with respect to the input."""
        self._layer.backward_parameters(context.backend.widened(dy), context.in_float32())


def in_bfloat16(layers: Iterable[Layer]) -> list[Layer | InFloat32]:
    """The layers as they are called one after the other in a pass in bfloat16."""
    return [layer if layer.takes_bfloat16 else InFloat32(layer) for layer in layers]


def set_precision(model: Layer, precision: str) -> Backend:
    """Let a model's passes compute in a precision; returns its backend of that precision.

    Raises:
        ConfigurationError: there is no such precision, or the model is in float64.
        BackendError: the model's backend does not compute in it.

    >>> import xpnet
    >>> model = xpnet.Linear(2, 3).initialize(xpnet.backend("cpu-reference"))
    >>> set_precision(model, "bf16").precision, model.backend.precision
    ('bf16', 'bf16')
    """
    backend = model.require_backend().at_precision(precision)
    if precision != "float32" and model.dtype != "float32":
        raise ConfigurationError(f"{precision} needs a model in float32, not {model.dtype}")
    if backend is not model.backend:
        for _, layer in walk(model):
            layer.backend = backend
    return backend
