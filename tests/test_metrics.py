"""xpnet.metrics: against counts by hand."""

from __future__ import annotations

import numpy as np
import pytest

import xpnet

OUTPUTS = np.array([[0.1, 0.9, 0.0], [0.8, 0.1, 0.1], [0.3, 0.3, 0.4], [0.4, 0.4, 0.2], [-3.0, -2.0, -1.0]])
LABELS = [1, 2, 2, 1, 2]  # right, wrong, right, wrong (the first of equals is 0), right


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("label_type", ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"])
def test_class_indices_of_any_integer_type(backend, label_type, dtype) -> None:
    labels = backend.asarray(np.array(LABELS, label_type))
    share = xpnet.accuracy(backend, backend.asarray(OUTPUTS, dtype), labels)
    assert (tuple(share.shape), share.dtype) == ((), backend.xp.float64)
    assert float(share) == 3 / 5


@pytest.mark.parametrize("label_type", ["int64", "uint8", "float32", "float64"])
def test_one_hot_rows(backend, label_type) -> None:
    labels = backend.asarray(np.eye(3)[LABELS].astype(label_type))
    assert float(xpnet.accuracy(backend, backend.asarray(OUTPUTS), labels)) == 3 / 5


def test_accuracies_of_one_half_and_zero(backend) -> None:
    outputs = backend.asarray(np.eye(4))
    assert float(xpnet.accuracy(backend, outputs, backend.asarray([0, 1, 2, 3]))) == 1.0
    assert float(xpnet.accuracy(backend, outputs, backend.asarray([1, 2, 3, 0]))) == 0.0
    # A label that is no class is never right, and nothing is indexed with it.
    assert float(xpnet.accuracy(backend, outputs, backend.asarray([0, 9, -1, 3]))) == 0.5


@pytest.mark.parametrize(
    ("outputs", "labels"),
    [((0, 3), (0,)), ((3,), (3,)), ((2, 3), (3,)), ((2, 3), (2, 4)), ((2, 3, 1), (2,)), ((2, 3), ())],
)
def test_shapes_that_do_not_fit(backend, outputs, labels) -> None:
    with pytest.raises(xpnet.ShapeError, match="expected outputs of shape"):
        xpnet.accuracy(backend, backend.asarray(np.zeros(outputs)), backend.asarray(np.zeros(labels, np.int64)))


@pytest.mark.parametrize("host", ["outputs", "labels"])
def test_a_host_array_among_those_of_the_device_names_both(strict, host) -> None:
    arrays = {"outputs": OUTPUTS, "labels": np.array(LABELS)}
    mixed = {name: array if name == host else strict.asarray(array) for name, array in arrays.items()}
    with pytest.raises(
        xpnet.BackendError, match=r"got a numpy.ndarray on cpu, but this model lives on backend 'strict'"
    ):
        xpnet.accuracy(strict, **mixed)


def top_k_by_hand(outputs: np.ndarray, labels: list[int], k: int) -> float:
    """Python's sort is stable: the first of equals comes first."""
    best = [sorted(range(len(row)), key=lambda c: -row[c])[:k] for row in outputs.tolist()]
    return sum(label in row for label, row in zip(labels, best, strict=True)) / len(labels)


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("form", ["indices", "one-hot"])
def test_top_k_counts_labels_among_the_k_largest(backend, form, k) -> None:
    labels = np.array(LABELS, np.uint8) if form == "indices" else np.eye(3)[LABELS]
    share = xpnet.top_k_accuracy(backend, backend.asarray(OUTPUTS), backend.asarray(labels), k)
    assert (tuple(share.shape), share.dtype) == ((), backend.xp.float64)
    assert float(share) == top_k_by_hand(OUTPUTS, LABELS, k)


def test_top_k_of_random_rows_with_many_equals(backend) -> None:
    draws = np.random.default_rng(0)
    outputs, labels = draws.integers(4, size=(200, 9)).astype(float), draws.integers(9, size=200)
    arrays = backend.asarray(outputs), backend.asarray(labels)
    shares = [float(xpnet.top_k_accuracy(backend, *arrays, k)) for k in range(1, 10)]
    assert shares == [top_k_by_hand(outputs, labels.tolist(), k) for k in range(1, 10)]
    assert shares[0] == float(xpnet.accuracy(backend, *arrays))
    assert shares == sorted(shares)


def test_a_row_with_nan_or_without_a_class_is_no_hit(backend) -> None:
    outputs = backend.asarray([[np.nan, 1.0, 0.0], [np.nan, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, -1.0, -2.0]])
    share = xpnet.top_k_accuracy(backend, outputs, backend.asarray([0, 1, 7, -1]), 1)
    assert float(share) == 0.0
    assert float(xpnet.top_k_accuracy(backend, outputs, backend.asarray([0, 1, 7, -1]), 3)) == 0.25


@pytest.mark.parametrize(
    ("k", "message"), [(4, "at most the number of classes, 3, not 4"), (0, "of at least 1, not 0")]
)
def test_a_k_out_of_range_is_refused(backend, k, message) -> None:
    with pytest.raises(xpnet.ConfigurationError, match=message):
        xpnet.top_k_accuracy(backend, backend.asarray(OUTPUTS), backend.asarray(LABELS), k)


@pytest.mark.parametrize("form", ["uint8", "int64", "one-hot"])
def test_the_confusion_matrix_counts_classes_by_predictions(backend, form) -> None:
    labels = np.eye(3)[LABELS] if form == "one-hot" else np.array(LABELS, form)
    matrix = xpnet.confusion_matrix(backend, backend.asarray(OUTPUTS), backend.asarray(labels))
    assert matrix.dtype == backend.xp.int64
    # Of class 1 one is taken for 1, one for 0; of class 2 one for 0, two for 2.
    assert backend.to_numpy(matrix).tolist() == [[0, 0, 0], [1, 1, 0], [1, 0, 2]]


def test_a_label_that_is_no_class_is_in_no_row_of_the_matrix(backend) -> None:
    matrix = xpnet.confusion_matrix(backend, backend.asarray(np.eye(3)), backend.asarray([0, -1, 3]))
    assert backend.to_numpy(matrix).tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("metric", [xpnet.top_k_accuracy, xpnet.confusion_matrix])
def test_top_k_and_the_confusion_matrix_check_shapes(backend, metric) -> None:
    with pytest.raises(xpnet.ShapeError, match="expected outputs of shape"):
        metric(backend, backend.asarray(np.zeros((2, 3))), backend.asarray([0, 1, 2]))


@pytest.mark.parametrize("form", ["indices", "one-hot"])
def test_sequences_count_every_label(backend, form) -> None:
    outputs, labels = np.random.default_rng(0).standard_normal((4, 6, 3)), np.arange(24).reshape(4, 6) % 3
    given = np.eye(3)[labels] if form == "one-hot" else labels
    largest, (on_outputs, on_labels) = outputs.argmax(axis=2), map(backend.asarray, (outputs, given))
    assert float(xpnet.accuracy(backend, on_outputs, on_labels)) == (largest == labels).mean()
    smallest = outputs.argmin(axis=2)
    assert float(xpnet.top_k_accuracy(backend, on_outputs, on_labels, 2)) == (smallest != labels).mean()
    matrix = [[((labels == i) & (largest == j)).sum() for j in range(3)] for i in range(3)]
    assert backend.to_numpy(xpnet.confusion_matrix(backend, on_outputs, on_labels)).tolist() == matrix
