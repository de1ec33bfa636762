"""What a loss gives for a batch, and how its losses become one number."""

from __future__ import annotations

from typing import Any, NamedTuple

from xpnet.backends import Array, Backend
from xpnet.errors import ShapeError
from xpnet.ops.outputs import store

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


def batch_loss(
    backend: Backend,
    outputs: Array,
    losses: Array,
    slopes: Array | None,
    out: Array | None = None,
    *,
    reduction: str = "mean",
) -> BatchLoss:
    """A batch's result from the loss of each row and the gradient of each row's loss.

    Args:
        backend: where the arrays live.
        outputs: (N, …).
        losses: (N,).
        slopes: of the outputs' shape: d losses[i] / d outputs[i]; None where no gradient is wanted.
        out: of the outputs' shape, receives the gradient when given.
        reduction: "mean", "sum" or "none".

    Returns:
        With ``correct`` NaN: no row is right or wrong.

    Raises:
        ShapeError: losses or slopes of another shape.
        BackendError: losses or slopes that are not arrays of the backend.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> result = batch_loss(cpu, cpu.asarray([[1.0], [5.0]]), cpu.asarray([1.0, 3.0]), cpu.asarray([[2.0], [4.0]]))
    >>> float(result.loss), result.gradient.tolist()
    (2.0, [[1.0], [2.0]])
    """
    rows = int(outputs.shape[0])
    backend.require(losses)
    if tuple(losses.shape) != (rows,):
        raise ShapeError(f"expected a loss for each of {rows} rows, of shape ({rows},), got {tuple(losses.shape)}")
    gradient = None
    if slopes is not None:
        backend.require(slopes)
        if slopes.shape != outputs.shape:
            raise ShapeError(
                f"expected a gradient of the outputs' shape {tuple(outputs.shape)}, got {tuple(slopes.shape)}"
            )
        slopes = backend.xp.astype(slopes, outputs.dtype, copy=False)
        gradient = store(slopes / denominator(backend, rows, reduction, outputs.dtype), out)
    loss = reduce_losses(backend, losses, rows, reduction)
    return BatchLoss(loss, losses, float("nan"), gradient, rows, rows, reduction)


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
