"""The loss of a batch with its gradient, and the reduction of losses to one number."""

from __future__ import annotations

from typing import Any, NamedTuple

from xpnet.backends import Array, Backend
from xpnet.errors import ShapeError
from xpnet.ops.outputs import store

REDUCTIONS = ("mean", "sum", "none")


class Summary(NamedTuple):
    """The numbers of a :class:`BatchLoss` that a kernel wrote together.

    Attributes:
        vector: (4,) float64: loss, weight, correct and bad_row.
        fields: the result's own fields of these names, in this order, by which it is known that none was replaced.
    """

    vector: Array
    fields: tuple[Any, ...]


class BatchLoss(NamedTuple):
    """The loss of a batch, its gradient and what training reports, from one pass over the outputs.

    Attributes:
        loss: Σ losses / weight for the reduction "mean", else Σ losses: a 0-d float64 array on the device.
        losses: one per row, of the labels' shape, or one per output, of the outputs' shape, depending on the loss.
        correct: the number of correct rows, a 0-d float64 array; NaN for a loss that defines no accuracy.
        gradient: d loss / d outputs, of the outputs' shape; None if it was not requested.
        weight: the divisor of the mean: a number, or a 0-d float64 array.
        rows: the number of rows that count (are not ignored): a number, or a 0-d float64 array.
        reduction: "mean", "sum" or "none".
        bad_row: the first row whose label is not a class, else -1: a 0-d float64 array, for the report; None where such
            a label raises at once or is impossible.
        summary: loss, weight, correct and bad_row, where a kernel wrote them together; else None.

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
    summary: Summary | None = None

    @property
    def summarized(self) -> Array | None:
        """(4,) float64 with loss, weight, correct and bad_row; None if no kernel wrote it, or one was replaced since.

        >>> vector, (loss, correct, bad_row) = [0.5, 2.0, 1.0, -1.0], (0.5, 1.0, -1.0)
        >>> summary = Summary(vector, (loss, 2, correct, bad_row))
        >>> result = BatchLoss(loss, None, correct, None, 2, 2, "mean", bad_row, summary)
        >>> result.summarized, result._replace(loss=loss + 0.25).summarized
        ([0.5, 2.0, 1.0, -1.0], None)
        """
        if self.summary is None:
            return None
        fields = self.loss, self.weight, self.correct, self.bad_row
        same = all(mine is written for mine, written in zip(fields, self.summary.fields, strict=True))
        return self.summary.vector if same else None


def batch_loss(
    backend: Backend,
    outputs: Array,
    losses: Array,
    row_gradients: Array | None,
    out: Array | None = None,
    *,
    reduction: str = "mean",
) -> BatchLoss:
    """The :class:`BatchLoss` for given losses of the rows and their gradients.

    Args:
        backend: where the arrays live.
        outputs: (N, …).
        losses: (N,).
        row_gradients: of the outputs' shape: d losses[i] / d outputs[i]; None: no gradient.
        out: of the outputs' shape, receives the gradient when given.
        reduction: "mean", "sum" or "none".

    Returns:
        A result with ``correct`` NaN.

    Raises:
        ShapeError: losses or row_gradients have another shape.
        BackendError: losses or row_gradients are not arrays of the backend.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> result = batch_loss(cpu, cpu.asarray([[1.0], [5.0]]), cpu.asarray([1.0, 3.0]), cpu.asarray([[2.0], [4.0]]))
    >>> float(result.loss), result.gradient.tolist()
    (2.0, [[1.0], [2.0]])
    """
    rows = int(outputs.shape[0])
    # The shape first: of a sum over all rows, a NumPy scalar, require would say that it is no array of the backend.
    if (shape := tuple(getattr(losses, "shape", (rows,)))) != (rows,):
        raise ShapeError(f"expected one loss per row, of shape ({rows},), got {shape}")
    backend.require(losses)
    gradient = None
    if row_gradients is not None:
        backend.require(row_gradients)
        if row_gradients.shape != outputs.shape:
            raise ShapeError(
                f"expected a gradient of the outputs' shape {tuple(outputs.shape)}, got {tuple(row_gradients.shape)}"
            )
        row_gradients = backend.xp.astype(row_gradients, outputs.dtype, copy=False)
        gradient = store(row_gradients / denominator(backend, rows, reduction, outputs.dtype), out)
    loss = reduce_losses(backend, losses, rows, reduction)
    return BatchLoss(loss, losses, float("nan"), gradient, rows, rows, reduction)


def reduce_losses(backend: Backend, losses: Array, weight: Array | int, reduction: str) -> Array:
    """Σ losses / weight for the mean (NaN if the weight is 0), else Σ losses: a 0-d float64 array.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> float(reduce_losses(cpu, cpu.asarray([1.0, 4.0]), 2, "mean"))
    2.5
    """
    total = backend.xp.sum(losses, dtype=backend.xp.float64)
    return total / denominator(backend, weight, reduction, backend.xp.float64)


def denominator(backend: Backend, weight: Array | int, reduction: str, dtype: Any) -> Array | float:
    """The divisor of the losses, or of gradients in ``dtype``; NaN for a mean of weight 0."""
    if reduction != "mean":
        return 1.0
    if isinstance(weight, int):
        return weight or float("nan")
    xp = backend.xp
    return xp.astype(xp.where(weight == 0, xp.full_like(weight, float("nan")), weight), dtype)


def counted_loss(backend: Backend, result: BatchLoss) -> Array | float:
    """The loss, with 0 for a batch whose rows are all ignored: the NaN of its mean is not an error.

    A Python number on a synchronous backend, else a 0-d float64 array.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> counted_loss(cpu, BatchLoss(cpu.asarray(float("nan")), None, 0.0, None, weight=0, rows=0))
    0.0
    """
    return backend.select(result.rows != 0, backend.scalar(result.loss), 0.0)
