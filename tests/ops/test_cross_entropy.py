"""xpnet.ops.cross_entropy: against exactly rounded sums in float64, central differences, and golden values."""

from __future__ import annotations

import math

import numpy as np
import pytest

import xpnet
from xpnet import ops

# Published values: one row of a batch of five, label 5; the gradient is that of the mean over the batch.
GOLDEN_LOGITS = [
    0.23803018, -0.60876001, -0.09301643, 0.00427339, -0.33886057,
    -0.27702036, -0.20515165, -0.10377825, -0.26617169, 0.35262371,
]  # fmt: skip
GOLDEN_SOFTMAX = [
    0.13936297, 0.05975732, 0.10008654, 0.11031336, 0.07827209,
    0.08326525, 0.0894697, 0.0990152, 0.08417349, 0.15628408,
]  # fmt: skip
GOLDEN_GRADIENT = [
    0.02787259, 0.01195146, 0.02001731, 0.02206267, 0.01565442,
    -0.18334695, 0.01789394, 0.01980304, 0.0168347, 0.03125682,
]  # fmt: skip

INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
TOLERANCE = {"float32": 2e-6, "float64": 1e-14}


def exact_softmax(row) -> list[float]:
    top = max(row)
    weights = [math.exp(z - top) for z in row]
    total = math.fsum(weights)
    return [weight / total for weight in weights]


def exact_losses(logits: np.ndarray, targets: np.ndarray) -> list[float]:
    """-Σ t log softmax(z) for each row, classes of no weight left out."""
    losses = []
    for row, target in zip(logits.tolist(), targets.tolist(), strict=True):
        top = max(row)
        log_sum = math.log(math.fsum(math.exp(z - top) for z in row))  # of the logits less the largest
        losses.append(math.fsum(t * (top - z + log_sum) for t, z in zip(target, row, strict=True) if t))
    return losses


