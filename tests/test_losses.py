"""xpnet.losses: the loss and its gradient against the definition, and the order of calls."""

from __future__ import annotations

import math

import numpy as np
import pytest

import xpnet
from xpnet import Context, SoftmaxCrossEntropy

LOGITS = np.array([[0.2, -1.0, 3.0], [0.0, 0.0, 0.0], [5.0, 1.0, -2.0], [-1.0, 2.0, 2.0]])
LABELS = np.array([2, 0, 1, 1], np.uint8)
PROBABILITIES = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
LOSS = -np.mean(np.log(PROBABILITIES[np.arange(4), LABELS]))
GRADIENT = (PROBABILITIES - np.eye(3)[LABELS]) / 4


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float64", 1e-14)])
@pytest.mark.parametrize("kind", ["indices", "rows", "integer rows"])
def test_loss_and_gradient_are_the_definition(backend, kind, dtype, tolerance) -> None:
    one_hot = np.eye(3)[LABELS]
    labels = {"indices": LABELS, "rows": one_hot, "integer rows": one_hot.astype(np.int64)}[kind]
    loss, context = SoftmaxCrossEntropy(), Context(backend, training=True)
    result = loss.forward(backend.asarray(LOGITS, dtype), backend.asarray(labels), context)
    assert float(result.loss) == pytest.approx(LOSS, rel=tolerance)
    assert float(result.correct) == 3.0  # all but the third; among equals the first counts
    gradient = loss.backward(context)
    np.testing.assert_allclose(backend.to_numpy(gradient), GRADIENT, rtol=0, atol=tolerance)
    assert gradient.dtype == getattr(backend.xp, dtype)


def test_called_it_gives_the_mean_loss_on_the_device(backend) -> None:
    value = SoftmaxCrossEntropy()(backend, backend.asarray(LOGITS), backend.asarray(LABELS))
    backend.require(backend.xp.asarray(value))
    assert tuple(value.shape) == ()
    assert value.dtype == backend.xp.float64
    assert float(value) == pytest.approx(LOSS, rel=1e-14)


def test_equal_logits_cost_the_logarithm_of_their_number(backend) -> None:
    value = SoftmaxCrossEntropy()(backend, backend.asarray(np.zeros((2, 10))), backend.asarray([3, 9]))
    assert float(value) == pytest.approx(math.log(10), rel=1e-14)


def test_each_backward_needs_a_forward_in_training(backend) -> None:
    loss, context = SoftmaxCrossEntropy(), Context(backend, training=True)
    logits, labels = backend.asarray(LOGITS), backend.asarray(LABELS)
    message = r"SoftmaxCrossEntropy.backward needs a forward pass under Context\(training=True\)"
    with pytest.raises(xpnet.CallOrderError, match=message):
        loss.backward(context)
    assert loss.forward(logits, labels, Context(backend)).gradient is None
    with pytest.raises(xpnet.CallOrderError, match=message):
        loss.backward(context)
    loss.forward(logits, labels, context)
    loss.backward(context)
    with pytest.raises(xpnet.CallOrderError, match=message):
        loss.backward(context)


def test_reused_memory_gives_the_same_numbers(backend) -> None:
    loss, context = SoftmaxCrossEntropy(), Context(backend, training=True, reuse=True)
    for rows in (4, 4, 2, 3, 4):
        logits, labels = backend.asarray(LOGITS[-rows:]), backend.asarray(LABELS[-rows:])
        loss.forward(logits, labels, context)
        expected = GRADIENT[-rows:] * 4 / rows
        np.testing.assert_allclose(backend.to_numpy(loss.backward(context)), expected, rtol=0, atol=1e-15)


def test_outside_a_trainer_a_gradient_is_the_users(backend) -> None:
    loss, context = SoftmaxCrossEntropy(), Context(backend, training=True)
    labels = backend.asarray(LABELS)
    loss.forward(backend.asarray(LOGITS), labels, context)
    first = loss.backward(context)
    loss.forward(backend.asarray(-LOGITS), labels, context)
    loss.backward(context)
    np.testing.assert_allclose(backend.to_numpy(first), GRADIENT, rtol=0, atol=1e-15)


def test_the_logits_are_left_alone(backend) -> None:
    logits, context = backend.xp.asarray(backend.asarray(LOGITS), copy=True), Context(backend, training=True)
    SoftmaxCrossEntropy().forward(logits, backend.asarray(LABELS), context)
    np.testing.assert_array_equal(backend.to_numpy(logits), LOGITS)


@pytest.mark.parametrize("host", ["logits", "labels"])
def test_a_host_array_among_those_of_the_device_names_both(strict, host) -> None:
    arrays = {"logits": LOGITS, "labels": LABELS.astype(np.int64)}
    mixed = {name: array if name == host else strict.asarray(array) for name, array in arrays.items()}
    with pytest.raises(
        xpnet.BackendError, match=r"got a numpy.ndarray on cpu, but this model lives on backend 'strict'"
    ):
        SoftmaxCrossEntropy()(strict, **mixed)
    with pytest.raises(xpnet.BackendError, match=r"got a array_api_strict.Array on .*device1.* lives on backend 'cpu'"):
        SoftmaxCrossEntropy()(xpnet.backend("cpu"), **mixed)
