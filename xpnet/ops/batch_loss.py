"""What a loss gives for a batch, and how its losses become one number."""

from __future__ import annotations

from typing import Any, NamedTuple

from xpnet.backends import Array, Backend

REDUCTIONS = ("mean", "sum", "none")


class BatchLoss(NamedTuple):
    """What one pass over a batch's outputs gives.

    Attributes:
        loss: Σ losses / weight by the reduction "mean", else Σ losses: a 0-d float64 array on the device.
        losses: one a row, (N,) or with the labels' shape, or one an output, of the outputs' shape, as the loss says.
        correct: how many rows are right, a 0-d float64 array; NaN for a loss that calls none right or wrong.
        gradient: d loss / d outputs, of the outputs' shape; None when it was not asked for.
        weight: what the mean divides by: a number, or a 0-d float64 array.
        rows: how many rows count: a number, or a 0-d float64 array.
        reduction: "mean", "sum" or "none".
        bad_row: the first row whose label is no class, else -1: a 0-d float64 array, for the report; None where such a
            label raised at once, or cannot be.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> from xpnet.ops import mean_squared_error
    >>> result = mean_squared_error(cpu, cpu.asarray([[1.0], [5.0]]), cpu.asarray([[1.0], [3.0]]))
    >>> float(result.loss), result.losses.tolist(), result.gradient.tolist(), result.weight
    (2.0, [[0.0], [4.0]], [[0.0], [2.0]], 2)
    """

    loss: Array
    losses: Array
    correct: Array | float
    gradient: Array | None
    weight: Array | int
    rows: Array | int
    reduction: str = "mean"
    bad_row: Array | None = None


def reduce_losses(backend: Backend, losses: Array, weight: Array | int, reduction: str) -> Array:
    """Σ losses / weight for the mean (NaN without weight), else Σ losses: a 0-d float64 array.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> float(reduce_losses(cpu, cpu.asarray([1.0, 4.0]), 2, "mean"))
    2.5
    """
    total = backend.xp.sum(losses, dtype=backend.xp.float64)
    return total / denominator(backend, weight, reduction, backend.xp.float64)


def denominator(backend: Backend, weight: Array | int, reduction: str, dtype: Any) -> Array | float:
    """What the losses, and an array of gradients in ``dtype``, are divided by; NaN for a mean without weight."""
    if reduction != "mean":
        return 1.0
    if isinstance(weight, int):
        return weight or float("nan")
    xp = backend.xp
    return xp.astype(xp.where(weight == 0, xp.full_like(weight, float("nan")), weight), dtype)


def counted_loss(backend: Backend, result: BatchLoss) -> Array | float:
    """The loss; 0 for a batch of which no row counts, whose mean is NaN and no trouble.

    A Python number where reading it costs nothing, else a 0-d float64 array.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> counted_loss(cpu, BatchLoss(cpu.asarray(float("nan")), None, 0.0, None, weight=0, rows=0))
    0.0
    """
    return backend.select(result.rows != 0, backend.scalar(result.loss), 0.0)
