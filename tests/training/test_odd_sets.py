"""Sets that are odd, but no mistake: of one class, smaller than a batch, of one sample."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

import xpnet
from xpnet import Adam, Linear, Sequential, SoftmaxCrossEntropy, Trainer
from xpnet.backends import Backend

X = np.random.default_rng(0).uniform(size=(12, 4)).astype(np.float32)


def trained(backend: Backend, y: np.ndarray, classes: int, batch_size: int) -> tuple[Trainer, list[float]]:
    model = Sequential(Linear(4, 8, "relu"), Linear(8, classes)).initialize(backend, seed=0)
    trainer = Trainer(model, SoftmaxCrossEntropy(), Adam(0.05))
    x = X[: len(y)]
    history = trainer.fit((x, y), epochs=5, batch_size=batch_size, validation=(x, y))
    return trainer, [record["validation_loss"] for record in history if record["event"] == "evaluation"]


def test_one_output(backend: Backend) -> None:
    """The softmax over one class is 1, whatever the logit: the loss is 0 and moves nothing."""
    trainer, losses = trained(backend, np.zeros(12, np.int64), classes=1, batch_size=5)
    fresh = Sequential(Linear(4, 8, "relu"), Linear(8, 1)).initialize(backend, seed=0)
    assert losses == [0.0] * 5
    assert [record for record in trainer.history if record["event"] == "diagnosis"] == []
    np.testing.assert_array_equal(trainer.model.predict(X), fresh.predict(X))
    outcome = xpnet.evaluate(trainer.model, (X, np.zeros(12, np.int64)))
    assert (outcome.loss, outcome.accuracy) == (0.0, 1.0)


def test_one_class_of_three(backend: Backend) -> None:
    y = np.full(12, 2)
    trainer, losses = trained(backend, y, classes=3, batch_size=5)
    assert all(after < before for before, after in itertools.pairwise(losses))
    assert losses[-1] < math.log(3) / 2
    assert xpnet.evaluate(trainer.model, (X, y)).accuracy == 1.0


@pytest.mark.parametrize("batch_size", [13, 10**9, 10**20])
def test_a_batch_larger_than_the_set_is_the_set(backend: Backend, batch_size: int) -> None:
    y = np.arange(12) % 3
    assert trained(backend, y, 3, batch_size)[1] == trained(backend, y, 3, 12)[1]


def test_one_sample(backend: Backend) -> None:
    trainer, losses = trained(backend, np.array([1]), classes=3, batch_size=100)
    assert trainer.step == 5
    assert losses[-1] < losses[0]
