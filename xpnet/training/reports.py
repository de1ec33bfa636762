"""The report vector: the sums and flags of an epoch, kept on the device so that no step waits for it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from xpnet.backends import Array, Backend
from xpnet.errors import OutOfRangeError
from xpnet.ops.batch_loss import BatchLoss, counted_loss

INITIAL = {  # -1: no such step, no such row in its batch
    "loss_sum": 0.0,
    "weight": 0.0,  # denominator of the mean loss: the count, unless rows are weighted or masked
    "count": 0.0,
    "correct": 0.0,
    "first_non_finite_step": -1.0,
    "bad_label_row": -1.0,
    "last_loss": 0.0,
    "skipped_steps": 0.0,
}
LENGTH = len(INITIAL)
LOSS_SUM, WEIGHT, COUNT, CORRECT, FIRST_NON_FINITE_STEP, BAD_LABEL_ROW, LAST_LOSS, SKIPPED_STEPS = range(LENGTH)


def new_report(backend: Backend) -> Array:
    """(8,) float64: the values of INITIAL, in its order.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> new_report(cpu)
    array([ 0.,  0.,  0.,  0., -1., -1.,  0.,  0.])
    """
    return from_names(backend, INITIAL)


def for_new_epoch(backend: Backend, report: Array) -> Array:
    """A new report with the count of skipped steps, which is that of the whole run.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> for_new_epoch(cpu, cpu.asarray([2.0, 4.0, 4.0, 3.0, -1.0, -1.0, 0.5, 7.0]))
    array([ 0.,  0.,  0.,  0., -1., -1.,  0.,  7.])
    """
    new = new_report(backend)
    new[SKIPPED_STEPS] = report[SKIPPED_STEPS, ...]
    return new


def by_name(backend: Backend, report: Array) -> dict[str, float]:
    """The report on the host, by name, as a checkpoint holds it."""
    return dict(zip(INITIAL, backend.to_numpy(report).tolist(), strict=True))


def from_names(backend: Backend, values: Mapping[str, float]) -> Array:
    """The report that ``by_name`` gave; names that are missing have their initial values.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> from_names(cpu, {"count": 4.0})
    array([ 0.,  0.,  4.,  0., -1., -1.,  0.,  0.])
    """
    report = backend.aligned_zeros(LENGTH, "float64")
    report[...] = backend.asarray([values.get(name, initial) for name, initial in INITIAL.items()], "float64")
    return report


def read(backend: Backend, report: Array) -> list[float]:
    """The report on the host; waits for the device.

    Raises:
        OutOfRangeError: a label was outside the classes; asynchronous devices cannot raise this at once.
    """
    values = backend.to_numpy(report).tolist()
    if values[BAD_LABEL_ROW] >= 0:
        raise OutOfRangeError(
            f"the label at row {values[BAD_LABEL_ROW]:.0f} of the batch of step {values[FIRST_NON_FINITE_STEP]:.0f} is "
            "outside the classes of the logits"
        )
    return values


def accumulate(backend: Backend, report: Array, result: BatchLoss, step: int, found_inf: Array | None = None) -> None:
    """Add one batch to the report vector, in place and without waiting for the device.

    A batch whose rows are all masked adds 0.

    Args:
        backend: where the arrays live.
        report: (8,) float64, updated.
        result: of the batch.
        step: the step's number.
        found_inf: (1,) int32; where it is not 0, the step was skipped and only increments the skipped steps. None: no
            step is skipped, and the loss says whether the batch is finite.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> report, half = new_report(cpu), cpu.asarray(0.5)
    >>> accumulate(cpu, report, BatchLoss(half, half, cpu.asarray(3.0), None, weight=4, rows=4), 7)
    >>> report
    array([ 2. ,  4. ,  4. ,  3. , -1. , -1. ,  0.5,  0. ])
    """
    scalar, select, loss = backend.scalar, backend.select, counted_loss(backend, result)
    total, weight, count, correct, first_bad, bad_row, _, skipped = backend.numbers(report)
    good = backend.is_finite(loss) if found_inf is None else scalar(found_inf[0]) == 0
    known = good | (first_bad >= 0)  # nothing to record: no failure here, or an earlier one
    first_bad = select(known, first_bad, step)
    if result.bad_row is not None:
        bad_row = select(known, bad_row, result.bad_row)
    added = scalar(result.weight)
    total_added = loss * added if result.reduction == "mean" else loss
    sums = [total + total_added, weight + added, count + scalar(result.rows), correct + scalar(result.correct)]
    values = [*sums, first_bad, bad_row, loss, skipped]
    if found_inf is not None:
        values = select(good, values, [total, weight, count, correct, first_bad, bad_row, loss, skipped + 1])
    backend.assign(report, values)


def means(report: Sequence[float]) -> tuple[float, float]:
    """Mean loss and accuracy, from a report on the host; NaN where no row counts.

    >>> means([2.0, 4.0, 4.0, 3.0, -1.0, -1.0, 0.5, 0.0])
    (0.5, 0.75)
    """
    loss, accuracy = (
        report[total] / report[count] if report[count] else math.nan
        for total, count in ((LOSS_SUM, WEIGHT), (CORRECT, COUNT))
    )
    return loss, accuracy


def skip_after_nonfinite(backend: Backend, report: Array, found_inf: Array) -> None:
    """found_inf ← 1 if an earlier step was not finite, so that the state stays that of before it.

    Args:
        backend: where the arrays live.
        report: (8,) float64.
        found_inf: (1,) int32, updated.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> report, found_inf = new_report(cpu), cpu.asarray([0], "int32")
    >>> report[FIRST_NON_FINITE_STEP] = 3
    >>> skip_after_nonfinite(cpu, report, found_inf)
    >>> found_inf
    array([1], dtype=int32)
    """
    backend.fill_unless(report[FIRST_NON_FINITE_STEP] < 0, found_inf, 1)
