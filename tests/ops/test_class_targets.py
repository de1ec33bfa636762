"""The options of softmax cross-entropy: against the kernel contract's equations, sum by sum, in float64."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

import xpnet
from xpnet import ops

TOLERANCE = {"float32": 3e-6, "float64": 2e-14}
WEIGHTS = np.array([0.5, 2.0, 0.0, 1.25, 3.0])
IGNORED = 3
ROWS, CLASSES = 6, 5
LABELS = np.array([4, 0, 3, 2, 3, 1])

# Every combination that makes sense.
OPTIONS = [
    {"labels": labels, "label_smoothing": s, "weighted": weighted, "ignore_index": ignored, "reduction": reduction}
    for labels, s, weighted, ignored, reduction in itertools.product(
        ["indices", "probabilities"], [0.0, 0.1], [False, True], [None, IGNORED], ["mean", "sum", "none"]
    )
    if labels == "indices" or ignored is None
]


def by_definition(logits, labels, label_smoothing, weights, ignored, reduction):
    """(losses, loss, gradient, weight, correct, rows that count), row by row and class by class."""
    classes = logits.shape[1]
    losses, gradient, weight, correct, counted = [], [], 0.0, 0, 0
    for z, label in zip(logits.tolist(), labels.tolist(), strict=True):
        if label == ignored:
            losses.append(0.0)
            gradient.append([0.0] * classes)
            continue
        one_hot = [float(c == label) for c in range(classes)] if isinstance(label, int) else label
        q = [(1 - label_smoothing) * t + label_smoothing / classes for t in one_hot]
        top = max(z)
        log_sum = top + math.log(math.fsum(math.exp(x - top) for x in z))
        terms = [w * t for w, t in zip(weights, q, strict=True)]
        losses.append(math.fsum(wq * (log_sum - x) for wq, x in zip(terms, z, strict=True) if wq))
        total = math.fsum(terms)
        gradient.append([total * math.exp(x - log_sum) - wq for wq, x in zip(terms, z, strict=True)])
        weight += weights[label] if isinstance(label, int) else 1.0
        correct += int(np.argmax(z) == np.argmax(one_hot))
        counted += 1
    divisor = weight if reduction == "mean" else 1.0
    return losses, math.fsum(losses) / divisor, np.array(gradient) / divisor, weight, correct, counted


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(map(str, o.values())))
def test_every_combination_is_the_definition(backend, numbers, options, dtype) -> None:
    logits = (3 * numbers((ROWS, CLASSES))).astype(dtype)
    logits[2, IGNORED] = 9.0  # a hit, were it not ignored
    labels = LABELS if options["labels"] == "indices" else np.random.default_rng(0).dirichlet(np.ones(CLASSES), ROWS)
    weights = WEIGHTS if options["weighted"] else None
    result = ops.softmax_cross_entropy(
        backend,
        backend.asarray(logits),
        backend.asarray(labels.astype(dtype) if labels.ndim == 2 else labels),
        label_smoothing=options["label_smoothing"],
        class_weights=None if weights is None else backend.asarray(weights, dtype),
        ignore_index=options["ignore_index"],
        reduction=options["reduction"],
    )
    losses, loss, gradient, weight, correct, counted = by_definition(
        logits.astype(np.float64),
        labels,
        options["label_smoothing"],
        np.ones(CLASSES) if weights is None else weights,
        options["ignore_index"],
        options["reduction"],
    )
    close = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    np.testing.assert_allclose(backend.to_numpy(result.losses), losses, **close)
    np.testing.assert_allclose(float(result.loss), loss, **close)
    np.testing.assert_allclose(backend.to_numpy(result.gradient), gradient, **close)
    assert float(result.weight) == weight
    assert (float(result.correct), float(result.rows)) == (correct, counted)
    assert result.reduction == options["reduction"]
    assert result.losses.dtype == result.gradient.dtype == getattr(backend.xp, dtype)


@pytest.mark.parametrize("options", OPTIONS[::3], ids=lambda o: "-".join(map(str, o.values())))
def test_the_gradient_is_the_derivative(backend, numbers, assert_derivative, options) -> None:
    logits = numbers((ROWS, CLASSES))
    labels = LABELS if options["labels"] == "indices" else np.random.default_rng(0).dirichlet(np.ones(CLASSES), ROWS)
    given = {
        "label_smoothing": options["label_smoothing"],
        "class_weights": backend.asarray(WEIGHTS) if options["weighted"] else None,
        "ignore_index": options["ignore_index"],
        "reduction": options["reduction"],
    }

    def loss(at: np.ndarray) -> float:
        return float(ops.softmax_cross_entropy(backend, backend.asarray(at), backend.asarray(labels), **given).loss)

    result = ops.softmax_cross_entropy(backend, backend.asarray(logits), backend.asarray(labels), **given)
    assert_derivative(backend.to_numpy(result.gradient), loss, logits)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # NumPy's, on its way to the NaN that is left out
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("label_type", ["int8", "int64", "uint8", "uint64"])
def test_an_ignored_row_counts_for_nothing_whatever_its_logits_are(backend, label_type, dtype) -> None:
    logits = np.array([[np.nan, 0.0], [1.0, 0.0], [np.inf, -np.inf]], dtype)
    labels = np.array([100, 0, 100], label_type)
    result = ops.softmax_cross_entropy(backend, backend.asarray(logits), backend.asarray(labels), ignore_index=100)
    loss, p = math.log(1 + math.exp(-1)), 1 / (1 + math.e)
    assert float(result.loss) == pytest.approx(loss, rel=1e-6)
    np.testing.assert_allclose(backend.to_numpy(result.losses), [0, loss, 0], rtol=1e-6)
    np.testing.assert_allclose(backend.to_numpy(result.gradient), [[0, 0], [-p, p], [0, 0]], rtol=1e-6)
    assert (float(result.correct), float(result.rows)) == (1.0, 1.0)


def test_unsigned_labels_are_never_a_negative_index(backend) -> None:
    """2**64 - 1 is no -1."""
    logits, labels = backend.asarray(np.zeros((2, 3))), backend.asarray(np.array([0, 2**64 - 1], np.uint64))
    if backend.synchronous:
        with pytest.raises(xpnet.OutOfRangeError, match="label 18446744073709551615 at row 1"):
            ops.softmax_cross_entropy(backend, logits, labels, ignore_index=-1)
        return
    assert math.isnan(float(ops.softmax_cross_entropy(backend, logits, labels, ignore_index=-1).losses[1]))


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_a_bad_label_beside_an_ignored_one_is_still_bad(backend, dtype) -> None:
    logits, labels = backend.asarray(np.zeros((3, 3)), dtype), backend.asarray([-1, 0, 7])
    if backend.synchronous:
        with pytest.raises(xpnet.OutOfRangeError, match="label 7 at row 2 is outside 0 to 2"):
            ops.softmax_cross_entropy(backend, logits, labels, ignore_index=-1)
        return
    result = ops.softmax_cross_entropy(backend, logits, labels, ignore_index=-1)
    assert math.isnan(float(result.loss))
    np.testing.assert_allclose(backend.to_numpy(result.losses), [0, math.log(3), np.nan], rtol=1e-6)
    assert float(result.bad_row) == 2.0


@pytest.mark.filterwarnings("error")
def test_nothing_but_ignored_rows(backend) -> None:
    logits, labels = backend.asarray(np.ones((2, 3))), backend.asarray([-1, -1])
    result = ops.softmax_cross_entropy(backend, logits, labels, ignore_index=-1)
    assert math.isnan(float(result.loss))  # the mean of nothing
    assert not backend.to_numpy(result.gradient).any()
    assert not backend.to_numpy(result.losses).any()
    assert float(result.rows) == float(result.weight) == 0.0


def test_options_that_do_not_fit_the_labels_are_refused(backend) -> None:
    logits, rows = backend.asarray(np.zeros((2, 3))), backend.asarray(np.full((2, 3), 1 / 3))
    with pytest.raises(xpnet.ConfigurationError, match="ignore_index=-1 needs class indices, but these labels are"):
        ops.softmax_cross_entropy(backend, logits, rows, ignore_index=-1)
    with pytest.raises(xpnet.ShapeError, match=r"expected 3 class weights, one per class, got shape \(2,\)"):
        ops.softmax_cross_entropy(backend, logits, rows, class_weights=backend.asarray([1.0, 2.0]))
