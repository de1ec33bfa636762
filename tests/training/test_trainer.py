"""xpnet.training.trainer: the loop does what the equations say, on every backend."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

import xpnet
from tests.training.conftest import (
    CLASSES,
    ROWS,
    Recorder,
    events,
    network,
    on_host,
    samples,
    step_by_hand,
    trainer,
    without_times,
)
from xpnet import Adam, Linear, Samples, Sequential, SoftmaxCrossEntropy, Trainer
from xpnet.backends import Backend
from xpnet.data import SAMPLERS, Dataset
from xpnet.data.samplers import InOrder
from xpnet.errors import CallOrderError, ConfigurationError
from xpnet.training import Callback


def test_a_short_run_learns_the_digits(backend: Backend, digits: Dataset) -> None:
    model = Sequential(xpnet.Rescale(16.0), xpnet.Flatten(), Linear(64, 32, "relu"), Linear(32, 10)).initialize(backend)
    history = Trainer(model, SoftmaxCrossEntropy(), Adam(0.01)).fit(
        Samples(digits.x_train, digits.y_train),
        validation=Samples(digits.x_test, digits.y_test),
        epochs=3,
        batch_size=50,
    )
    test_accuracies = [record["validation_accuracy"] for record in events(history, "evaluation")]
    assert len(test_accuracies) == 3
    assert test_accuracies[-1] > 0.85
    predicted = model.predict_labels(digits.x_test)
    assert (predicted == digits.y_test).mean() == test_accuracies[-1]


@pytest.mark.parametrize("batch_size", [ROWS, 4, 100], ids=["full batch", "last one partial", "more than there are"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_step_equals_the_equation_in_float64(backend: Backend, sampler: str, batch_size: int) -> None:
    """Weights, the report vector and the figures of two epochs, against the mathematics written out."""
    x, y = samples()
    model = network(backend)
    weights = on_host(model)
    run = trainer(model, learning_rate=0.5, seed=3)
    order_of = SAMPLERS[sampler]()
    history = run.fit((x, y), epochs=2, batch_size=batch_size, sampler=order_of)
    for epoch, evaluation in enumerate(events(history, "evaluation")):
        order = order_of.epoch(ROWS, batch_size, 3, epoch)
        loss_sum, correct = 0.0, 0
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            loss, hits = step_by_hand(weights, x[rows], y[rows], rate=0.5)
            loss_sum, correct = loss_sum + loss * len(rows), correct + hits
        assert evaluation["train_loss"] == pytest.approx(loss_sum / len(order), rel=1e-12)
        assert evaluation["train_accuracy"] == correct / len(order)
    for name, expected in weights.items():
        np.testing.assert_allclose(on_host(model)[name], expected, rtol=0, atol=1e-13)
    report = backend.to_numpy(run.report)
    np.testing.assert_allclose(report, [loss_sum, len(order), len(order), correct, -1.0, -1.0, loss, 0.0], rtol=1e-12)


def test_backends_agree_to_the_rounding_of_float32(backend: Backend, digits: Dataset) -> None:
    def weights_on(where: Backend, dtype: str) -> np.ndarray:
        model = Sequential(xpnet.Rescale(16.0), xpnet.Flatten(), Linear(64, 32, "sigmoid"), Linear(32, 10)).initialize(
            where, 7, dtype
        )
        run = Trainer(model, SoftmaxCrossEntropy(), xpnet.Momentum(0.1), seed=7)
        run.fit(Samples(digits.x_train, digits.y_train), steps=10, batch_size=64)
        return np.concatenate([view.ravel() for view in on_host(model).values()])

    expected = weights_on(xpnet.backend("float64"), "float64")
    difference = np.abs(weights_on(backend, "float32") - expected).max()
    assert difference < 1e-6 * np.abs(expected).max() * 10


def test_the_same_seed_gives_the_same_bits(backend: Backend) -> None:
    def bits_of(seed: int) -> bytes:
        model = network(backend, seed, dtype=None)
        Trainer(model, SoftmaxCrossEntropy(), Adam(0.01), seed=seed).fit(samples(), epochs=3, batch_size=4)
        return np.array(backend.to_numpy(model.parameters.vector)).tobytes()

    assert bits_of(0) == bits_of(0)
    assert bits_of(0) != bits_of(1)


def test_the_order_of_samples_depends_on_the_trainers_seed(backend: Backend) -> None:
    def weights_of(seed: int) -> list[float]:
        model = network(backend)
        trainer(model, seed=seed).fit(samples(), epochs=1, batch_size=4)
        return on_host(model)["1.b"].tolist()

    assert weights_of(1) != weights_of(2)


def test_epochs_are_counted_in_steps(backend: Backend) -> None:
    by_epochs, by_steps = network(backend), network(backend)
    trainer(by_epochs).fit(samples(), epochs=2, batch_size=4)
    run = trainer(by_steps)
    run.fit(samples(), steps=6, batch_size=4)
    assert run.step == 6
    for name, values in on_host(by_epochs).items():
        np.testing.assert_array_equal(on_host(by_steps)[name], values)


def test_steps_may_end_within_an_epoch(cpu: Backend) -> None:
    run = trainer(network(cpu))
    history = run.fit(samples(), steps=4, batch_size=4)
    assert [(r["step"], r["epoch"]) for r in events(history, "evaluation")] == [(3, 1), (4, 2)]
    assert run.step == 4


@pytest.mark.parametrize(
    "parts", [[{"epochs": 1}, {"epochs": 3}], [{"epochs": 3, "stop_after_epoch": 2}, {"epochs": 3}]]
)
def test_a_trainer_goes_on_where_it_stopped(backend: Backend, parts: list[dict[str, int]]) -> None:
    whole, divided = network(backend), network(backend)
    whole_run = Trainer(whole, SoftmaxCrossEntropy(), Adam(0.05))
    whole_run.fit(samples(), epochs=3, batch_size=4)
    run = Trainer(divided, SoftmaxCrossEntropy(), Adam(0.05))
    steps = []
    for part in parts:
        run.fit(samples(), batch_size=4, **part)
        steps.append(run.step)
    assert steps == [part.get("stop_after_epoch", part["epochs"]) * 3 for part in parts]
    for name, values in on_host(whole).items():
        np.testing.assert_array_equal(on_host(divided)[name], values)
    assert without_times(run.history) == without_times(whole_run.history)


def test_checkpoints_by_step_change_nothing_else(backend: Backend) -> None:
    plain, often = network(backend), network(backend)
    moments: list[tuple[Any, ...]] = []
    runs = trainer(plain), trainer(often, callbacks=[Recorder(moments)])
    histories = [
        run.fit(samples(), steps=14, batch_size=1, checkpoint_every=every, evaluate_every=7, validation=samples(7))
        for run, every in zip(runs, (None, 4), strict=True)
    ]
    assert [moment[:2] for moment in moments if moment[0] in ("evaluation", "checkpoint")] == [
        ("checkpoint", 4),
        ("evaluation", 7),
        ("checkpoint", 7),
        ("checkpoint", 8),
        ("checkpoint", 10),
        ("checkpoint", 12),
        ("evaluation", 14),
        ("checkpoint", 14),
    ]
    assert without_times(histories[0]) == without_times(histories[1])
    for name, values in on_host(plain).items():
        np.testing.assert_array_equal(on_host(often)[name], values)


def test_the_order_of_an_epoch_is_drawn_once(cpu: Backend) -> None:
    drawn = []

    class Counting(InOrder):
        def epoch(self, samples: int, batch_size: int, seed: int, epoch: int) -> np.ndarray:
            drawn.append(epoch)
            return super().epoch(samples, batch_size, seed, epoch)

    trainer(network(cpu)).fit(samples(), epochs=3, batch_size=1, sampler=Counting(), checkpoint_every=2)
    assert drawn == [0, 1, 2]


def test_training_seconds_are_those_of_the_monotonic_clock_without_evaluations(
    cpu: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not of the time of day, which may be set back."""
    now = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)

    class Slow(Callback):
        def on_batch(self, trainer: Trainer, record: dict[str, Any]) -> None:
            nonlocal now
            now += 2.0

        def on_evaluation(self, trainer: Trainer, record: dict[str, Any], improved: bool) -> None:
            nonlocal now
            now += 100.0

    history = trainer(network(cpu), callbacks=[Slow()]).fit(samples(), epochs=4)
    assert [record["training_seconds"] for record in events(history, "evaluation")] == [2.0, 4.0, 6.0, 8.0]


