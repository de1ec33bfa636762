"""The end of a step: whether it is finite, what it adds to the report, and the numbers of the next step."""

from __future__ import annotations

from typing import Any, NamedTuple

from xpnet.backends import Array, Backend
from xpnet.ops.batch_loss import BatchLoss, counted_loss
from xpnet.ops.updates import check_finite


class Guard(NamedTuple):
    """What decides whether a step is skipped.

    Attributes:
        gradients: (P,).
        found_inf: (1,) int32, written: 1 where the step is skipped, else 0.
        skip_after_nonfinite: whether all steps after one that is not finite are skipped.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> Guard(cpu.asarray([0.5, 0.25]), cpu.asarray([0], "int32")).skip_after_nonfinite
    False
    """

    gradients: Array
    found_inf: Array
    skip_after_nonfinite: bool = False


class HyperparameterTable(NamedTuple):
    """The hyperparameters of many steps, on the device.

    Attributes:
        table: (R, H) float64; row s mod R is for step s.
        hyperparameters: (H,) float64, which receives the row of the step.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> HyperparameterTable(cpu.asarray([[0.1], [0.05]]), cpu.asarray([0.0])).table.shape
    (2, 1)
    """

    table: Array
    hyperparameters: Array


def end_step(
    backend: Backend,
    report: Array,
    result: BatchLoss,
    step: int,
    guard: Guard | None = None,
    *,
    steps: Array | None = None,
    table: HyperparameterTable | None = None,
) -> None:
    """Add a batch to the report, unless its step is skipped. In place, and without waiting for the device.

    A step is skipped if its loss or a gradient is not finite; the report then gets no more than that. A batch whose
    rows are all masked adds 0.

    Args:
        backend: where the arrays live.
        report: (8,) float64, updated: the sums of the losses, of their weights, of the rows and of the correct rows;
            the first step that was not finite, and the first row with a bad label in its batch, -1 for none; the last
            loss; the number of skipped steps.
        result: of the batch.
        step: the step's number.
        guard: decides whether the step is skipped. None: no step is, and the loss alone says whether it is finite.
        steps: (P,) int64, each incremented: on the device, ``step`` is the first of them afterwards.
        table: the hyperparameters of the step are the row for the first of ``steps``, before it is incremented.

    >>> from xpnet.backends import backend
    >>> cpu = backend("cpu-reference")
    >>> report, half = cpu.asarray([0.0, 0, 0, 0, -1, -1, 0, 0]), cpu.asarray(0.5)
    >>> end_step(cpu, report, BatchLoss(half, half, cpu.asarray(3.0), None, weight=4, rows=4), 7)
    >>> report
    array([ 2. ,  4. ,  4. ,  3. , -1. , -1. ,  0.5,  0. ])
    >>> found_inf = cpu.asarray([0], "int32")
    >>> guard = Guard(cpu.asarray([1.0, float("nan")]), found_inf)
    >>> end_step(cpu, report, BatchLoss(half, half, cpu.asarray(3.0), None, weight=4, rows=4), 8, guard)
    >>> report, found_inf
    (array([ 2. ,  4. ,  4. ,  3. ,  8. , -1. ,  0.5,  1. ]), array([1], dtype=int32))
    """
    fused = backend.kernel("end_step")
    if fused is not None:
        _fused(backend, fused, report, result, step, guard, steps, table)
        return
    scalar, select, loss = backend.scalar, backend.select, counted_loss(backend, result)
    total, weight, count, correct, first_bad, bad_row, _, skipped = backend.numbers(report)
    if guard is None:
        good = backend.is_finite(loss)
    else:
        check_finite(backend, guard.gradients, loss, guard.found_inf)
        if guard.skip_after_nonfinite:
            backend.fill_unless(first_bad < 0, guard.found_inf, 1)
        good = scalar(guard.found_inf[0]) == 0
    known = good | (first_bad >= 0)  # nothing to record: no failure here, or an earlier one
    first_bad = select(known, first_bad, step)
    if result.bad_row is not None:
        bad_row = select(known, bad_row, result.bad_row)
    added = scalar(result.weight)
    total_added = loss * added if result.reduction == "mean" else loss
    sums = [total + total_added, weight + added, count + scalar(result.rows), correct + scalar(result.correct)]
    values = [*sums, first_bad, bad_row, loss, skipped]
    if guard is not None:
        values = select(good, values, [total, weight, count, correct, first_bad, bad_row, loss, skipped + 1])
    backend.assign(report, values)
    if steps is None:
        return
    if table is not None:
        row = backend.xp.take(table.table, steps[:1] % table.table.shape[0], axis=0)
        table.hyperparameters[...] = row[0, ...]
    steps[...] = steps + 1


def _fused(
    backend: Backend,
    fused: Any,
    report: Array,
    result: BatchLoss,
    step: int,
    guard: Guard | None,
    steps: Array | None,
    table: HyperparameterTable | None,
) -> None:
    summary, rows = result.summarized, result.rows
    if summary is None:
        summary = backend.xp.empty((4,), dtype=backend.xp.float64, device=backend.device)
        bad_row = -1.0 if result.bad_row is None else result.bad_row
        backend.assign(summary, [result.loss, result.weight, result.correct, bad_row])
    if not isinstance(rows, int):
        rows = backend.reshape(rows, (1,))
    options: dict[str, Any] = {} if guard is None else guard._asdict()
    if table is not None:
        options |= table._asdict()
    fused(summary, report, rows=rows, mean=result.reduction == "mean", step=step, steps=steps, **options)
