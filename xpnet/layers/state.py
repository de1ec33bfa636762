"""Loading parameters and buffers by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from xpnet.errors import ConfigurationError, DTypeError, ShapeError

Layer = Any  # xpnet.Layer, whose module imports this one


class Unmatched(NamedTuple):
    """The names that are not both in the state and in the model.

    Attributes:
        missing: only in the model.
        left_over: only in the state.

    >>> Unmatched(missing=["1.W"], left_over=[])
    Unmatched(missing=['1.W'], left_over=[])
    """

    missing: list[str]
    left_over: list[str]


def load_state(layer: Layer, state: Mapping[str, Any], strict: bool) -> Unmatched:
    """As :meth:`xpnet.Layer.load_state_dict`."""
    backend = layer.require_backend()
    views_with = {name: views for views in (layer.parameters, layer.buffers) for name in views}
    arrays = {
        name: backend.to_numpy(value) if backend.owns(value) else np.asarray(value) for name, value in state.items()
    }
    unmatched = Unmatched(
        [name for name in views_with if name not in arrays], [name for name in arrays if name not in views_with]
    )
    matched = {name: array for name, array in arrays.items() if name in views_with}
    shapes = {name: tuple(views[name].shape) for name, views in views_with.items()}
    misshapen = [name for name, array in matched.items() if array.shape != shapes[name]]
    problems = [f"{name} has shape {matched[name].shape}, not {shapes[name]}" for name in misshapen]
    if strict:
        problems += [f"{name} is missing" for name in unmatched.missing]
        problems += [f"{name} is left over" for name in unmatched.left_over]
    if problems:
        raise (ShapeError if misshapen else ConfigurationError)(
            f"the state does not match this model: {'; '.join(problems)}"
        )
    for name, array in matched.items():
        if array.dtype.kind != "f":
            raise DTypeError(f"{name} has dtype {array.dtype}; parameters and buffers are floating point")
    with backend.ignoring_overflow():  # a float64 value may overflow float32
        for name, array in matched.items():
            views_with[name][name] = array
    return unmatched
