"""The end of a step in the simulator against its definition. Run by test_simulator.py."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from xpnet_kernels.cuda import end_step

REPORTS = [0, 0, 0, 0, -1, -1, 0, 0], [5, 4, 3, 2, 6, 1, 0.5, 1]  # a new one; one with a step that was not finite


def defined(summary, report, rows, mean, step, skipped):
    """The report after a batch; ``skipped`` is None where no step is."""
    loss, weight, correct, bad_row = summary
    sums, (first, first_row, _, skips) = report[:4], report[4:]
    loss = loss if rows else 0.0
    if first < 0 and (skipped or not math.isfinite(loss)):
        first, first_row = step, bad_row
    if not skipped:
        sums = [a + b for a, b in zip(sums, [loss * weight if mean else loss, weight, rows, correct], strict=True)]
    return [*sums, first, first_row, loss, skips + bool(skipped)]


@pytest.mark.parametrize("report", REPORTS)
@pytest.mark.parametrize("loss", [0.25, math.nan, -math.inf])
def test_a_batch_is_added_to_the_report(report, loss):
    for rows, mean in itertools.product((0, 4), (True, False)):
        summary, actual = [loss, 2.5 if rows else 0.0, 3.0, 7.0], np.array(report, float)
        for given in (rows, np.array([rows], float)):
            actual[...] = report
            end_step(np.array(summary), actual, rows=given, mean=mean, step=9)
            np.testing.assert_array_equal(actual, defined(summary, report, rows, mean, 9, None))


@pytest.mark.parametrize("size", [0, 5, 71, 2000], ids=lambda size: "two launches" if size == 2000 else str(size))
@pytest.mark.parametrize("earlier", [0, 1])
def test_a_step_that_is_not_finite_is_skipped(element, size, earlier):
    """By its loss, by a gradient, or because an earlier one was not; whatever the flag was before."""
    for report, loss, bad, skip_after in itertools.product(REPORTS, (0.25, math.inf), (None, math.nan), (False, True)):
        if bad is not None and size == 0:
            continue
        gradients = element.cast(np.random.default_rng(0).normal(size=size + 1))[1:]
        if bad is not None:
            gradients[-1:] = element.cast(np.array([bad]))
        found_inf, actual = np.array([earlier], np.int32), np.array(report, float)
        options = {"gradients": gradients, "found_inf": found_inf, "skip_after_nonfinite": skip_after}
        end_step(np.array([loss, 4.0, 3.0, -1.0]), actual, rows=4, step=9, **options)
        skipped = bad is not None or loss == math.inf or (skip_after and report[4] >= 0)
        assert found_inf[0] == skipped
        np.testing.assert_array_equal(actual, defined([loss, 4.0, 3.0, -1.0], report, 4, True, 9, skipped))


@pytest.mark.parametrize("columns", [1, 3, 40])
def test_the_numbers_of_the_next_step(columns):
    """The steps of the parts advance, and the hyperparameters are the row of this step."""
    steps, table = np.array([8, 2**32 + 8]), np.random.default_rng(0).normal(size=(5, columns))
    hyperparameters, report = np.zeros(columns), np.array(REPORTS[0], float)
    for step in (8, 9, 10):
        end_step(
            np.array([math.nan, 4.0, 3.0, -1.0]), report, rows=4, steps=steps, table=table,
            hyperparameters=hyperparameters,
        )  # fmt: skip
        assert steps.tolist() == [step + 1, 2**32 + step + 1]
        np.testing.assert_array_equal(hyperparameters, table[step % 5])
    assert report[4] == 9


def test_arguments_that_go_together():
    summary, report, flag = np.zeros(4), np.zeros(8), np.zeros(1, np.int32)
    with pytest.raises(ValueError, match="gradients and found_inf go together"):
        end_step(summary, report, rows=1, found_inf=flag)
    with pytest.raises(ValueError, match="table needs steps"):
        end_step(summary, report, rows=1, table=np.zeros((2, 1)), hyperparameters=np.zeros(1))
    steps, table, current = np.zeros(1, np.int64), np.zeros((2, 1)), np.zeros(1)
    for some in ({"steps": steps, "table": table[:0]}, {"steps": steps[:0], "table": table}):
        with pytest.raises(ValueError, match="need a row and a counter at least"):
            end_step(summary, report, rows=1, hyperparameters=current, **some)
    with pytest.raises(ValueError, match=r"report must have the shape \(8,\), not \(7,\)"):
        end_step(summary, report[:7], rows=1)
