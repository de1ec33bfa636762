"""The end of a step: whether it is finite, what it adds to the report, and the numbers of the next step."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from numba import float64, types

from .arrays import REALS, DeviceArray, Memory, accumulator, array, optional_output, output
from .flat_vectors import SMALL, grid_of, vectors
from .launch import Launch, typed
from .numba_cuda import cuda
from .optimizer_kernels import CHECK, check_finite_kernel, mark_not_finite
from .prepared import planned, queue
from .primitives import BLOCK, barrier, given, lead, width

_NOT_FINITE = 2  # in ``found_inf``, between the check of the gradients and the decision; an earlier step leaves 0 or 1
_THREADS = min(256, BLOCK)
_STEP = 5  # the position of the step among the kernel's arguments


def end_step(
    summary: Any,
    report: Any,
    *,
    rows: Any,
    mean: bool = True,
    step: int = 0,
    gradients: Any = None,
    found_inf: Any = None,
    skip_after_nonfinite: bool = False,
    steps: Any = None,
    table: Any = None,
    hyperparameters: Any = None,
    stream: int = 0,
) -> None:
    """``found_inf`` and ``report`` after a batch, from its summary and its gradients, and the numbers of the next step.

    Args:
        summary: (4,) float64, as :func:`softmax_cross_entropy` writes it.
        report: (8,) float64, updated: the sums of the losses, of the weights, of the rows and of the correct rows; the
            first step that was not finite and the row of its bad label, each -1 if there is none; the last loss; the
            number of skipped steps.
        rows: the number of rows that count, or a (1,) float64 array.
        mean: whether the loss in the summary was divided by the weight.
        step: the number that the report takes if this is the first step that is not finite.
        gradients: a flat vector of any element type.
        found_inf: (1,) int32, 0 or 1 before and after: 1 if the loss or a gradient is not finite. The step is then
            skipped: the report's sums stay.
        skip_after_nonfinite: skip all steps after one that is not finite.
        steps: (P,) int64, each incremented; the first is then used in the place of ``step``.
        table: (R, H) float64: in row s mod R the hyperparameters of the step that makes the first of ``steps`` s + 1.
        hyperparameters: (H,) float64, output: the row of this step.
        stream: the CUDA stream's handle.
    """
    *check, end = planned(
        prepare, summary, report, rows, mean, gradients, found_inf, skip_after_nonfinite, steps, table, hyperparameters
    )
    queue([*check, end if steps is not None else end.with_argument(_STEP, step)], stream)


def prepare(
    summary: Any, report: Any, rows: Any, mean: bool, gradients: Any, found_inf: Any, skip_after_nonfinite: bool,
    steps: Any, table: Any, hyperparameters: Any,
) -> list[Launch]:  # fmt: skip
    """Check the arguments and plan the launches, of which the last gets the number of the step later."""
    if (gradients is None) != (found_inf is None):
        raise ValueError("gradients and found_inf go together: give both or neither")
    if table is not None and (steps is None or hyperparameters is None):
        raise ValueError("table needs steps, which choose its row, and hyperparameters, which receive it")
    totals = array("summary", summary, (types.float64,), shape=(4,))
    sums = output("report", report, (types.float64,), shape=(8,))
    counted = type(rows) is Memory
    rows_array = array("rows", rows, (types.float64,), shape=(1,)) if counted else None
    g = None if gradients is None else array("gradients", gradients, REALS, dimensions=1)
    flag = optional_output("found_inf", found_inf, types.int32, (1,))
    counters = None if steps is None else output("steps", steps, (types.int64,), dimensions=1)
    future = None if table is None else array("table", table, (types.float64,), dimensions=2)
    if future is not None and (future.shape[0] == 0 or counters.shape[0] == 0):
        raise ValueError(f"table {future.shape} and steps {counters.shape} need a row and a counter at least")
    columns = 0 if future is None else future.shape[1]
    current = None if table is None else output("hyperparameters", hyperparameters, (types.float64,), shape=(columns,))
    element, launches = types.float32 if g is None else g.element, []
    if g is not None and vectors(g) > SMALL:
        check = typed(check_finite_kernel(accumulator(element)), element, types.int32)
        launches.append(Launch(check, [CHECK, g, flag, g.shape[0], _NOT_FINITE], *grid_of(g)))
        g = None
    arguments = [
        totals, sums, rows_array, 0.0 if counted else float(rows), mean, 0, g, _length(g), flag, skip_after_nonfinite,
        counters, _length(counters), future, _length(future), columns, current,
    ]  # fmt: skip
    numbers = types.float64
    elements = numbers, numbers, numbers, element, types.int32, types.int64, numbers, numbers
    kernel = typed(end_step_kernel(accumulator(element)), *elements)
    return [*launches, Launch(kernel, arguments, 1, (_THREADS, 1))]


def _length(vector: DeviceArray | None) -> int:
    return 0 if vector is None else vector.shape[0]


@lru_cache
def end_step_kernel(real: types.Type) -> Callable:
    """The kernel for gradients of one accumulation type; a single block, whose first thread does the sums."""
    zero = real(0)

    def finish(
        summary: Any, report: Any, rows_array: Any, rows: float, mean: bool, step: int, gradients: Any, size: int,
        found_inf: Any, skip_after: bool, steps: Any, parts: int, table: Any, table_rows: int, columns: int,
        hyperparameters: Any,
    ) -> None:  # fmt: skip
        if given(gradients):
            first, apart = cuda.threadIdx.x * width(gradients) - lead(gradients), cuda.blockDim.x * width(gradients)
            buffer = cuda.local.array(8, real)
            mark_not_finite(gradients, first, apart, size, zero, buffer, found_inf, _NOT_FINITE)
        column = cuda.threadIdx.x
        while column < columns:
            hyperparameters[column] = table[steps[0] % table_rows * columns + column]
            column += cuda.blockDim.x
        barrier()
        if cuda.threadIdx.x != 0:
            return
        for part in range(parts):
            steps[part] += 1
        if parts > 0:
            step = steps[0]
        if given(rows_array):
            rows = rows_array[0]
        loss = summary[0] if rows != 0 else 0.0  # the mean over no rows is NaN, and no error
        bad = loss - loss != 0
        skipped = False
        if given(found_inf):
            bad = bad or found_inf[0] == _NOT_FINITE or (skip_after and report[4] >= 0)
            found_inf[0] = 1 if bad else 0
            skipped = bad
        if bad and report[4] < 0:
            report[4] = float64(step)
            report[5] = summary[3]
        report[6] = loss
        if skipped:
            report[7] += 1
        else:
            report[0] += loss * summary[1] if mean else loss
            report[1] += summary[1]
            report[2] += rows
            report[3] += summary[2]

    return finish
