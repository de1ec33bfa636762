"""xpnet.training.evaluation: loss and accuracy against their definitions in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest

from xpnet import Samples, SoftmaxCrossEntropy, evaluate
from xpnet.backends import Backend
from xpnet.errors import CallOrderError, ConfigurationError, OutOfRangeError, ShapeError
from xpnet.layers import Linear, Rescale, Sequential
from xpnet.training import batches_for, evaluate_batches

ROWS, CLASSES = 23, 3
RNG = np.random.default_rng(2)
X, Y = RNG.integers(0, 256, (ROWS, 4)).astype(np.uint8), RNG.integers(0, CLASSES, ROWS)


def network(backend: Backend) -> Sequential:
    return Sequential(Rescale(255.0), Linear(4, 5, "sigmoid"), Linear(5, CLASSES)).initialize(backend, 3, "float64")


def by_definition(model: Sequential) -> tuple[float, float]:
    """Mean of -log softmax at the label, and the share of rows whose largest logit is the label's."""
    W0, b0, W1, b1 = (np.array(model.backend.to_numpy(model.parameters[name])) for name in ("0.W", "0.b", "1.W", "1.b"))
    losses, hits = [], 0
    for x, label in zip(X / 255.0, Y, strict=True):
        logits = (1 / (1 + np.exp(-(x @ W0 + b0)))) @ W1 + b1
        losses.append(math.log(math.fsum(math.exp(z) for z in logits)) - logits[label])
        hits += int(np.argmax(logits)) == label
    return math.fsum(losses) / ROWS, hits / ROWS


@pytest.mark.parametrize("batch_size", [1, 7, ROWS, 1000])
@pytest.mark.parametrize("labels", [Y, Y.astype(np.uint8), np.eye(CLASSES)[Y]], ids=["int64", "uint8", "one-hot"])
def test_loss_and_accuracy(backend: Backend, labels: np.ndarray, batch_size: int) -> None:
    model = network(backend)
    loss, accuracy = by_definition(model)
    assert 0.0 < accuracy < 1.0
    outcome = evaluate(model, Samples(X, labels), batch_size=batch_size)
    assert outcome.loss == pytest.approx(loss, rel=1e-12)
    assert outcome.accuracy == accuracy
    assert outcome.samples == ROWS


def test_batches_on_the_device_serve_as_well(backend: Backend) -> None:
    model, loss = network(backend), SoftmaxCrossEntropy()
    samples = Samples(X, Y)
    assert evaluate_batches(model, batches_for(model, samples, loss), loss) == evaluate(model, samples)


def test_evaluating_changes_nothing(backend: Backend) -> None:
    model = network(backend)
    before = np.array(backend.to_numpy(model.parameters.vector))
    first = evaluate(model, Samples(X, Y))
    assert evaluate(model, Samples(X, Y)) == first
    np.testing.assert_array_equal(backend.to_numpy(model.parameters.vector), before)


def test_of_equal_outputs_the_first_counts(backend: Backend) -> None:
    model = network(backend)
    model.parameters.vector[...] = 0.0
    outcome = evaluate(model, (X, np.array([0] * 5 + [1] * 18)))
    assert outcome.accuracy == 5 / 23
    assert outcome.loss == pytest.approx(math.log(3), rel=1e-12)


def test_wrong_arguments_are_refused(cpu: Backend) -> None:
    model = network(cpu)
    with pytest.raises(ConfigurationError, match="batch_size must be a whole number of at least 1, not 0"):
        evaluate(model, (X, Y), batch_size=0)
    with pytest.raises(ShapeError, match=r"layer 0: Linear\(4, 5\) takes samples of shape \(4,\), not \(3,\)"):
        evaluate(model, (X[:, :3], Y))
    with pytest.raises(OutOfRangeError, match="label 3 at row 22 has no output"):
        evaluate(model, (X, np.append(Y[:-1], 3)))
    with pytest.raises(CallOrderError, match="call initialize"):
        evaluate(Sequential(Linear(4, 3)), (X, Y))
