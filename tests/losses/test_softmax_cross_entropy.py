"""xpnet.losses.softmax_cross_entropy: the loss and its gradient against the definition, and the order of calls."""

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
    gradient = result.gradient
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


def test_the_gradient_comes_with_the_loss_in_training_alone(backend) -> None:
    loss, logits, labels = SoftmaxCrossEntropy(), backend.asarray(LOGITS), backend.asarray(LABELS)
    assert loss.forward(logits, labels, Context(backend)).gradient is None
    assert loss.forward(logits, labels, Context(backend, training=True)).gradient.shape == logits.shape


def test_reused_memory_gives_the_same_numbers(backend) -> None:
    loss, context = SoftmaxCrossEntropy(), Context(backend, training=True, reuse=True)
    for rows in (4, 4, 2, 3, 4):
        logits, labels = backend.asarray(LOGITS[-rows:]), backend.asarray(LABELS[-rows:])
        gradient = loss.forward(logits, labels, context).gradient
        expected = GRADIENT[-rows:] * 4 / rows
        np.testing.assert_allclose(backend.to_numpy(gradient), expected, rtol=0, atol=1e-15)


def test_outside_a_trainer_a_gradient_is_the_users(backend) -> None:
    loss, context = SoftmaxCrossEntropy(), Context(backend, training=True)
    labels = backend.asarray(LABELS)
    first = loss.forward(backend.asarray(LOGITS), labels, context).gradient
    loss.forward(backend.asarray(-LOGITS), labels, context)
    np.testing.assert_allclose(backend.to_numpy(first), GRADIENT, rtol=0, atol=1e-15)


def test_the_logits_are_left_alone(backend) -> None:
    logits, context = backend.xp.asarray(backend.asarray(LOGITS), copy=True), Context(backend, training=True)
    SoftmaxCrossEntropy().forward(logits, backend.asarray(LABELS), context)
    np.testing.assert_array_equal(backend.to_numpy(logits), LOGITS)


@pytest.mark.parametrize("host", ["outputs", "targets"])
def test_a_host_array_among_those_of_the_device_names_both(strict, host) -> None:
    arrays = {"outputs": LOGITS, "targets": LABELS.astype(np.int64)}
    mixed = {name: array if name == host else strict.asarray(array) for name, array in arrays.items()}
    with pytest.raises(
        xpnet.BackendError, match=r"got a numpy.ndarray on cpu, but this model lives on backend 'strict'"
    ):
        SoftmaxCrossEntropy()(strict, **mixed)
    with pytest.raises(xpnet.BackendError, match=r"got a array_api_strict.Array on .*device1.* lives on backend 'cpu'"):
        SoftmaxCrossEntropy()(xpnet.backend("cpu"), **mixed)


