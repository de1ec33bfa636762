"""A model's layers as a table."""

from __future__ import annotations

import math
from typing import Any

from xpnet.layers.tree import walk
from xpnet.parameters import Shape

Layer = Any  # xpnet.Layer, whose module imports this one


def summary(model: Layer, input_shape: Shape | None) -> str:
    """As :meth:`xpnet.Layer.summary`."""
    if input_shape is None:
        input_shape = known_input_shape(model)
    rows, parameters, flops = [("layer", "kind", "output", "parameters", "FLOPs")], 0, 0
    chain = model._chain()
    for name, layer in chain.items():
        work, input_shape = layer.flops(input_shape), layer.output_shape(input_shape)
        count = sum(math.prod(spec.shape) for spec in layer.declared()[0].values())
        parameters, flops = parameters + count, flops + work
        kind = f"{type(layer).__name__} {getattr(layer, 'activation', None) or ''}"
        rows.append((name, kind.strip(), str(input_shape), f"{count:,}", f"{work:,}"))
    rows.append(("total", "", "", f"{parameters:,}", f"{flops:,}"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(_aligned, row, widths, "<<>>>")) for row in rows)


def _aligned(text: str, width: int, side: str) -> str:
    return f"{text:{side}{width}}"


def known_input_shape(model: Layer) -> Shape:
    """A sample shape, if the first layer with parameters or a fixed shape is a Linear or a Reshape; else ()."""
    for _, layer in walk(model):
        if not layer.children() and (layer._known_shape or layer.parameter_specs()):
            return tuple(layer._known_shape)
    return ()