def test_rows_of_probabilities_train_as_class_indices_do(backend: Backend) -> None:
    x, y = samples()
    by_index, by_row = network(backend), network(backend)
    trainer(by_index).fit((x, y), epochs=2, batch_size=4)
    trainer(by_row).fit((x, np.eye(CLASSES)[y]), epochs=2, batch_size=4, validation=(x, np.eye(CLASSES)[y]))
    for name, values in on_host(by_index).items():
        np.testing.assert_allclose(on_host(by_row)[name], values, rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give either epochs or steps, not epochs=None and steps=None"),
        ({"epochs": 1, "steps": 1}, "give either epochs or steps, not epochs=1 and steps=1"),
        ({"epochs": 0}, "epochs must be a whole number of at least 1, not 0"),
        ({"steps": 1.5}, "steps must be a whole number of at least 1, not 1.5"),
        ({"epochs": 1, "batch_size": 0}, "batch_size must be a whole number of at least 1, not 0"),
        ({"epochs": 1, "evaluate_every": 0}, "evaluate_every must be a whole number of at least 1, not 0"),
        ({"epochs": 1, "checkpoint_every": 0}, "checkpoint_every must be a whole number of at least 1, not 0"),
        ({"epochs": 1, "stop_after_epoch": -1}, "stop_after_epoch must be a whole number of at least 1, not -1"),
    ],
)
def test_options_out_of_range(cpu: Backend, options: dict[str, Any], message: str) -> None:
    run = trainer(network(cpu))
    with pytest.raises(ConfigurationError) as error:
        run.fit(samples(), **options)
    assert str(error.value) == message
    assert run.step == 0


