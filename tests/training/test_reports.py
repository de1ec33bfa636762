"""xpnet.training.reports: the report vector against sums kept by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

import xpnet
from xpnet import ops
from xpnet.backends import Backend
from xpnet.training import reports
from xpnet.training.reports import (
    BAD_LABEL_ROW,
    CORRECT,
    COUNT,
    FIRST_NON_FINITE_STEP,
    LAST_LOSS,
    LENGTH,
    LOSS_SUM,
    WEIGHT,
)

BATCHES = [(2.5, 100, 7), (0.5, 100, 60), (1.25, 37, 30)]  # mean loss, rows, correct


def accumulate(backend, report, batches, first_step: int = 0) -> None:
    for step, (loss, rows, correct) in enumerate(batches, start=first_step):
        figures = backend.asarray(loss, "float64"), None, backend.asarray(correct, "float64"), None
        ops.end_step(backend, report, ops.BatchLoss(*figures, weight=rows, rows=rows), step)


def test_a_new_report(backend) -> None:
    report = reports.new_report(backend)
    assert report.dtype == backend.xp.float64
    assert backend.to_numpy(report).tolist() == [0.0, 0.0, 0.0, 0.0, -1.0, -1.0, 0.0, 0.0]


def test_sums_over_batches_of_different_sizes(backend) -> None:
    report = reports.new_report(backend)
    accumulate(backend, report, BATCHES)
    values = backend.to_numpy(report)
    assert len(values) == LENGTH
    assert values[LOSS_SUM] == 2.5 * 100 + 0.5 * 100 + 1.25 * 37
    assert values[COUNT] == 237
    assert values[CORRECT] == 97
    assert values[FIRST_NON_FINITE_STEP] == -1
    assert values[LAST_LOSS] == 1.25
    assert values[WEIGHT] == 237


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_the_first_step_that_is_not_finite_stays(backend, bad) -> None:
    report = reports.new_report(backend)
    batches = [(1.0, 4, 2), (bad, 4, 1), (1.0, 4, 2), (math.nan, 4, 0)]
    accumulate(backend, report, batches[:2], first_step=10)
    assert backend.to_numpy(report)[FIRST_NON_FINITE_STEP] == 11
    accumulate(backend, report, batches[2:], first_step=12)
    values = backend.to_numpy(report)
    assert values[FIRST_NON_FINITE_STEP] == 11
    assert not math.isfinite(values[LOSS_SUM])
    assert math.isnan(values[LAST_LOSS])
    assert values[CORRECT] == 5


def test_the_first_step_counts_from_zero(backend) -> None:
    report = reports.new_report(backend)
    accumulate(backend, report, [(math.nan, 1, 0), (math.nan, 1, 0)])
    assert backend.to_numpy(report)[FIRST_NON_FINITE_STEP] == 0


def test_it_takes_what_the_loss_gives(backend) -> None:
    report = reports.new_report(backend)
    logits = np.zeros((4, 3), np.float32)
    result = ops.softmax_cross_entropy(backend, backend.asarray(logits), backend.asarray([0, 0, 1, 2]))
    ops.end_step(backend, report, result, 0)
    np.testing.assert_allclose(backend.to_numpy(report), [4 * math.log(3), 4, 4, 2, -1, -1, math.log(3), 0], rtol=1e-6)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_the_mean_loss_is_that_of_all_rows_by_their_weights_whatever_the_reduction(backend, reduction) -> None:
    """Two batches with other weights in each, against one pass over both."""
    logits, labels = np.random.default_rng(0).normal(size=(7, 3)), np.array([0, 2, -1, 1, 1, -1, 2])
    options = {"class_weights": backend.asarray([0.5, 1.0, 4.0]), "ignore_index": -1}
    whole = ops.softmax_cross_entropy(backend, backend.asarray(logits), backend.asarray(labels), **options)
    report = reports.new_report(backend)
    for rows in (slice(0, 3), slice(3, 7)):
        batch = backend.asarray(logits[rows]), backend.asarray(labels[rows])
        ops.end_step(backend, report, ops.softmax_cross_entropy(backend, *batch, **options, reduction=reduction), 0)
    loss, accuracy = reports.means(backend.to_numpy(report).tolist())
    assert loss == pytest.approx(float(whole.loss), rel=1e-13)
    assert accuracy == float(whole.correct) / 5


def test_a_batch_of_which_no_row_counts_adds_nothing(backend) -> None:
    report = reports.new_report(backend)
    accumulate(backend, report, [(2.0, 3, 1)])
    before = backend.to_numpy(report).tolist()
    logits, labels = backend.asarray(np.zeros((2, 3))), backend.asarray([-1, -1])
    result = ops.softmax_cross_entropy(backend, logits, labels, ignore_index=-1)
    assert math.isnan(float(result.loss))
    ops.end_step(backend, report, result, 1)
    after = backend.to_numpy(report).tolist()
    assert (after.pop(LAST_LOSS), before.pop(LAST_LOSS)) == (0.0, 2.0)
    assert after == before


def test_the_mean_over_no_rows_is_nan() -> None:
    assert all(map(math.isnan, reports.means([0.0] * LENGTH)))


def test_a_bad_label_is_told_when_the_report_is_read(backend) -> None:
    """Where reading is free it was told at once; see tests/ops/test_cross_entropy.py."""
    report, logits = reports.new_report(backend), backend.asarray(np.zeros((4, 3), np.float32))
    for step, labels in enumerate([[0, 1, 2, 0], [0, 1, 3, -1], [7, 0, 0, 0]]):
        if backend.synchronous and step > 0:
            with pytest.raises(xpnet.OutOfRangeError):
                ops.softmax_cross_entropy(backend, logits, backend.asarray(labels))
            continue
        ops.end_step(backend, report, ops.softmax_cross_entropy(backend, logits, backend.asarray(labels)), step)
    if backend.synchronous:
        assert reports.read(backend, report)[BAD_LABEL_ROW] == -1
        return
    with pytest.raises(xpnet.OutOfRangeError, match="label at row 2 of the batch of step 1 is outside the classes"):
        reports.read(backend, report)


def test_a_loss_that_is_not_finite_is_no_bad_label(backend) -> None:
    report, logits = reports.new_report(backend), backend.asarray(np.full((2, 3), -np.inf, np.float32))
    with backend.ignoring_overflow():
        result = ops.softmax_cross_entropy(backend, logits, backend.asarray([0, 1]))
        ops.end_step(backend, report, result, 5)
    values = reports.read(backend, report)
    assert (values[FIRST_NON_FINITE_STEP], values[BAD_LABEL_ROW]) == (5, -1)


def test_a_fused_kernels_word_of_a_bad_label_reaches_the_report() -> None:
    """A stand-in for CUDA's: it writes the row into the summary, as kernels/README.md says."""

    def kernel(logits, labels, *, summary, losses, gradient=None, **options) -> None:
        bad = (labels < 0) | (labels >= logits.shape[1])
        summary[...] = [math.nan if bad.any() else 1.0, len(labels), 0.0, bad.argmax() if bad.any() else -1.0]
        losses[...] = 0.0

    device = Backend("stand-in", np, "cpu", kernels=SimpleNamespace(softmax_cross_entropy=kernel))
    report, logits = reports.new_report(device), np.zeros((4, 3), np.float32)
    for step, labels in enumerate([[0, 1, 2, 0], [0, 1, 5, 3]]):
        reports.read(device, report)
        ops.end_step(device, report, ops.softmax_cross_entropy(device, logits, np.array(labels), gradient=False), step)
    with pytest.raises(xpnet.OutOfRangeError, match="label at row 2 of the batch of step 1 is outside the classes"):
        reports.read(device, report)
