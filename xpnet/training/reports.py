"""The report vector: the sums and flags of an epoch, kept on the device so that no step waits for it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from xpnet.backends import Array, Backend
from xpnet.errors import OutOfRangeError

INITIAL = {  # in the order of ops.end_step; -1: no such step, no such row in its batch
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


def start_epoch(backend: Backend, report: Array) -> None:
    """Initial values, but for the count of skipped steps, which is that of the whole run. In place.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> report = cpu.asarray([2.0, 4.0, 4.0, 3.0, -1.0, -1.0, 0.5, 7.0])
    >>> start_epoch(cpu, report)
    >>> report
    array([ 0.,  0.,  0.,  0., -1., -1.,  0.,  7.])
    """
    report[:SKIPPED_STEPS] = backend.asarray(list(INITIAL.values())[:SKIPPED_STEPS], "float64")


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
