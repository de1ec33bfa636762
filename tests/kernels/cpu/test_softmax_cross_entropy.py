"""The softmax cross-entropy against its equations in float64: what comes out, and how precisely."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xpnet_kernels.cpu import softmax_cross_entropy

# Few classes; the boundary to one row at a time; one chunk of a row, its boundary, several chunks.
CLASSES = [1, 2, 10, 64, 65, 100, 1000, 2048, 2049, 5000]
DTYPES = [np.float32, np.float64]


def logits_of_kind(kind: str, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    rows, classes = shape
    z = rng.normal(size=shape)
    if kind == "huge":
        z *= 1e30
    elif kind == "tiny":
        z *= 1e-30
    elif kind == "wide":
        z *= 40
    elif kind == "equal":
        z[:] = z[:, :1]
    elif kind == "equal but one":
        z[:] = -abs(z[:, :1])
        z[np.arange(rows), rng.integers(0, classes, rows)] = 0
    elif kind == "confident":
        z[np.arange(rows), rng.integers(0, classes, rows)] += 30
    elif kind == "rising":
        z[:] = np.sort(z * 5, axis=1)
    elif kind == "far from zero":
        z += 5000
    elif kind == "with -inf":
        z[rng.random(shape) < 0.6] = -np.inf
        z[np.arange(rows), rng.integers(0, classes, rows)] = 1.0
    return z


KINDS = [
    "normal",
    "huge",
    "tiny",
    "wide",
    "equal",
    "equal but one",
    "confident",
    "rising",
    "far from zero",
    "with -inf",
]


@st.composite
def cases(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(st.integers(1, 12)), draw(st.sampled_from(CLASSES))
    kind = draw(st.sampled_from(KINDS))
    logits = logits_of_kind(kind, shape, rng).astype(dtype)
    labels = rng.integers(0, shape[1], shape[0])
    options = {}
    if draw(st.booleans()):
        if draw(st.booleans()):
            options["class_weights"] = rng.random(shape[1]).astype(dtype) * 2
        if draw(st.booleans()):
            options["row_weights"] = rng.random(shape[0]).astype(dtype) * 2
        if draw(st.booleans()):
            options["label_smoothing"] = draw(st.sampled_from([0.1, 0.5, 1.0]))
        if draw(st.booleans()) and kind != "huge":  # whose square is infinite in single precision
            options["z_loss"] = draw(st.sampled_from([1e-4, 0.1]))
        if draw(st.booleans()):
            options["ignore_index"] = int(labels[0]) if draw(st.booleans()) else -100
    label_type = draw(st.sampled_from([np.int64, np.int32, np.uint16, np.int16, "dense", "one-hot"]))
    if label_type == "dense":
        labels = rng.dirichlet(np.full(shape[1], 0.3), shape[0]).astype(dtype)
    elif label_type == "one-hot":
        labels = np.eye(shape[1], dtype=dtype)[labels]
    else:
        labels = labels.astype(label_type)
    if labels.ndim == 2:
        options.pop("ignore_index", None)
    options["reduction"] = reduction = draw(st.sampled_from(["mean", "sum", "none"]))
    if draw(st.booleans()):
        options["upstream"] = rng.normal(size=shape[0]).astype(dtype) if reduction == "none" else 3.0
    return logits, labels, options


class Results:
    """Everything the kernel writes, and the call that writes it."""

    def __init__(self, logits, labels, gradient=True, extras=True, **options):
        dtype, (rows, classes) = logits.dtype, logits.shape
        self.summary, self.losses = np.full(4, 7.0), np.full(rows, 7, dtype)
        self.gradient = np.full((rows, classes), 7, dtype) if gradient is True else gradient
        self.log_sum_exp = np.full(rows, 7, dtype) if extras else None
        self.predictions = np.full(rows, 7) if extras else None
        outputs = vars(self)
        softmax_cross_entropy(logits, labels, **outputs, **options)

    def arrays(self):
        return [array for array in vars(self).values() if array is not None]


def assert_within(actual, expected, bound):
    expected, bound = np.broadcast_arrays(expected, bound)
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(np.asarray(actual)[~finite], expected[~finite])
    errors = np.abs(np.asarray(actual)[finite] - expected[finite])
    assert (errors <= bound[finite]).all(), f"an error of {(errors / bound[finite]).max()} bounds"


def assert_as_expected(results, expected, reduction="mean"):
    """Within 2e-7 (mean loss, gradient) or 1e-6 (a row's loss), relative to what the row weighs; 1e-14 and 5e-14.

    The float64 sums over the classes come on top, in any order, since that follows the width of the processor's
    vectors. A sum of n terms of one sign has a relative error of at most n · 2⁻⁵³ (Higham, "Accuracy and Stability of
    Numerical Algorithms", 2nd edition, 2002, section 4.2). Σ exp moves the log-sum-exp by that, and so the loss by it
    times the leverage. Σ w q and Σ w q (top - z), whose terms are not negative, move the loss by that part of it. The
    gradient has two such sums, in its numerator and in its denominator.
    """
    unit = 2e-7 if results.losses.dtype == np.float32 else 1e-14
    sums = results.gradient.shape[1] * 2.0**-53
    leverage, losses = expected.leverage, np.abs(expected.losses)
    total = 1 / expected.weights if reduction == "mean" and expected.weights else 1
    of_loss = unit * max(leverage.sum(), losses.sum()) + sums * (leverage + losses).sum()
    of_gradient = (unit + 2 * sums) * leverage * np.abs(expected.scale)
    assert_within(results.losses, expected.losses, 5 * unit * np.maximum(leverage, losses) + sums * (leverage + losses))
    assert_within(results.summary[0], expected.loss, of_loss * total)
    assert_within(results.summary[1], expected.weights, 1e-12 * expected.weights)
    assert results.summary[2:].tolist() == [expected.correct, -1]
    assert_within(results.gradient, expected.gradient, of_gradient[:, None])
    L = np.abs(expected.log_sum_exp)
    assert_within(results.log_sum_exp, expected.log_sum_exp, unit * np.maximum(1, L) + sums)
    np.testing.assert_array_equal(results.predictions, expected.predictions)


@given(cases())
@settings(max_examples=300, deadline=None, derandomize=True)
def test_errors_stay_within_the_bounds(expected, case):
    logits, labels, options = case
    assert_as_expected(Results(logits, labels, **options), expected(logits, labels, **options), options["reduction"])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [10, 1000, 5000])
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}], ids=["plain", "smoothed"])
class TestOneResult:
    """However a call is made, it computes the same bits."""

    @pytest.fixture
    def batch(self, dtype, classes):
        rng = np.random.default_rng(classes)
        return rng.normal(size=(9, classes)).astype(dtype), rng.integers(0, classes, 9)

    def test_any_memory_layout(self, batch, options, place):
        logits, labels = batch
        gradient = place(np.zeros_like(logits))
        gradient = gradient if gradient.flags.writeable else True
        results = Results(place(logits), place(labels), gradient, **options)
        for array, reference in zip(results.arrays(), Results(logits, labels, **options).arrays(), strict=True):
            np.testing.assert_array_equal(array, reference)

    def test_in_place(self, batch, options):
        logits, labels = batch
        for extras in (True, False):
            reference = Results(logits, labels, extras=extras, **options)
            overwritten = logits.copy()
            results = Results(overwritten, labels, overwritten, extras, in_place=True, **options)
            np.testing.assert_array_equal(overwritten, reference.gradient)
            np.testing.assert_array_equal(results.losses, reference.losses)
            np.testing.assert_array_equal(results.summary, reference.summary)

    def test_in_place_through_another_view(self, batch, options):
        logits, labels = batch
        overwritten = logits.copy()
        Results(overwritten[:], labels, overwritten[:], in_place=True, **options)
        np.testing.assert_array_equal(overwritten, Results(logits, labels, **options).gradient)

    def test_in_place_allows_an_array_apart(self, batch, options):
        logits, labels = batch
        results = Results(logits, labels, in_place=True, **options)
        np.testing.assert_array_equal(results.gradient, Results(logits, labels, **options).gradient)

    def test_without_the_gradient(self, batch, options):
        logits, labels = batch
        reference, results = Results(logits, labels, **options), Results(logits, labels, None, **options)
        np.testing.assert_array_equal(results.losses, reference.losses)
        np.testing.assert_array_equal(results.summary, reference.summary)
        np.testing.assert_array_equal(results.predictions, reference.predictions)

    def test_one_hot_rows_are_labels(self, batch, options):
        logits, labels = batch
        one_hot = np.eye(logits.shape[1], dtype=logits.dtype)[labels]
        dense, reference = Results(logits, one_hot, **options), Results(logits, labels, **options)
        tolerance = 5e-7 if logits.dtype == np.float32 else 1e-14
        sums = 2 * logits.shape[1] * 2.0**-53  # of both, in any order: see assert_as_expected
        assert_within(dense.losses, reference.losses, tolerance * reference.losses + sums * (1 + reference.losses))
        np.testing.assert_allclose(dense.gradient, reference.gradient, atol=(tolerance + 2 * sums) / 9)
        assert dense.summary[2] == reference.summary[2]


@pytest.mark.parametrize("shape", [(70_000, 16), (1500, 1000), (30, 40_000)])
@pytest.mark.parametrize("options", [{}, {"z_loss": 1e-3}], ids=["plain", "z-loss"])
@pytest.mark.parametrize("extras", [True, False])
def test_the_number_of_threads_changes_no_bit(monkeypatch, shape, options, extras):
    rng = np.random.default_rng(1)
    logits, labels = rng.normal(size=shape).astype(np.float32), rng.integers(0, shape[1], shape[0])
    outputs = []
    for threads in ("1", "2", "5"):
        monkeypatch.setenv("XPNET_NUM_THREADS", threads)
        outputs.append(Results(logits, labels, extras=extras, **options).arrays())
    for arrays in outputs[1:]:
        for array, reference in zip(arrays, outputs[0], strict=True):
            np.testing.assert_array_equal(array, reference)


@pytest.mark.parametrize("classes", [10, 3000])
@pytest.mark.parametrize("position", ["first", "last"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("extras", [False, True])
def test_a_row_that_is_not_finite_is_nan_and_alone_in_it(classes, position, bad, in_place, extras):
    rng = np.random.default_rng(2)
    logits, labels = rng.normal(size=(3, classes)).astype(np.float32), np.array([1, 2, 3])
    clean = Results(logits[[0, 2]], labels[[0, 2]], extras=extras, reduction="sum")
    logits[1, 0 if position == "first" else -1] = bad
    predictions = logits.argmax(axis=1)
    results = Results(logits, labels, logits if in_place else True, extras, reduction="sum", in_place=in_place)
    assert np.isnan(results.losses[1])
    assert np.isnan(results.gradient[1]).all()
    assert np.isnan(results.summary[0])
    np.testing.assert_array_equal(results.losses[[0, 2]], clean.losses)
    np.testing.assert_array_equal(results.gradient[[0, 2]], clean.gradient)
    if extras:
        np.testing.assert_array_equal(results.predictions, predictions)
    assert results.summary[2] == (predictions == labels).sum()


@pytest.mark.parametrize("classes", [10, 3000])
@pytest.mark.parametrize("extras", [False, True])
def test_a_nan_is_the_prediction_wherever_the_largest_logit_is(classes, extras):
    logits = np.zeros((2, classes), np.float32)
    logits[0, [1, 5]] = np.inf, np.nan
    logits[1, [classes - 2, classes - 1]] = np.nan, 3
    assert Results(logits, np.array([5, classes - 2]), extras=extras).summary[2] == 2


@pytest.mark.parametrize("classes", [10, 3000])
def test_a_row_of_minus_infinities_is_nan(classes):
    results = Results(np.full((1, classes), -np.inf, np.float32), np.array([0]))
    assert np.isnan(results.losses[0])
    assert np.isnan(results.gradient).all()
    assert results.log_sum_exp[0] == -np.inf
    assert results.predictions[0] == 0


@pytest.mark.parametrize("classes", [10, 3000])
@pytest.mark.parametrize("labels", ["classes", "probabilities"])
def test_minus_infinity_adds_nothing_where_the_target_is_zero(classes, labels):
    logits = np.zeros((1, classes), np.float32)
    logits[0, 1::2] = -np.inf
    target = np.array([0]) if labels == "classes" else np.eye(classes, dtype=np.float32)[:1]
    results = Results(logits, target)
    assert results.losses[0] == pytest.approx(math.log(classes / 2), rel=1e-6)
    assert (results.gradient[0, 1::2] == 0).all()


@pytest.mark.parametrize("classes", [10, 3000])
@pytest.mark.parametrize("options", [{"ignore_index": 7}, {"row_weights": np.array([1, 0, 1], np.float32)}])
def test_ignored_rows_may_hold_anything(classes, options):
    rng = np.random.default_rng(3)
    logits, labels = rng.normal(size=(3, classes)).astype(np.float32), np.array([1, 7, 3])
    logits[1] = [np.nan, np.inf] * (classes // 2)
    results, reference = Results(logits, labels, **options), Results(logits[[0, 2]], labels[[0, 2]])
    assert results.losses[1] == 0
    assert (results.gradient[1] == 0).all()
    np.testing.assert_array_equal(results.gradient[[0, 2]], reference.gradient)
    np.testing.assert_array_equal(results.summary, reference.summary)


def test_in_place_in_descending_order_when_the_last_block_is_one_row():
    logits = np.random.default_rng(0).normal(size=(2**18 // 64 * 4 + 1, 64)).astype(np.float32)
    labels, rows = np.zeros(len(logits), np.int64), len(logits)
    descending = logits[::-1].copy()[::-1]
    results = []
    for z, in_place in ((logits, False), (descending, True)):
        losses, gradient = np.empty(rows, np.float32), z if in_place else np.empty_like(z)
        softmax_cross_entropy(z, labels, summary=np.empty(4), losses=losses, gradient=gradient, in_place=in_place)
        results.append((losses, gradient))
    np.testing.assert_allclose(results[1][0], results[0][0], rtol=1e-6)
    np.testing.assert_allclose(results[1][1], results[0][1], atol=1e-10)


@pytest.mark.parametrize("extras", [True, False])
@pytest.mark.parametrize("rows", [3, 7, 100])
def test_the_gradient_of_a_saturated_row_keeps_its_sign(rows, extras):
    logits = np.zeros((rows, 10), np.float32)
    logits[:, 4] = 25
    gradient, more = np.empty_like(logits), {"predictions": np.empty(rows, np.int64)} if extras else {}
    labels = np.full(rows, 4)
    softmax_cross_entropy(logits, labels, summary=np.empty(4), losses=np.empty(rows, "f"), gradient=gradient, **more)
    p = np.exp(-25.0) / (1 + 9 * np.exp(-25.0))
    np.testing.assert_allclose(gradient[:, 4] * rows, -9 * p, rtol=1e-5)
    np.testing.assert_allclose(gradient[:, 0] * rows, p, rtol=1e-6)


def test_the_mean_of_nothing_is_nan():
    ignored = Results(np.zeros((2, 3), np.float32), np.array([1, 1]), ignore_index=1)
    assert np.isnan(ignored.summary[0])
    assert ignored.summary[1:].tolist() == [0, 0, -1]
    assert (ignored.gradient == 0).all()
    empty = Results(np.zeros((0, 3), np.float32), np.zeros(0, np.int64))
    assert np.isnan(empty.summary[0])
    assert empty.summary[1:].tolist() == [0, 0, -1]


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (0, 100), (3, 1)])
@pytest.mark.parametrize("dense", [False, True])
def test_shapes_at_the_edge(shape, dense):
    labels = np.ones(shape, np.float32) if dense else np.zeros(shape[0], np.int64)
    results = Results(np.zeros(shape, np.float32), labels, reduction="sum")
    assert results.summary.tolist() == [0, shape[0], shape[0], -1]


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 10, 65, 3000]), st.floats(-1e4, 1e4, width=32))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_a_shift_of_all_logits_changes_little(seed, classes, shift):
    rng = np.random.default_rng(seed)
    logits = (rng.integers(-64, 64, (3, classes)) / 8).astype(np.float64)  # so that the sum is exact
    labels = rng.integers(0, classes, 3)
    shifted, reference = Results(logits + round(shift), labels), Results(logits, labels)
    np.testing.assert_array_equal(shifted.gradient, reference.gradient)
    np.testing.assert_array_equal(shifted.losses, reference.losses)


def test_offsets_beyond_31_bits(tmp_path):
    # A sparse file: four rows, four gibibytes apart, of which only their beginnings exist.
    far_apart = np.memmap(tmp_path / "sparse", np.float32, "w+", shape=(4, 2**30))
    logits, gradient = far_apart[:, :2100], far_apart[:, 2**20 : 2**20 + 2100]
    logits[:] = np.random.default_rng(4).normal(size=logits.shape)
    labels = np.arange(4)
    results, reference = Results(logits, labels, gradient), Results(np.array(logits), labels)
    np.testing.assert_array_equal(results.gradient, reference.gradient)
    np.testing.assert_array_equal(results.losses, reference.losses)