def test_a_model_must_be_initialized_first() -> None:
    with pytest.raises(CallOrderError, match="this Sequential has no parameters yet: call initialize"):
        trainer(Sequential(Linear(4, 3)))


def test_an_optimizer_serves_one_trainer(backend: Backend) -> None:
    optimizer = xpnet.Momentum(0.5)
    first, second = (Trainer(network(backend), SoftmaxCrossEntropy(), optimizer) for _ in range(2))
    before = on_host(first.model)
    with pytest.raises(CallOrderError, match="this trainer's optimizer is now another trainer's: make one for each"):
        first.fit(samples(), epochs=1)
    assert first.step == 0
    for name, values in on_host(first.model).items():
        np.testing.assert_array_equal(values, before[name])
    second.fit(samples(), epochs=1)
    assert second.step == 1


def test_a_model_initialized_again_is_told_before_a_step_is_lost(backend: Backend) -> None:
    run = trainer(network(backend))
    run.model.initialize(backend, seed=1, dtype="float64")
    with pytest.raises(CallOrderError, match=r"SGD.update needs initialize\(model\) before it, after the model's own"):
        run.fit(samples(), epochs=1)
    assert run.step == 0
    run = trainer(run.model)
    run.fit(samples(), epochs=1)
    assert run.step == 1


def test_a_layer_alone_is_a_model(backend: Backend) -> None:
    x, y = samples()
    layer = Linear(4, CLASSES).initialize(backend, dtype="float64")
    W, b = (np.array(backend.to_numpy(layer.parameters[name])) for name in "Wb")
    p = np.exp(x @ W + b) / np.exp(x @ W + b).sum(axis=1, keepdims=True)
    history = Trainer(layer, SoftmaxCrossEntropy(), xpnet.SGD(0.5)).fit((x, y), epochs=1, validation=(x, y))
    np.testing.assert_allclose(
        backend.to_numpy(layer.parameters["W"]), W - 0.5 * x.T @ (p - np.eye(CLASSES)[y]) / ROWS, rtol=0, atol=1e-14
    )
    (record,) = events(history, "evaluation")
    assert record["train_loss"] == pytest.approx(-np.log(p[np.arange(ROWS), y]).mean(), rel=1e-12)
    assert record["validation_accuracy"] == xpnet.evaluate(layer, (x, y)).accuracy


@pytest.mark.parametrize(("sampler", "rows"), [("shuffled", 20), ("in-order", 20), ("with-replacement", 24)])
def test_the_rows_that_were_seen_are_counted(cpu: Backend, sampler: str, rows: int) -> None:
    """Ten samples in batches of four, twice: with replacement every batch is full."""
    run = trainer(network(cpu))
    run.fit(samples(), epochs=2, batch_size=4, sampler=SAMPLERS[sampler]())
    assert run.samples_seen == rows
