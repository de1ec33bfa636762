"""Where numbers stopped being finite: a step taken again, with a look at every array it makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from xpnet.backends import Array
from xpnet.layers import Context, Layer
from xpnet.losses import Loss
from xpnet.ops.batch_loss import counted_loss
from xpnet.training.batches import DeviceSamples
from xpnet.training.watching import layers_by_place, watched


def first_non_finite(model: Layer, loss: Loss, data: DeviceSamples, indices: Array, context: Context) -> str | None:
    """What was the first array of a training step to hold an infinity or NaN; None when all are finite.

    Args:
        model: with the parameters that the step began with. They stay; buffers and gradients are overwritten.
        loss: the step's.
        data: the training set.
        indices: the rows of the batch, or of a micro-batch.
        context: with the step's number and seed, and no reuse of memory.

    >>> import numpy as np, xpnet
    >>> model = xpnet.Sequential(xpnet.Linear(1, 2)).initialize(xpnet.backend("cpu-reference"))
    >>> model.parameters["0.b"][1] = np.inf
    >>> data = DeviceSamples(model, (np.ones((3, 1)), np.array([0, 1, 0])))
    >>> context = Context(model.backend, training=True)
    >>> first_non_finite(model, xpnet.SoftmaxCrossEntropy(), data, np.array([0, 2]), context)
    'the output of layer 0 Linear'
    """
    backend = context.backend
    found: list[str] = []

    def look(what: str, array: Array | None) -> None:
        if array is not None and not found and not bool(backend.xp.all(backend.xp.isfinite(array))):
            found.append(what)

    def watch(layer: Layer, place: str) -> list[tuple[Layer, str, Callable[..., Any]]]:
        def forward(original: Callable[..., Array], *arguments: Any) -> Array:
            y = original(*arguments)
            look(f"the output of layer {place}", y)
            return y

        def backward(original: Callable[..., Array | None], *arguments: Any) -> Array | None:
            dx = original(*arguments)
            for name, gradient in layer.gradients.items():
                look(f"the gradient of {name} in layer {place}", gradient)
            look(f"the gradient that layer {place} hands back", dx)
            return dx

        return [(layer, "forward", forward), (layer, "backward", backward), (layer, "backward_parameters", backward)]

    x, y = data.batch(indices, context, model.dtype)
    bad_rows = np.flatnonzero(~np.isfinite(backend.to_numpy(x).reshape(x.shape[0], -1)).all(axis=1))
    if bad_rows.size:
        return f"the inputs (sample {int(backend.to_numpy(indices)[bad_rows[0]])} of the training set)"
    leaves = [(place, layer) for place, layer in layers_by_place(model) if not layer.children()]
    with watched([method for place, layer in leaves for method in watch(layer, place)]), backend.ignoring_overflow():
        outputs = model.forward(x, context)
        result = loss.forward(outputs, y, context)
        look("the loss", backend.asarray(counted_loss(backend, result), "float64"))
        dy = loss.backward(context)
        look("the gradient of the loss", dy)
        model.backward_parameters(dy, context)
    return found[0] if found else None
