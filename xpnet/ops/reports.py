"""The report vector: what a training run knows of itself without asking the device."""

from __future__ import annotations

import math

from xpnet.backends import Array, Backend
from xpnet.errors import OutOfRangeError
from xpnet.ops.cross_entropy import CrossEntropy

LOSS_SUM, COUNT, CORRECT, FIRST_NON_FINITE_STEP, BAD_LABEL_ROW, LAST_LOSS = range(6)
LENGTH = 6


def new_report(backend: Backend) -> Array:
    """(6,) float64: what the constants above name; -1 where there was no such step, or no such row in its batch."""
    report = backend.aligned_zeros(LENGTH, "float64")
    report[FIRST_NON_FINITE_STEP] = report[BAD_LABEL_ROW] = -1.0
    return report


def read(backend: Backend, report: Array) -> list[float]:
    """The report on the host; waits for the device.

    Raises:
        OutOfRangeError: a label was no class: what a device that waits for nobody could not say at once.
    """
    values = backend.to_numpy(report).tolist()
    if values[BAD_LABEL_ROW] >= 0:
        raise OutOfRangeError(
            f"the label at row {values[BAD_LABEL_ROW]:.0f} of the batch of step {values[FIRST_NON_FINITE_STEP]:.0f} is "
            "outside the classes of the logits"
        )
    return values


def accumulate(backend: Backend, report: Array, result: CrossEntropy, rows: int, step: int) -> None:
    """Add one batch to the report vector, in place and without waiting for the device.

    Args:
        backend: where the arrays live.
        report: (6,) float64, updated.
        result: of the batch.
        rows: how many rows the batch has.
        step: the step's number.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> report, half = new_report(cpu), cpu.asarray(0.5)
    >>> accumulate(cpu, report, CrossEntropy(half, half, cpu.asarray(3.0), None), 4, 7)
    >>> report
    array([ 2. ,  4. ,  3. , -1. , -1. ,  0.5])
    """
    if backend.reads_are_free:  # arithmetic on numbers takes a tenth of the time of arrays with one element
        loss, correct = float(result.loss), float(result.correct)
        if not math.isfinite(loss) and report[FIRST_NON_FINITE_STEP] < 0:
            report[FIRST_NON_FINITE_STEP] = step
    else:
        xp, loss, correct = backend.xp, result.loss, result.correct
        first_bad = report[FIRST_NON_FINITE_STEP, ...]
        newly_bad = ~xp.isfinite(loss) & (first_bad < 0)
        report[FIRST_NON_FINITE_STEP] = xp.where(newly_bad, xp.full_like(first_bad, step), first_bad)
        if result.bad_row is not None:
            report[BAD_LABEL_ROW] = xp.where(newly_bad, result.bad_row, report[BAD_LABEL_ROW, ...])
    report[LOSS_SUM] += loss * rows
    report[COUNT] += rows
    report[CORRECT] += correct
    report[LAST_LOSS] = loss
