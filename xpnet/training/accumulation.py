"""Gradient accumulation: a large batch in small ones, with less memory."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from xpnet import ops
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
    >>> def compute(part):
    ...     model.gradients["b"][...] = part.mean()
    ...     return xpnet.ops.CrossEntropy(part.mean(), part, np.float64(0.0), None)
    >>> result = MicroBatches(model, rows=2).accumulate(np.array([1.0, 2.0, 6.0]), context, compute)
    >>> float(result.loss), model.gradients["b"].tolist()
    (3.0, [3.0])
    """

    def __init__(self, model: Layer, rows: int) -> None:
        self.rows = positive_integer("micro_batch_size", rows)
        self._gradients = model.vectors.gradients
        self._sum = self._gradients.backend.xp.zeros_like(self._gradients.vector)

    def accumulate(
        self, indices: Array, context: Context, compute: Callable[[Array], ops.CrossEntropy]
    ) -> ops.CrossEntropy:
        """The whole batch's loss, with its gradient left in the model; ``compute`` is that of a part of ``indices``."""
        count, step, gradients = indices.shape[0], context.step, self._gradients.vector
        if count <= self.rows:
            return compute(indices)
        self._sum[...] = 0.0
        starts = list(range(0, count, self.rows))
        results = []
        for place, start in enumerate(starts):
            part = indices[start : min(start + self.rows, count)]
            context.step = step + place * _STRIDE
            results.append(compute(part))
            self._sum[...] = self._sum + part.shape[0] * gradients
        context.step = step
        gradients[...] = self._sum / count
        return self._joined(results, starts, count)

    def _joined(self, results: list[ops.CrossEntropy], starts: list[int], count: int) -> ops.CrossEntropy:
        xp = self._gradients.backend.xp
        rows = [stop - start for start, stop in itertools.pairwise([*starts, count])]
        loss = sum(result.loss * n for result, n in zip(results, rows, strict=True)) / count
        bad_row = None
        for result, start in zip(results, starts, strict=True):
            if result.bad_row is not None:
                shifted = xp.where(result.bad_row < 0, result.bad_row, result.bad_row + start)
                bad_row = shifted if bad_row is None else xp.where(bad_row < 0, shifted, bad_row)
        losses, correct = xp.concat([result.losses for result in results]), sum(result.correct for result in results)
        return ops.CrossEntropy(loss, losses, correct, None, bad_row)
