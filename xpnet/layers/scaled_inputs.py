"""The preprocessing layers at a model's start."""

from __future__ import annotations

import itertools
from typing import Any

from xpnet.data.batches import Divides
from xpnet.errors import CallOrderError
from xpnet.layers.tree import described, walk

Layer = Any  # xpnet.Layer, whose module imports this one


def leading_preprocessing(model: Layer) -> list[Layer]:
    """The preprocessing layers that a model begins with.

    >>> import xpnet
    >>> model = xpnet.Sequential(xpnet.Rescale(), xpnet.Linear(2, 3))
    >>> [type(layer).__name__ for layer in leading_preprocessing(model)]
    ['Rescale']
    """
    return list(itertools.takewhile(lambda layer: layer.preprocesses, model._chain().values()))


def leading_rescale(model: Layer) -> Divides | None:
    """The Rescale that a model begins with, whose division can be fused with the gathering of a batch.

    None for a subclass with a forward pass of its own, which may do more than divide.
    """
    first = next(iter(leading_preprocessing(model)), None)
    if not isinstance(first, Divides):
        return None
    divides = next(cls for cls in type(first).__mro__ if "forward" in vars(cls))
    return first if "divisor_for" in vars(divides) else None


def require_fitted(model: Layer) -> None:
    """Raise CallOrderError where a preprocessing layer cannot scale yet, wherever it stands.

    A Rescale without a divisor can, at the start of a model, by the samples' type; elsewhere its own pass raises.
    """
    for name, layer in walk(model) if model.buffers else ():  # without buffers, nothing was to be measured
        if layer.preprocesses and not isinstance(layer, Divides) and not layer.is_fitted:
            raise CallOrderError(
                f"{described(name, layer)} is not fitted yet: train a model that begins with it, or call its fit(x) "
                "with the training set"
            )
