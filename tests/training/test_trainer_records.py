"""What the trainer records: evaluations and the best of them, reports of the loss, the error of a loss gone wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import xpnet
from tests.training.conftest import (
    Recorder,
    events,
    network,
    on_host,
    samples,
    step_by_hand,
    trainer,
)
from xpnet import Linear, Samples, Sequential
from xpnet.backends import Backend
from xpnet.data import Dataset
from xpnet.data.samplers import InOrder
from xpnet.errors import NonFiniteError


def test_evaluations_come_when_asked_for_and_at_the_end(cpu: Backend) -> None:
    history = trainer(network(cpu)).fit(samples(), steps=8, batch_size=4, evaluate_every=3, validation=samples(7))
    places = [(record["step"], record["epoch"]) for record in events(history, "evaluation")]
    assert places == [(3, 1), (6, 2), (8, 3)]


def test_an_evaluation_tells_the_figures_of_both_sets(cpu: Backend) -> None:
    model = network(cpu)
    history = trainer(model).fit(samples(), epochs=1, batch_size=4, evaluate_train=True, validation=samples(7))
    (record,) = events(history, "evaluation")
    for part, held in (("train", samples()), ("validation", samples(7))):
        weights = on_host(model)  # a step of length 0 by hand gives the loss and leaves the weights
        loss, hits = step_by_hand(weights, held.x, held.y, rate=0.0)
        assert record[f"{part}_loss"] == pytest.approx(loss, rel=1e-12)
        assert record[f"{part}_accuracy"] == hits / len(held.y)
    assert record["best_validation_accuracy"] == record["validation_accuracy"]
    assert record["training_seconds"] > 0.0


def test_without_a_validation_set_there_are_only_training_figures(cpu: Backend) -> None:
    run = trainer(network(cpu))
    (record,) = events(run.fit(samples(), epochs=1), "evaluation")
    assert record.keys() == {"event", "step", "epoch", "train_loss", "train_accuracy", "training_seconds"}
    assert (run.best_accuracy, run.best_step) == (None, None)


def test_the_best_is_the_first_of_equals(cpu: Backend) -> None:
    moments: list[tuple[Any, ...]] = []
    run = trainer(network(cpu), learning_rate=0.0, callbacks=[Recorder(moments)])
    run.fit(samples(), epochs=3, batch_size=4, validation=samples(7))
    assert [moment for moment in moments if moment[0] == "evaluation"] == [
        ("evaluation", 3, True),
        ("evaluation", 6, False),
        ("evaluation", 9, False),
    ]
    assert run.best_step == 3


def test_the_loss_is_reported_every_hundred_steps_of_an_epoch(cpu: Backend) -> None:
    x, y, _ = samples(250)
    model = network(cpu)
    weights = on_host(model)
    losses = [step_by_hand(weights, x[[row]], y[[row]], rate=0.1)[0] for row in range(250)]
    history = trainer(model, learning_rate=0.1).fit((x, y), epochs=1, batch_size=1, sampler=InOrder())
    assert [(r["step"], r["epoch"]) for r in events(history, "batch")] == [(1, 1), (101, 1), (201, 1)]
    reported = [record["loss"] for record in events(history, "batch")]
    np.testing.assert_allclose(reported, [losses[0], losses[100], losses[200]], rtol=1e-10)


def test_a_loss_that_is_not_finite_ends_the_run_in_one_clear_error(backend: Backend, digits: Dataset) -> None:
    model = Sequential(xpnet.Rescale(16.0), xpnet.Flatten(), Linear(64, 16, "relu"), Linear(16, 10)).initialize(backend)
    run = trainer(model, learning_rate=1e30)
    message = r"step 2 stopped being finite in the output of layer 2 Linear, with the learning rate 1e\+30"
    with pytest.raises(NonFiniteError, match=message):
        run.fit(Samples(digits.x_train, digits.y_train), epochs=1)


def test_the_step_of_a_loss_that_is_not_finite_is_counted_as_in_the_records(backend: Backend) -> None:
    x, y, _ = samples()
    x[6] = np.nan  # in the fourth batch of two rows
    run = trainer(network(backend))
    with pytest.raises(NonFiniteError, match=r"step 4 .* the inputs \(sample 6 of the training set\)"):
        run.fit((x, y), epochs=1, batch_size=2, sampler=InOrder())
    assert [record["step"] for record in events(run.history, "batch")] == [1]


def test_a_run_gone_wrong_leaves_the_earlier_checkpoint_alone(backend: Backend) -> None:
    """Also where nothing else would read the report before the checkpoint: no evaluation at the end of the epoch."""
    x, y, _ = samples()
    x[6] = np.nan
    moments: list[tuple[Any, ...]] = []
    run = trainer(network(backend), callbacks=[Recorder(moments)])
    with pytest.raises(NonFiniteError, match=r"step 4 .* the inputs \(sample 6 of the training set\)"):
        run.fit((x, y), epochs=3, batch_size=2, sampler=InOrder(), evaluate_every=1000)
    assert "checkpoint" not in [moment[0] for moment in moments]