class TestOptions:
    """What they mean is tested with the operation; here, that they reach it."""

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_smoothing_weights_and_an_ignored_label_together(self, backend, dtype) -> None:
        weights, smoothing = np.array([0.5, 1.0, 4.0]), 0.1
        loss = SoftmaxCrossEntropy(smoothing, weights, ignore_index=1, reduction="mean")
        context = Context(backend, training=True)
        result = loss.forward(backend.asarray(LOGITS, dtype), backend.asarray(LABELS), context)
        targets = weights * ((1 - smoothing) * np.eye(3)[LABELS] + smoothing / 3)
        targets[LABELS == 1] = 0.0
        total = weights[2] + weights[0]
        tolerance = 1e-6 if dtype == "float32" else 1e-14
        assert float(result.loss) == pytest.approx(-(targets * np.log(PROBABILITIES)).sum() / total, rel=tolerance)
        expected = (PROBABILITIES * targets.sum(axis=1, keepdims=True) - targets) / total
        np.testing.assert_allclose(backend.to_numpy(result.gradient), expected, rtol=0, atol=tolerance)

    @pytest.mark.parametrize("reduction", ["sum", "none"])
    def test_reductions(self, backend, reduction) -> None:
        loss, context = SoftmaxCrossEntropy(reduction=reduction), Context(backend, training=True)
        logits, labels = backend.asarray(LOGITS), backend.asarray(LABELS)
        losses = -np.log(PROBABILITIES[np.arange(4), LABELS])
        expected = losses if reduction == "none" else losses.sum()
        np.testing.assert_allclose(backend.to_numpy(loss(backend, logits, labels)), expected, rtol=1e-14)
        result = loss.forward(logits, labels, context)
        assert float(result.loss) == pytest.approx(losses.sum(), rel=1e-14)
        np.testing.assert_allclose(backend.to_numpy(result.gradient), 4 * GRADIENT, rtol=0, atol=1e-14)

    def test_the_weights_follow_the_model_to_another_backend_and_type(self, backend, reference) -> None:
        loss = SoftmaxCrossEntropy(class_weights=[1.0, 2.0, 3.0])
        weights = np.array([1.0, 2.0, 3.0])[LABELS]
        expected = -(weights * np.log(PROBABILITIES[np.arange(4), LABELS])).sum() / weights.sum()
        for at, dtype in ((backend, "float32"), (reference, "float64"), (backend, "float64"), (backend, "float32")):
            value = float(loss(at, at.asarray(LOGITS, dtype), at.asarray(LABELS)))
            assert value == pytest.approx(expected, rel=1e-6 if dtype == "float32" else 1e-14)

    def test_an_ignored_label_has_no_output_and_needs_none(self) -> None:
        y = np.array([0, -100, 2], np.int16)
        SoftmaxCrossEntropy(ignore_index=-100).require_targets(y, (3,))
        with pytest.raises(xpnet.OutOfRangeError, match="label -100 at row 1 has no output: the model has 3"):
            SoftmaxCrossEntropy().require_targets(y, (3,))
        with pytest.raises(xpnet.OutOfRangeError, match="label 2 at row 2 has no output: the model has 2"):
            SoftmaxCrossEntropy(ignore_index=-100).require_targets(y, (2,))

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"label_smoothing": 1.0}, "label_smoothing must be a number of at least 0.0 and below 1.0, not 1.0"),
            ({"class_weights": [1.0, -1.0]}, "a class weight must be a number of at least 0.0, not -1.0"),
            ({"class_weights": [1.0, math.inf]}, "a class weight must be a number of at least 0.0, not inf"),
            ({"class_weights": "balanced"}, "class_weights must be a list of numbers, one per class, not 'balanced'"),
            ({"class_weights": 2.0}, "class_weights must be a list of numbers, one per class, not 2.0"),
            ({"ignore_index": 1.5}, "ignore_index must be a whole number of 64 bits, not 1.5"),
            ({"ignore_index": 2**63}, "ignore_index must be a whole number of 64 bits, not 9223372036854775808"),
            ({"ignore_index": True}, "ignore_index must be a whole number of 64 bits, not True"),
            ({"reduction": "avg"}, "unknown reduction 'avg'; the choices are mean, sum, none"),
        ],
    )
    def test_options_that_cannot_work(self, options, message) -> None:
        with pytest.raises(xpnet.ConfigurationError) as error:
            SoftmaxCrossEntropy(**options)
        assert str(error.value) == message


class TestTargets:
    def check(self, y, output_shape, **options) -> None:
        SoftmaxCrossEntropy(**options).require_targets(np.asarray(y), output_shape)

    def test_of_sequences(self) -> None:
        self.check(np.zeros((5, 4), int), (4, 3))
        self.check(np.full((5, 4), -1), (4, 3), ignore_index=-1)
        self.check(np.zeros((5, 4, 3)), (4, 3))
        with pytest.raises(xpnet.DTypeError, match=r"labels of shape \(5, 4\) must be integers"):
            self.check(np.zeros((5, 4)), (4, 3))
        labels = np.zeros((5, 4), int)
        labels[2, 1] = labels[3, 0] = 3
        with pytest.raises(xpnet.OutOfRangeError, match="label 3 at row 2 has no output: the model has 3"):
            self.check(labels, (4, 3))

    @pytest.mark.parametrize(
        ("shape", "output_shape", "hint"),
        [((5,), (28, 10), True), ((5, 27), (28, 10), False), ((5, 3), (10,), False), ((5, 1, 10), (28, 10), False)],
    )
    def test_of_another_shape(self, shape, output_shape, hint) -> None:
        """One label an image, where a Linear took its rows for samples, is told how that came."""
        with pytest.raises(xpnet.ShapeError, match="do not fit logits of shape") as caught:
            self.check(np.zeros(shape, int), output_shape)
        assert ("for one label per sample put a Flatten() in front" in str(caught.value)) == hint


def test_the_results_of_all_parts_of_a_batch_live_together(backend) -> None:
    """In the reused memory of a step that may be captured, too; those of the next step take their place."""
    loss, context, found = SoftmaxCrossEntropy(), Context(backend, training=True, reuse=True), []
    context.device_step = backend.asarray(np.array([0]))
    for part in (0, 1):
        context.part = part
        logits, labels = backend.asarray(LOGITS[2 * part :][:2]), backend.asarray(LABELS[2 * part :][:2])
        found.append(loss.forward(logits, labels, context))
    rows = np.concatenate([backend.to_numpy(result.losses) for result in found])
    np.testing.assert_allclose(rows, -np.log(PROBABILITIES[np.arange(4), LABELS]), rtol=1e-13)
    assert sum(float(result.loss) for result in found) / 2 == pytest.approx(LOSS, rel=1e-13)
    assert sum(float(result.correct) for result in found) == 3.0
    context.part = 0
    again = loss.forward(backend.asarray(LOGITS[2:]), backend.asarray(LABELS[2:]), context)
    assert float(found[0].losses[0]) == float(again.losses[0])
