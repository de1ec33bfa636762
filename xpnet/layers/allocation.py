"""Parameter specifications, and the allocation of a model's flat vectors from them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from xpnet.backends import FLOATING, Backend
from xpnet.errors import CallOrderError, ConfigurationError, one_of
from xpnet.initializers import Initializer
from xpnet.layers.tree import described, full_name, walk
from xpnet.parameters import NamedVector, Shape, Views

Layer = Any  # xpnet.Layer, whose module imports this one


class ParameterSpec(NamedTuple):
    """The specification of a parameter or a buffer.

    Attributes:
        shape: of its array.
        initializer: draws the initial values.
        fan_in: number of inputs of a unit, for initialisers that scale with it.
        fan_out: number of units that an input feeds, likewise.

    >>> from xpnet.initializers import Constant
    >>> ParameterSpec((3,), Constant(0.0))
    ParameterSpec(shape=(3,), initializer=<...Constant object at ...>, fan_in=1, fan_out=1)
    """

    shape: Shape
    initializer: Initializer
    fan_in: int = 1
    fan_out: int = 1


class Vectors(NamedTuple):
    """A model's three flat vectors."""

    parameters: NamedVector
    gradients: NamedVector
    buffers: NamedVector


def allocate(model: Layer, backend: Backend, dtype: str | None) -> set[str]:
    """Allocate a model's vectors, with zeros except for layers that were models of their own: these keep their values.

    Returns:
        The names of the parameters and buffers that kept their values.

    Raises:
        CallOrderError, ConfigurationError: as :meth:`xpnet.Layer.initialize`.
    """
    dtype = backend.dtype if dtype is None else one_of("dtype", dtype, FLOATING)
    kept: dict[str, np.ndarray] = {}
    for name, layer in _layers_without_owner(model):
        if layer.backend is not None and layer.parameters.base is not model.parameters:
            own = [*layer.parameter_specs(), *layer.buffer_specs()]
            views, to_numpy = {**layer.parameters, **layer.buffers}, layer.backend.to_numpy
            kept |= {full_name(name, each): to_numpy(views[each]) for each in own}
    parameters, buffers = (
        NamedVector(backend, {name: spec.shape for name, spec in specs.items()}, dtype) for specs in model.declared()
    )
    bind(model, Vectors(parameters, NamedVector(backend, parameters.shapes, dtype), buffers))
    with backend.ignoring_overflow():  # a float64 value may overflow float32
        for name, array in kept.items():
            (parameters if name in parameters else buffers)[name] = array
    return set(kept)


def bind(model: Layer, vectors: Vectors) -> None:
    """Give a model its vectors, and each layer in it its views; what earlier passes saved is dropped."""
    backend, dtype = vectors.parameters.backend, vectors.parameters.dtype
    for name, layer in walk(model):
        views: tuple[Views, ...] = vectors
        if layer is not model:
            views = tuple(vector.under(f"{name}.", described(name, layer)) for vector in vectors)
        layer.parameters, layer.gradients, layer.buffers = views
        layer.backend, layer._dtype, layer.path = backend, dtype, name
        layer.saved, layer._pending_shape, layer._gradients_checked = None, None, False


def _layers_without_owner(model: Layer) -> list[tuple[str, Layer]]:
    """The model and the layers in it; raises where one is used twice or is part of another model."""
    layers = list(walk(model))
    if len({id(layer) for _, layer in layers}) < len(layers):
        raise ConfigurationError("a layer is used twice in this model: its parameters would be shared")
    models = {id(layer.parameters) for _, layer in layers}
    for name, layer in layers:
        if layer.backend is None or id(layer.parameters.base) in models:
            continue
        if layer is model:
            raise CallOrderError(
                f"this {type(layer).__name__} is a part of a model: call initialize on the model, or use "
                "copy.deepcopy(layer)"
            )
        raise CallOrderError(owned_layer_message(name, layer))
    return layers


def owned_layer_message(name: str, layer: Layer) -> str:
    """The error message for a layer that is part of another initialised model."""
    return (
        f"{described(name, layer)} is a part of another initialised model: use copy.deepcopy(layer), which keeps its "
        "values, or build a new layer"
    )
