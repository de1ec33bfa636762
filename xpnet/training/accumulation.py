"""Gradient accumulation: the gradient of a batch from those of its parts."""

from __future__ import annotations

from collections.abc import Iterable

from xpnet import ops
from xpnet.backends import Array, Backend
from xpnet.ops.batch_loss import counted_loss, denominator
from xpnet.parameters import NamedVector


class GradientAccumulation:
    """g = Σᵢ wᵢ gᵢ / Σᵢ wᵢ: the gradient of a batch's mean loss, from the gradients gᵢ of its parts (micro-batches).

    The weight wᵢ is the denominator of the part's mean loss. The gradients of a summed loss are summed.

    Each part gets its own RNG step (Dropout); batch statistics (BatchNorm) are those of the part.

    Args:
        gradients: the model's gradients, which each part overwrites.

    >>> import numpy as np, xpnet
    >>> model = xpnet.Linear(1, 1).initialize(xpnet.backend("cpu-reference"))
    >>> def compute(part):
    ...     model.gradients["b"][...] = part.mean()
    ...     return ops.BatchLoss(part.mean(), part, 0.0, None, weight=len(part), rows=len(part))
    >>> parts = np.array([1.0, 2.0]), np.array([6.0])
    >>> result = GradientAccumulation(model.gradients)(map(compute, parts), len(parts))
    >>> float(result.loss), model.gradients["b"].tolist()
    (3.0, [3.0])
    """

    def __init__(self, gradients: NamedVector) -> None:
        self._backend, self._gradients = gradients.backend, gradients.vector
        self._sum: Array | None = None

    def __call__(self, results: Iterable[ops.BatchLoss], parts: int) -> ops.BatchLoss:
        """The batch's result; its gradient replaces that of the last part in the model.

        Args:
            results: of the parts, lazily: computing one overwrites the gradient of the one before.
            parts: the number of parts.
        """
        if parts == 1:
            (result,) = results
            return result
        if self._sum is None:
            self._sum = self._backend.xp.zeros_like(self._gradients)
        self._sum[...] = 0.0
        taken = []
        for result in results:
            taken.append(result)
            self._sum[...] = self._sum + self._factor(result, result.weight) * self._gradients
        joined = _joined(self._backend, taken)
        self._gradients[...] = self._sum / self._factor(joined, _or_one(self._backend, joined.weight))
        return joined

    def _factor(self, result: ops.BatchLoss, weight: Array | int) -> Array | int:
        """The weight of a gradient: a number, or a 0-d array of the gradients' type."""
        if result.reduction != "mean":
            return 1
        return weight if isinstance(weight, int) else self._backend.xp.astype(weight, self._gradients.dtype)


def _joined(backend: Backend, results: list[ops.BatchLoss]) -> ops.BatchLoss:
    """A batch's result, from those of its consecutive parts."""
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
        bad_row=_first_bad_row(backend, results),
    )


def _first_bad_row(backend: Backend, results: list[ops.BatchLoss]) -> Array | None:
    """The first row with a bad label, counted from the batch's first row."""
    xp, first, start = backend.xp, None, 0
    for result in results:
        if result.bad_row is not None:
            row = xp.where(result.bad_row < 0, result.bad_row, result.bad_row + start)
            first = row if first is None else xp.where(first < 0, row, first)
        start += int(result.losses.shape[0])
    return first


def _or_one(backend: Backend, weight: Array | int) -> Array | int:
    """The weight, or 1 where it is 0: the sum of gradients is then 0 too."""
    if isinstance(weight, int):
        return weight or 1
    return backend.xp.where(weight == 0, backend.xp.ones_like(weight), weight)