def exact_gradient(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    probabilities = np.array([exact_softmax(row) for row in logits.tolist()])
    return (probabilities * targets.sum(axis=1, keepdims=True) - targets) / len(logits)


def one_hot(labels, classes: int) -> np.ndarray:
    return (np.asarray(labels, np.int64)[:, np.newaxis] == np.arange(classes)).astype(np.float64)


def check(backend, logits, labels, targets, tolerance: float) -> None:
    """Everything the operation returns, against the definitions."""
    result = ops.softmax_cross_entropy(backend, backend.asarray(logits), backend.asarray(labels))
    losses, wide = exact_losses(logits, targets), logits.astype(np.float64)
    assert result.loss.shape == result.correct.shape == ()
    assert result.loss.dtype == result.correct.dtype == backend.xp.float64
    assert result.losses.dtype == result.gradient.dtype == getattr(backend.xp, logits.dtype.name)
    close = {"rtol": tolerance, "atol": tolerance}
    np.testing.assert_allclose(backend.to_numpy(result.losses), losses, **close)
    np.testing.assert_allclose(float(result.loss), math.fsum(losses) / len(losses), **close)
    np.testing.assert_allclose(backend.to_numpy(result.gradient), exact_gradient(wide, targets), **close)
    assert float(result.correct) == np.sum(wide.argmax(axis=1) == targets.argmax(axis=1))


@pytest.mark.parametrize("dtype", TOLERANCE)
class TestEquation:
    @pytest.mark.parametrize("shape", [(1, 1), (1, 2), (7, 10), (3, 1001), (2, 5000)])
    def test_class_indices(self, backend, numbers, shape, dtype) -> None:
        logits = (3 * numbers(shape)).astype(dtype)
        labels = np.arange(1, shape[0] + 1) * 7 % shape[1]
        check(backend, logits, labels, one_hot(labels, shape[1]), TOLERANCE[dtype])

    @pytest.mark.parametrize("scale", [1.0, 2.5], ids=["summing to 1", "summing to 2.5"])
    def test_rows_of_probabilities(self, backend, numbers, dtype, scale) -> None:
        logits = (3 * numbers((7, 10))).astype(dtype)
        targets = (abs(numbers((7, 10))) * (numbers((7, 10)) > 0)).astype(dtype)
        targets[:, 0] += 0.1
        targets *= scale / targets.sum(axis=1, keepdims=True)
        check(backend, logits, targets, targets.astype(np.float64), TOLERANCE[dtype])

    @pytest.mark.parametrize("label_type", ["bool", "uint8", "int64", "float32", "float64"])
    def test_one_hot_rows_of_any_type(self, backend, numbers, label_type, dtype) -> None:
        logits, labels = numbers((4, 3)).astype(dtype), [2, 0, 1, 1]
        hot = one_hot(labels, 3)
        check(backend, logits, hot.astype(label_type), hot, TOLERANCE[dtype])

    def test_equal_logits_cost_the_logarithm_of_their_number(self, backend, dtype) -> None:
        for classes in (2, 10, 1000):
            logits = backend.asarray(np.full((3, classes), -5.0), dtype)
            result = ops.softmax_cross_entropy(backend, logits, backend.asarray([0, 1, 1]))
            assert float(result.loss) == pytest.approx(math.log(classes), rel=TOLERANCE[dtype])

    def test_no_rows(self, backend, dtype) -> None:
        logits, labels = backend.asarray(np.zeros((0, 3)), dtype), backend.asarray(np.zeros(0, np.int64))
        result = ops.softmax_cross_entropy(backend, logits, labels)
        assert math.isnan(float(result.loss))  # the mean of nothing
        assert float(result.correct) == 0.0
        assert result.losses.shape == (0,)
        assert result.gradient.shape == (0, 3)


@pytest.mark.parametrize("dtype", TOLERANCE)
class TestGolden:
    def test_softmax(self, backend, dtype) -> None:
        y = ops.softmax(backend, backend.asarray([GOLDEN_LOGITS], dtype))
        np.testing.assert_allclose(backend.to_numpy(y), [GOLDEN_SOFTMAX], rtol=0, atol=1e-7)

    def test_gradient(self, backend, numbers, dtype) -> None:
        logits = backend.asarray(np.vstack([GOLDEN_LOGITS, numbers((4, 10))]), dtype)
        result = ops.softmax_cross_entropy(backend, logits, backend.asarray([5, 0, 1, 2, 3], "uint8"))
        np.testing.assert_allclose(backend.to_numpy(result.gradient)[0], GOLDEN_GRADIENT, rtol=0, atol=1e-7)
        assert float(result.losses[0]) == pytest.approx(-math.log(GOLDEN_SOFTMAX[5]), abs=1e-6)


class TestInvariants:
    @pytest.mark.parametrize("dtype", TOLERANCE)
    def test_a_shift_of_all_logits_changes_nothing(self, backend, numbers, dtype) -> None:
        logits = np.round(4 * numbers((5, 8)))  # whole numbers, so that adding 1e6 is exact
        labels = backend.asarray([0, 1, 2, 3, 4])
        results = [
            ops.softmax_cross_entropy(backend, backend.asarray(logits + shift, dtype), labels)
            for shift in (0.0, 1e6, -1e6)
        ]
        for field in ("losses", "gradient"):
            here, *there = (backend.to_numpy(getattr(result, field)) for result in results)
            for shifted in there:
                np.testing.assert_allclose(shifted, here, rtol=0, atol=TOLERANCE[dtype])

    def test_rows_do_not_see_each_other(self, backend, numbers) -> None:
        logits, labels, order = numbers((6, 5)), np.array([0, 4, 2, 2, 1, 3]), np.array([3, 0, 5, 1, 4, 2])
        straight = ops.softmax_cross_entropy(backend, backend.asarray(logits), backend.asarray(labels))
        permuted = ops.softmax_cross_entropy(backend, backend.asarray(logits[order]), backend.asarray(labels[order]))
        for field in ("losses", "gradient"):
            expected = backend.to_numpy(getattr(straight, field))[order]
            np.testing.assert_allclose(backend.to_numpy(getattr(permuted, field)), expected, rtol=1e-14)
        assert float(permuted.loss) == pytest.approx(float(straight.loss), rel=1e-14)

    def test_each_row_of_the_gradient_sums_to_zero(self, backend, numbers) -> None:
        result = ops.softmax_cross_entropy(
            backend, backend.asarray(numbers((6, 9))), backend.asarray([0, 1, 2, 3, 4, 5])
        )
        np.testing.assert_allclose(backend.to_numpy(result.gradient).sum(axis=1), np.zeros(6), atol=1e-16)

    @pytest.mark.parametrize("dtype", TOLERANCE)
    def test_an_array_in_another_layout_gives_the_same(self, backend, numbers, dtype) -> None:
        logits, labels = numbers((5, 4)).astype(dtype), backend.asarray([0, 1, 2, 3, 0])
        turned = backend.xp.matrix_transpose(backend.asarray(np.ascontiguousarray(logits.T)))
        here, there = (ops.softmax_cross_entropy(backend, array, labels) for array in (backend.asarray(logits), turned))
        np.testing.assert_allclose(
            backend.to_numpy(there.gradient), backend.to_numpy(here.gradient), rtol=0, atol=TOLERANCE[dtype]
        )

    @pytest.mark.parametrize("logits_order", ["C", "F"])
    @pytest.mark.parametrize("label_type", ["int64", "float64"])
    def test_one_hot_labels_in_fortran_order(self, backend, numbers, label_type, logits_order) -> None:
        logits, hot = numbers((5, 4)), one_hot([0, 1, 2, 3, 0], 4)
        labels = np.asfortranarray(hot.astype(label_type))
        check(backend, np.asarray(logits, order=logits_order), labels, hot, 1e-14)


class TestGradient:
    @pytest.mark.parametrize("kind", ["indices", "probabilities"])
    def test_it_is_the_derivative_of_the_loss(self, backend, numbers, assert_derivative, kind) -> None:
        logits = numbers((4, 5))
        labels = np.array([4, 0, 2, 2]) if kind == "indices" else abs(numbers((4, 5)))
        labels = backend.asarray(labels)

        def loss(at: np.ndarray) -> float:
            return float(ops.softmax_cross_entropy(backend, backend.asarray(at), labels).loss)

        result = ops.softmax_cross_entropy(backend, backend.asarray(logits), labels)
        assert_derivative(backend.to_numpy(result.gradient), loss, logits)

    def test_out_is_filled_and_returned(self, backend, numbers) -> None:
        logits, labels = backend.asarray(numbers((4, 5))), backend.asarray([4, 0, 2, 2])
        fresh = ops.softmax_cross_entropy(backend, logits, labels)
        out = backend.xp.full_like(logits, np.nan)
        assert ops.softmax_cross_entropy(backend, logits, labels, out=out).gradient is out
        np.testing.assert_array_equal(backend.to_numpy(out), backend.to_numpy(fresh.gradient))

    def test_without_the_gradient_the_figures_are_the_same(self, backend, numbers) -> None:
        logits, labels = backend.asarray(numbers((4, 5))), backend.asarray([4, 0, 2, 2])
        both, one = (ops.softmax_cross_entropy(backend, logits, labels, gradient=g) for g in (True, False))
        assert one.gradient is None
        assert (float(one.loss), float(one.correct)) == (float(both.loss), float(both.correct))

    def test_the_logits_are_left_alone(self, backend, numbers) -> None:
        before = numbers((4, 5))
        logits, labels = backend.asarray(before.copy()), backend.asarray([4, 0, 2, 2])
        ops.softmax_cross_entropy(backend, logits, labels)
        np.testing.assert_array_equal(backend.to_numpy(logits), before)
        assert backend.to_numpy(labels).tolist() == [4, 0, 2, 2]


@pytest.mark.parametrize("dtype", TOLERANCE)
class TestExtremes:
    @pytest.mark.parametrize(
        "row",
        [[1e4, 0.0, -1e4], [1e38, 1e38, -1e38], [1e-30, 0.0, -1e-30], [88.0, -88.0, 0.0], [-np.inf, 1.0, 2.0]],
        ids=str,
    )
    def test_huge_tiny_and_infinitely_small_logits(self, backend, row, dtype) -> None:
        logits = np.array([row, row, row], dtype)
        labels = [1, 2, 1] if row[0] == -np.inf else [0, 1, 2]
        check(backend, logits, labels, one_hot(labels, 3), TOLERANCE[dtype])

    def test_an_impossible_label_costs_infinity_and_keeps_its_gradient(self, backend, dtype) -> None:
        logits = backend.asarray([[-np.inf, 0.0, 0.0]], dtype)
        result = ops.softmax_cross_entropy(backend, logits, backend.asarray([0]))
        assert float(result.loss) == math.inf
        np.testing.assert_allclose(backend.to_numpy(result.gradient), [[-1.0, 0.5, 0.5]], rtol=1e-6)

    @pytest.mark.parametrize("kind", ["indices", "rows"])
    def test_a_class_of_no_weight_adds_nothing_though_its_logit_is_minus_infinity(self, backend, dtype, kind) -> None:
        logits = backend.asarray([[0.0, 0.0, -np.inf]], dtype)
        labels = backend.asarray([1] if kind == "indices" else [[0.0, 1.0, 0.0]])
        result = ops.softmax_cross_entropy(backend, logits, labels)
        assert float(result.loss) == pytest.approx(math.log(2), rel=1e-6)
        np.testing.assert_allclose(backend.to_numpy(result.gradient), [[0.5, -0.5, 0.0]], rtol=1e-6)

    @pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # NumPy's, on its way to NaN
    @pytest.mark.parametrize("row", [[np.nan, 0.0], [np.inf, 0.0], [-np.inf, -np.inf]], ids=str)
    def test_a_row_that_means_nothing_is_nan_and_the_others_are_right(self, backend, row, dtype) -> None:
        result = ops.softmax_cross_entropy(backend, backend.asarray([[0.0, 0.0], row], dtype), backend.asarray([0, 1]))
        assert math.isnan(float(result.loss))
        np.testing.assert_allclose(backend.to_numpy(result.losses), [math.log(2), np.nan], rtol=1e-6)
        gradient = backend.to_numpy(result.gradient)
        np.testing.assert_allclose(gradient, [[-0.25, 0.25], [np.nan, np.nan]], rtol=1e-6)


class TestLabels:
    @pytest.mark.parametrize("label_type", INTEGERS)
    @pytest.mark.parametrize("classes", [10, 300], ids="{} classes".format)
    def test_any_integer_type(self, backend, numbers, label_type, classes) -> None:
        logits, labels = numbers((4, classes)), np.array([9, 0, 5, 5], label_type)
        check(backend, logits, labels, one_hot(labels, classes), 1e-13)

    @pytest.mark.parametrize("bad", [-1, 3, 2**32, -(2**63), 2**63 - 1])
    @pytest.mark.parametrize("dtype", TOLERANCE)
    def test_a_label_outside_raises_or_is_nan(self, backend, bad, dtype) -> None:
        logits, labels = backend.asarray(np.zeros((3, 3)), dtype), backend.asarray([0, 1, bad])
        out = backend.xp.full_like(logits, 7.0)
        if backend.synchronous:
            with pytest.raises(xpnet.errors.OutOfRangeError, match=rf"label {bad} at row 2 is outside 0 to 2"):
                ops.softmax_cross_entropy(backend, logits, labels, out=out)
            assert (backend.to_numpy(out) == 7.0).all()
            return
        result = ops.softmax_cross_entropy(backend, logits, labels, out=out)
        assert math.isnan(float(result.loss))
        losses, gradient = backend.to_numpy(result.losses), backend.to_numpy(out)
        np.testing.assert_allclose(losses, [math.log(3), math.log(3), np.nan], rtol=1e-6)
        np.testing.assert_allclose(gradient[:2] * 9, [[-2, 1, 1], [1, -2, 1]], rtol=1e-6)
        assert float(result.correct) == 1.0

    def test_the_first_bad_row_is_named(self, cpu) -> None:
        with pytest.raises(IndexError, match="label 255 at row 1 is outside 0 to 9"):
            ops.softmax_cross_entropy(cpu, np.zeros((4, 10)), np.array([9, 255, 10, 0], np.uint8))

    @pytest.mark.parametrize("dtype", TOLERANCE)
    def test_a_label_beyond_int64_is_reported_as_it_is(self, backend, dtype) -> None:
        logits, labels = backend.asarray(np.zeros((2, 3)), dtype), backend.asarray(np.array([0, 2**63 + 1], np.uint64))
        if backend.synchronous:
            with pytest.raises(xpnet.errors.OutOfRangeError, match="label 9223372036854775809 at row 1 is outside"):
                ops.softmax_cross_entropy(backend, logits, labels)
            return
        losses = backend.to_numpy(ops.softmax_cross_entropy(backend, logits, labels).losses)
        np.testing.assert_allclose(losses, [math.log(3), np.nan], rtol=1e-6)

    @pytest.mark.parametrize("labels", [[0.0, 1.0], [True, False]])
    def test_class_indices_that_are_no_integers(self, backend, labels) -> None:
        with pytest.raises(xpnet.DTypeError, match=r"class indices must be integers, not .*(float64|bool)"):
            ops.softmax_cross_entropy(backend, backend.asarray(np.zeros((2, 3))), backend.asarray(labels))

    @pytest.mark.parametrize("shape", [(3,), (3, 2), (1, 2), (2, 1), (2, 2, 2), ()])
    def test_labels_that_do_not_fit(self, backend, shape) -> None:
        logits, labels = backend.asarray(np.zeros((2, 2))), backend.asarray(np.zeros(shape, np.int64))
        with pytest.raises(xpnet.ShapeError, match=r"expected \(2,\) class indices or \(2, 2\) probabilities"):
            ops.softmax_cross_entropy(backend, logits, labels)

    @pytest.mark.parametrize("shape", [(4,), (2, 0), (2, 3, 0)])
    def test_logits_that_are_no_matrix(self, backend, shape) -> None:
        with pytest.raises(xpnet.ShapeError, match="expected logits of shape"):
            ops.softmax_cross_entropy(backend, backend.asarray(np.zeros(shape)), backend.asarray([0, 0]))


def test_correct_counts_rows_whose_label_is_the_first_largest(backend) -> None:
    logits = backend.asarray([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 2.0], [3.0, 0.0, 0.0]])
    result = ops.softmax_cross_entropy(backend, logits, backend.asarray([0, 1, 2, 1]))
    assert float(result.correct) == 2.0


