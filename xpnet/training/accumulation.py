"""Gradient accumulation: a large batch in small ones, with less memory."""

from __future__ import annotations

from collections.abc import Callable

from xpnet.backends import Array
from xpnet.errors import positive_integer
from xpnet.layers import Context, Layer

_STRIDE = 2**32  # a step's number in the upper half of the generator's counter: no run takes so many steps


class MicroBatches:
    """g = Σᵢ nᵢ gᵢ / Σᵢ nᵢ: the gradient of a batch's mean loss, from those of its micro-batches of nᵢ rows.

    Layers that draw draw anew in each micro-batch; those that look at the whole batch see the micro-batch alone.

    Args:
        model: initialised; its gradients are what is accumulated.
        rows: in a micro-batch; the last one takes what is left.

    >>> import numpy as np, xpnet
    >>> model = xpnet.Linear(1, 1).initialize(xpnet.backend("cpu-reference"))
    >>> context = xpnet.Context(model.backend, training=True)
    >>> def gradients(part):
    ...     model.gradients["b"][...] = part.mean()
    >>> MicroBatches(model, rows=2).accumulate(np.array([1.0, 2.0, 6.0]), context, gradients)
    >>> model.gradients["b"]
    array([3.], dtype=float32)
    """

    def __init__(self, model: Layer, rows: int) -> None:
        self.rows = positive_integer("micro_batch_size", rows)
        self._gradients = model.vectors.gradients
        self._sum = self._gradients.backend.xp.zeros_like(self._gradients.vector)

    def accumulate(self, indices: Array, context: Context, compute: Callable[[Array], None]) -> None:
        """Leave the whole batch's gradient in the model, with ``compute`` called for each part of ``indices``."""
        count, step, gradients = indices.shape[0], context.step, self._gradients.vector
        if count <= self.rows:
            compute(indices)
            return
        self._sum[...] = 0.0
        for place, start in enumerate(range(0, count, self.rows)):
            part = indices[start : min(start + self.rows, count)]
            context.step = step + place * _STRIDE
            compute(part)
            self._sum[...] = self._sum + part.shape[0] * gradients
        context.step = step
        gradients[...] = self._sum / count
