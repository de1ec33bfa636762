"""Gradient accumulation: a large batch in small ones, with less memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from xpnet import ops
from xpnet.backends import Array, Backend
from xpnet.errors import positive_integer
from xpnet.layers import Context, Layer
from xpnet.ops.batch_loss import counted_loss, denominator

_STRIDE = 2**32  # a step's number in the upper half of the generator's counter: no run takes so many steps


class MicroBatches:
    """g = Σᵢ wᵢ gᵢ / Σᵢ wᵢ: the gradient of a batch's mean loss, from those of its micro-batches of weights wᵢ.

    The weight is what the loss's mean divides by; losses that are summed have gradients that are.

    Layers that draw draw anew in each micro-batch; those that look at the whole batch see the micro-batch alone.

    Args:
        model: initialised; its gradients are what is accumulated.
        rows: in a micro-batch; the last one takes what is left.

    >>> import numpy as np, xpnet
    >>> model = xpnet.Linear(1, 1).initialize(xpnet.backend("cpu-reference"))
    >>> context = xpnet.Context(model.backend, training=True)
    >>> def compute(part):
    ...     model.gradients["b"][...] = part.mean()
    ...     return xpnet.ops.BatchLoss(part.mean(), part, 0.0, None, weight=len(part), rows=len(part))
    >>> result = MicroBatches(model, rows=2).accumulate(np.array([1.0, 2.0, 6.0]), context, compute)
    >>> float(result.loss), model.gradients["b"].tolist()
    (3.0, [3.0])
    """

    def __init__(self, model: Layer, rows: int) -> None:
        self.rows = positive_integer("micro_batch_size", rows)
        self._gradients = model.vectors.gradients
        self._sum = self._gradients.backend.xp.zeros_like(self._gradients.vector)

    def parts(self, indices: Array, context: Context) -> Iterator[Array]:
        """The micro-batches' rows, one after the other; while each is out, the context's step is what it draws by."""
        count, step = indices.shape[0], context.step
        for place, start in enumerate(range(0, count, self.rows)):
            context.step = step + place * _STRIDE
            yield indices[start : min(start + self.rows, count)]
        context.step = step

    def accumulate(self, indices: Array, context: Context, compute: Callable[[Array], ops.BatchLoss]) -> ops.BatchLoss:
        """The whole batch's loss, with its gradient left in the model; ``compute`` is that of a part of ``indices``."""
        count, gradients = indices.shape[0], self._gradients.vector
        if count <= self.rows:
            return compute(indices)
        self._sum[...] = 0.0
        results = []
        for part in self.parts(indices, context):
            result = compute(part)
            results.append(result)
            self._sum[...] = self._sum + self._factor(result, result.weight) * gradients
        starts = list(range(0, count, self.rows))
        joined = _joined(self._gradients.backend, results, starts)
        gradients[...] = self._sum / self._factor(joined, _or_one(self._gradients.backend, joined.weight))
        return joined

    def _factor(self, result: ops.BatchLoss, weight: Array | int) -> Array | int:
        """What a gradient is weighed by: a number, or a 0-d array of the gradients' type."""
        if result.reduction != "mean":
            return 1
        return weight if isinstance(weight, int) else self._gradients.backend.xp.astype(weight, self._sum.dtype)


def _joined(backend: Backend, results: list[ops.BatchLoss], starts: list[int]) -> ops.BatchLoss:
    """The result of the batch whose rows from each start on gave these."""
    weight, reduction = sum(result.weight for result in results), results[0].reduction
    total = sum(counted_loss(backend, result) * (result.weight if reduction == "mean" else 1) for result in results)
    return ops.BatchLoss(
        loss=total / denominator(backend, weight, reduction, backend.xp.float64),
        losses=backend.xp.concat([result.losses for result in results]),
        correct=sum(result.correct for result in results),
        gradient=None,
        weight=weight,
        rows=sum(result.rows for result in results),
        reduction=reduction,
        bad_row=_first_bad_row(backend, results, starts),
    )


def _first_bad_row(backend: Backend, results: list[ops.BatchLoss], starts: list[int]) -> Array | None:
    xp, first = backend.xp, None
    for result, start in zip(results, starts, strict=True):
        if result.bad_row is not None:
            row = xp.where(result.bad_row < 0, result.bad_row, result.bad_row + start)
            first = row if first is None else xp.where(first < 0, row, first)
    return first


def _or_one(backend: Backend, weight: Array | int) -> Array | int:
    """The weight; 1 where there is none: a sum of no gradients is 0."""
    if isinstance(weight, int):
        return weight or 1
    return backend.xp.where(weight == 0, backend.xp.ones_like(weight), weight)