@pytest.mark.parametrize("dtype", TOLERANCE)
class TestSoftmax:
    @pytest.mark.parametrize("shape", [(5,), (4, 1), (4, 7), (2, 3, 5), (0, 3)])
    def test_it_is_the_equation(self, backend, numbers, shape, dtype) -> None:
        x = (3 * numbers(shape)).astype(dtype)
        y = backend.to_numpy(ops.softmax(backend, backend.asarray(x)))
        expected = np.array([exact_softmax(row) for row in x.reshape(-1, shape[-1]).tolist()])
        assert y.dtype == dtype
        np.testing.assert_allclose(y, expected.reshape(shape), rtol=TOLERANCE[dtype])

    def test_shifts_and_extremes(self, backend, dtype) -> None:
        x = backend.asarray([[0.0, 1.0], [1e6, 1e6 + 1], [-1e30, 1e30], [-np.inf, 5.0], [3e38, 3e38]], dtype)
        p = 1 / (1 + math.e)
        expected = [[p, 1 - p], [p, 1 - p], [0, 1], [0, 1], [0.5, 0.5]]
        np.testing.assert_allclose(backend.to_numpy(ops.softmax(backend, x)), expected, rtol=1e-6)

    def test_out_is_filled_and_returned(self, backend, numbers, dtype) -> None:
        x, dy = (backend.asarray(numbers((3, 4)), dtype) for _ in range(2))
        y, out = ops.softmax(backend, x), backend.xp.empty_like(x)
        assert ops.softmax(backend, x, out) is out
        np.testing.assert_array_equal(backend.to_numpy(out), backend.to_numpy(y))
        dx = backend.to_numpy(ops.softmax_backward(backend, dy, y))
        assert ops.softmax_backward(backend, dy, y, out) is out
        np.testing.assert_array_equal(backend.to_numpy(out), dx)


