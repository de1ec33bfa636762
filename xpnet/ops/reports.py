"""The report vector: what a training run knows of itself without asking the device."""

from __future__ import annotations

import math

from xpnet.backends import Array, Backend
from xpnet.ops.cross_entropy import CrossEntropy

LOSS_SUM, COUNT, CORRECT, FIRST_NON_FINITE_STEP, LAST_LOSS = range(5)
LENGTH = 5


def new_report(backend: Backend) -> Array:
    """(5,) float64: loss sum, rows, correct rows, first step with a non-finite loss (-1: none), last loss."""
    report = backend.aligned_zeros(LENGTH, "float64")
    report[FIRST_NON_FINITE_STEP] = -1.0
    return report


def accumulate(backend: Backend, report: Array, result: CrossEntropy, rows: int, step: int) -> None:
    """Add one batch to the report vector, in place and without waiting for the device.

    Args:
        backend: where the arrays live.
        report: (5,) float64, updated.
        result: of the batch.
        rows: how many rows the batch has.
        step: the step's number.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> report, half = new_report(cpu), cpu.asarray(0.5)
    >>> accumulate(cpu, report, CrossEntropy(half, half, cpu.asarray(3.0), None), 4, 7)
    >>> report
    array([ 2. ,  4. ,  3. , -1. ,  0.5])
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
    report[LOSS_SUM] += loss * rows
    report[COUNT] += rows
    report[CORRECT] += correct
    report[LAST_LOSS] = loss
