"""xpnet.metrics: the accuracy against a count by hand."""

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


def test_all_and_none(backend) -> None:
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