def test_softmax_backward_is_the_derivative(backend, numbers, assert_derivative) -> None:
    x, dy = numbers((3, 4)), numbers((3, 4))

    def scalar(at: np.ndarray) -> float:
        return float(np.sum(dy * backend.to_numpy(ops.softmax(backend, backend.asarray(at)))))

    dx = ops.softmax_backward(backend, backend.asarray(dy), ops.softmax(backend, backend.asarray(x)))
    assert_derivative(backend.to_numpy(dx), scalar, x)


class TestLeadingAxes:
    """Sequences (2, 3, C) are the six rows, one after the other, which the tests above hold against the definition."""

    @pytest.mark.parametrize("reduction", ops.REDUCTIONS)
    @pytest.mark.parametrize("kind", ["indices", "probabilities"])
    @pytest.mark.parametrize("given", [False, True])
    def test_they_are_rows(self, backend, numbers, reduction, kind, given) -> None:
        logits, labels = numbers((2, 3, 5)), np.array([[0, 4, 2], [2, 1, 3]])
        options = {
            "label_smoothing": 0.1,
            "class_weights": backend.asarray([1.0, 2, 0.5, 3, 1]),
            "reduction": reduction,
        }
        if kind == "indices":
            options["ignore_index"] = 2
        else:
            labels = np.exp(numbers((2, 3, 5)))
        rows = labels.reshape(6, *labels.shape[2:])
        arrays = [backend.asarray(array) for array in (logits, labels, logits.reshape(6, 5), rows)]
        out = backend.xp.empty_like(arrays[0]) if given else None
        result = ops.softmax_cross_entropy(backend, *arrays[:2], out=out, **options)
        expected = ops.softmax_cross_entropy(backend, *arrays[2:], **options)
        assert tuple(result.losses.shape) == (2, 3)
        assert out is None or result.gradient is out
        for name in ("loss", "losses", "correct", "gradient", "weight", "rows"):
            ours, theirs = (
                np.asarray(backend.to_numpy(backend.asarray(getattr(one, name)))) for one in (result, expected)
            )
            np.testing.assert_array_equal(ours.ravel(), theirs.ravel(), err_msg=name)

    def test_a_bad_label(self, backend) -> None:
        logits, labels = backend.asarray(np.zeros((2, 3, 5))), backend.asarray([[0, 1, 2], [0, 5, 9]])
        if backend.synchronous:
            with pytest.raises(xpnet.OutOfRangeError, match="label 5 at row 4 is outside 0 to 4"):
                ops.softmax_cross_entropy(backend, logits, labels)
        else:
            result = ops.softmax_cross_entropy(backend, logits, labels)
            assert np.isnan(backend.to_numpy(result.losses)).tolist() == [[False] * 3, [False, True, True]]
            assert float(result.bad_row) == 1.0  # the row of the batch

    @pytest.mark.parametrize("shape", [(2,), (2, 4), (6,), (2, 3, 4), (2, 3, 5, 1)])
    def test_labels_that_do_not_fit(self, backend, shape) -> None:
        logits, labels = backend.asarray(np.zeros((2, 3, 5))), backend.asarray(np.zeros(shape, np.int64))
        with pytest.raises(xpnet.ShapeError, match=r"expected \(2, 3\) class indices or \(2, 3, 5\) probabilities"):
            ops.softmax_cross_entropy(backend, logits, labels)

    def test_no_labels(self, backend) -> None:
        logits, labels = backend.asarray(np.zeros((2, 0, 5))), backend.asarray(np.zeros((2, 0), np.int64))
        result = ops.softmax_cross_entropy(backend, logits, labels)
        assert (tuple(result.losses.shape), tuple(result.gradient.shape)) == ((2, 0), (2, 0, 5))
        assert float(result.rows) == 0
