"""xpnet.training.trainer: the loop does what the equations say, on every backend."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

import xpnet
from xpnet import Adam, Linear, Samples, Sequential, SoftmaxCrossEntropy, Trainer
from xpnet.backends import Backend
from xpnet.data import SAMPLERS, Dataset
from xpnet.data.samplers import InOrder
from xpnet.errors import CallOrderError, ConfigurationError, NonFiniteError
from xpnet.training import Callback

ROWS, CLASSES = 10, 3


def samples(rows: int = ROWS) -> Samples:
    rng = np.random.default_rng(1)
    return Samples(rng.uniform(0.0, 1.0, (rows, 4)), rng.integers(0, CLASSES, rows))


def network(backend: Backend, seed: int = 0, dtype: str | None = "float64") -> Sequential:
    return Sequential(Linear(4, 5, "tanh"), Linear(5, CLASSES)).initialize(backend, seed, dtype)


def trainer(model: Sequential, learning_rate: float = 0.5, **options: Any) -> Trainer:
    return Trainer(model, SoftmaxCrossEntropy(), xpnet.SGD(learning_rate), **options)


def on_host(model: Sequential) -> dict[str, np.ndarray]:
    return {name: np.array(model.backend.to_numpy(view)) for name, view in model.parameters.items()}


def events(history: list[dict[str, Any]], event: str) -> list[dict[str, Any]]:
    return [record for record in history if record["event"] == event]


def step_by_hand(weights: dict[str, np.ndarray], x: np.ndarray, y: np.ndarray, rate: float) -> tuple[float, int]:
    """θ ← θ - η dL/dθ for tanh and softmax cross-entropy, written out; gives the batch's mean loss and hits."""
    hidden = np.tanh(x @ weights["0.W"] + weights["0.b"])
    logits = hidden @ weights["1.W"] + weights["1.b"]
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    loss, hits = -np.log(p[np.arange(len(y)), y]).mean(), int((logits.argmax(axis=1) == y).sum())
    d_logits = (p - np.eye(CLASSES)[y]) / len(y)
    d_sum = (d_logits @ weights["1.W"].T) * (1 - hidden**2)
    gradients = {"0.W": x.T @ d_sum, "0.b": d_sum.sum(axis=0), "1.W": hidden.T @ d_logits, "1.b": d_logits.sum(axis=0)}
    for name, gradient in gradients.items():
        weights[name] = weights[name] - rate * gradient
    return float(loss), hits


class Recorder(Callback):
    """Writes down every moment and the step at which it came."""

    def __init__(self, moments: list[tuple[Any, ...]], name: str = "") -> None:
        self.moments = moments
        self.name = name

    def note(self, moment: str, trainer: Trainer, *details: Any) -> None:
        self.moments.append((*filter(None, [self.name]), moment, trainer.step, *details))

    def on_fit_begin(self, trainer: Trainer) -> None:
        self.note("fit begin", trainer)

    def on_batch(self, trainer: Trainer, record: dict[str, Any]) -> None:
        self.note("batch", trainer)

    def on_diagnosis(self, trainer: Trainer, record: dict[str, Any]) -> None:
        self.note("diagnosis", trainer, record["kind"])

    def on_evaluation(self, trainer: Trainer, record: dict[str, Any], improved: bool) -> None:
        self.note("evaluation", trainer, improved)

    def on_checkpoint(self, trainer: Trainer) -> None:
        self.note("checkpoint", trainer)

    def on_fit_end(self, trainer: Trainer) -> None:
        self.note("fit end", trainer)


def test_a_short_run_learns_the_digits(backend: Backend, digits: Dataset) -> None:
    model = Sequential(xpnet.Flatten(), Linear(64, 32, "relu"), Linear(32, 10)).initialize(backend)
    history = Trainer(model, SoftmaxCrossEntropy(), Adam(0.01)).fit(
        Samples(digits.x_train, digits.y_train, 16.0),
        validation=Samples(digits.x_test, digits.y_test, 16.0),
        epochs=3,
        batch_size=50,
    )
    test_accuracies = [record["test_accuracy"] for record in events(history, "evaluation")]
    assert len(test_accuracies) == 3
    assert test_accuracies[-1] > 0.85
    predicted = model.predict_labels(digits.x_test / np.float32(16.0))
    assert (predicted == digits.y_test).mean() == test_accuracies[-1]


@pytest.mark.parametrize("batch_size", [ROWS, 4, 100], ids=["full batch", "last one partial", "more than there are"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_step_equals_the_equation_in_float64(backend: Backend, sampler: str, batch_size: int) -> None:
    """Weights, the report vector and the figures of two epochs, against the mathematics written out."""
    x, y, _ = samples()
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
        model = Sequential(xpnet.Flatten(), Linear(64, 32, "sigmoid"), Linear(32, 10)).initialize(where, 7, dtype)
        run = Trainer(model, SoftmaxCrossEntropy(), xpnet.Momentum(0.1), seed=7)
        run.fit(Samples(digits.x_train, digits.y_train, 16.0), steps=10, batch_size=64)
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


def without_times(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in record.items() if key != "training_seconds"} for record in history]


def test_evaluations_come_when_asked_for_and_at_the_end(cpu: Backend) -> None:
    history = trainer(network(cpu)).fit(samples(), steps=8, batch_size=4, evaluate_every=3, validation=samples(7))
    places = [(record["step"], record["epoch"]) for record in events(history, "evaluation")]
    assert places == [(3, 1), (6, 2), (8, 3)]


def test_an_evaluation_tells_the_figures_of_both_sets(cpu: Backend) -> None:
    model = network(cpu)
    history = trainer(model).fit(samples(), epochs=1, batch_size=4, evaluate_train=True, validation=samples(7))
    (record,) = events(history, "evaluation")
    for part, held in (("train", samples()), ("test", samples(7))):
        weights = on_host(model)  # a step of length 0 by hand gives the loss and leaves the weights
        loss, hits = step_by_hand(weights, held.x, held.y, rate=0.0)
        assert record[f"{part}_loss"] == pytest.approx(loss, rel=1e-12)
        assert record[f"{part}_accuracy"] == hits / len(held.y)
    assert record["best_test_accuracy"] == record["test_accuracy"]
    assert record["training_seconds"] > 0.0


def test_the_validation_sets_figures_by_another_name(backend: Backend) -> None:
    """Nothing but the names changes, and the best is chosen as before."""
    runs = trainer(network(backend)), trainer(network(backend))
    named = {"test": [], "validation": []}
    for run, name in zip(runs, named, strict=True):
        history = run.fit(samples(), epochs=2, batch_size=4, validation=samples(7), validation_name=name)
        named[name] = without_times(history)
    renamed = [{key.replace("test", "validation"): value for key, value in record.items()} for record in named["test"]]
    assert named["validation"] == renamed
    assert "best_validation_accuracy" in renamed[-1]
    assert runs[0].best_step == runs[1].best_step


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


def test_callbacks_are_told_every_moment_in_order(backend: Backend) -> None:
    moments: list[tuple[Any, ...]] = []
    x, y, _ = samples()
    callbacks = [Recorder(moments, "a"), Recorder(moments, "b")]
    trainer(network(backend), learning_rate=0.0, callbacks=callbacks).fit(
        (255.0 * x, y), epochs=2, batch_size=4, validation=samples(7)
    )
    expected = [
        ("fit begin", 0),
        ("diagnosis", 0, "inputs out of range"),
        ("batch", 1),
        ("evaluation", 3, True),
        ("checkpoint", 3),
        ("batch", 4),
        ("evaluation", 6, False),
        ("checkpoint", 6),
        ("fit end", 6),
    ]
    assert moments == [(name, *moment) for moment in expected for name in "ab"]


def test_a_run_may_be_stopped_at_the_end_of_each_epoch_too(cpu: Backend) -> None:
    moments: list[tuple[Any, ...]] = []
    trainer(network(cpu), callbacks=[Recorder(moments)]).fit(samples(), epochs=2, batch_size=4, evaluate_every=5)
    assert [moment for moment in moments if moment[0] in ("evaluation", "checkpoint")] == [
        ("checkpoint", 3),
        ("evaluation", 5, False),
        ("checkpoint", 5),
        ("evaluation", 6, False),
        ("checkpoint", 6),
    ]


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


class StopAt(Callback):
    """Asks for a stop at the first moment of that name after so many steps."""

    def __init__(self, moment: str, step: int) -> None:
        self.moment, self.step = moment, step

    def on_fit_begin(self, trainer: Trainer) -> None:
        if self.moment == "fit begin":
            trainer.stop()

    def on_batch(self, trainer: Trainer, record: dict[str, Any]) -> None:
        if (self.moment, self.step) == ("batch", trainer.step):
            trainer.stop()

    def on_evaluation(self, trainer: Trainer, record: dict[str, Any], improved: bool) -> None:
        if (self.moment, self.step) == ("evaluation", trainer.step):
            trainer.stop()


@pytest.mark.parametrize(
    ("moment", "step"), [("fit begin", 1), ("batch", 1), ("batch", 4), ("evaluation", 3), ("evaluation", 9)]
)
def test_a_stop_ends_with_a_checkpoint_after_the_step(backend: Backend, moment: str, step: int) -> None:
    whole = network(backend)
    trainer(whole).fit(samples(), epochs=3, batch_size=4)
    moments: list[tuple[Any, ...]] = []
    run = trainer(network(backend), callbacks=[StopAt(moment, step), Recorder(moments)])
    run.fit(samples(), epochs=3, batch_size=4)
    assert run.step == step
    assert [moment[:2] for moment in moments[-2:]] == [("checkpoint", step), ("fit end", step)]
    run.callbacks.clear()
    run.fit(samples(), epochs=3, batch_size=4)
    assert run.step == 9
    for name, values in on_host(whole).items():
        np.testing.assert_array_equal(on_host(run.model)[name], values)


def test_a_callback_that_fails_at_the_beginning_still_gets_its_end(cpu: Backend) -> None:
    class Fails(Callback):
        def on_fit_begin(self, trainer: Trainer) -> None:
            raise OSError("no room")

    moments: list[tuple[Any, ...]] = []
    with pytest.raises(OSError, match="no room"):
        trainer(network(cpu), callbacks=[Recorder(moments), Fails()]).fit(samples(), epochs=1)
    assert [moment[0] for moment in moments] == ["fit begin", "fit end"]


def test_a_clock_that_is_set_back(cpu: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of day goes backwards; the time spent does not."""
    hours = iter(range(10**6, 0, -1))
    for name in ("time", "time_ns"):
        monkeypatch.setattr(time, name, lambda: next(hours) * 3600)
    run = trainer(network(cpu))
    spent = [record["training_seconds"] for record in events(run.fit(samples(), epochs=4), "evaluation")]
    assert 0.0 < spent[0] < spent[1] < spent[2] < spent[3] < 60.0


def test_the_loss_is_reported_every_hundred_steps_of_an_epoch(cpu: Backend) -> None:
    x, y, _ = samples(250)
    model = network(cpu)
    weights = on_host(model)
    losses = [step_by_hand(weights, x[[row]], y[[row]], rate=0.1)[0] for row in range(250)]
    history = trainer(model, learning_rate=0.1).fit((x, y), epochs=1, batch_size=1, sampler=InOrder())
    assert [(r["step"], r["epoch"]) for r in events(history, "batch")] == [(1, 1), (101, 1), (201, 1)]
    reported = [record["loss"] for record in events(history, "batch")]
    np.testing.assert_allclose(reported, [losses[0], losses[100], losses[200]], rtol=1e-10)


def test_rows_of_probabilities_train_as_class_indices_do(backend: Backend) -> None:
    x, y, _ = samples()
    by_index, by_row = network(backend), network(backend)
    trainer(by_index).fit((x, y), epochs=2, batch_size=4)
    trainer(by_row).fit((x, np.eye(CLASSES)[y]), epochs=2, batch_size=4, validation=(x, np.eye(CLASSES)[y]))
    for name, values in on_host(by_index).items():
        np.testing.assert_allclose(on_host(by_row)[name], values, rtol=0, atol=1e-13)


def test_a_loss_that_is_not_finite_ends_the_run_in_one_clear_error(backend: Backend, digits: Dataset) -> None:
    model = Sequential(xpnet.Flatten(), Linear(64, 16, "relu"), Linear(16, 10)).initialize(backend)
    run = trainer(model, learning_rate=1e30)
    message = r"step 2 stopped being finite in the output of layer 2 Linear, with the learning rate 1e\+30"
    with pytest.raises(NonFiniteError, match=message):
        run.fit(Samples(digits.x_train, digits.y_train, 16.0), epochs=1)


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
        (
            {"epochs": 1, "validation_name": "val"},
            "unknown validation_name 'val'; the choices are test, validation",
        ),
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
    with pytest.raises(CallOrderError, match="this trainer's optimizer was given to another one since: make one for"):
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
    x, y, _ = samples()
    layer = Linear(4, CLASSES).initialize(backend, dtype="float64")
    W, b = (np.array(backend.to_numpy(layer.parameters[name])) for name in "Wb")
    p = np.exp(x @ W + b) / np.exp(x @ W + b).sum(axis=1, keepdims=True)
    history = Trainer(layer, SoftmaxCrossEntropy(), xpnet.SGD(0.5)).fit((x, y), epochs=1, validation=(x, y))
    np.testing.assert_allclose(
        backend.to_numpy(layer.parameters["W"]), W - 0.5 * x.T @ (p - np.eye(CLASSES)[y]) / ROWS, rtol=0, atol=1e-14
    )
    (record,) = events(history, "evaluation")
    assert record["train_loss"] == pytest.approx(-np.log(p[np.arange(ROWS), y]).mean(), rel=1e-12)
    assert record["test_accuracy"] == xpnet.evaluate(layer, (x, y)).accuracy


@pytest.mark.parametrize(("sampler", "rows"), [("shuffled", 20), ("in-order", 20), ("with-replacement", 24)])
def test_the_rows_that_were_seen_are_counted(cpu: Backend, sampler: str, rows: int) -> None:
    """Ten samples in batches of four, twice: with replacement every batch is full."""
    run = trainer(network(cpu))
    run.fit(samples(), epochs=2, batch_size=4, sampler=SAMPLERS[sampler]())
    assert run.samples_seen == rows


class TestOtherLosses:
    """What has no classes trains too."""

    @staticmethod
    def on_a_line(backend: Backend, learning_rate: float, dtype: str = "float64") -> tuple[Trainer, Samples]:
        x = np.random.default_rng(0).uniform(-1.0, 1.0, (64, 3))
        model = Sequential(Linear(3, 1)).initialize(backend, dtype=dtype)
        run = Trainer(model, xpnet.MeanSquaredError(), xpnet.SGD(learning_rate))
        return run, Samples(x, x @ np.array([2.0, -1.0, 0.5]) + 3.0)

    def test_a_regression_finds_the_line(self, backend: Backend) -> None:
        run, data = self.on_a_line(backend, 0.3)
        history = run.fit(data, epochs=60, batch_size=16, validation=data)
        np.testing.assert_allclose(on_host(run.model)["0.W"], [[2.0], [-1.0], [0.5]], atol=1e-3)
        np.testing.assert_allclose(on_host(run.model)["0.b"], [3.0], atol=1e-3)
        last = events(history, "evaluation")[-1]
        residual = run.model.predict(data.x)[:, 0] - data.y
        assert last["test_loss"] == pytest.approx((residual**2).mean(), rel=1e-12)
        assert np.isnan([last["train_accuracy"], last["test_accuracy"], last["best_test_accuracy"]]).all()
        assert events(history, "diagnosis") == []

    def test_the_best_is_then_the_smallest_loss(self, cpu: Backend) -> None:
        moments: list[tuple[Any, ...]] = []

        class Improvements(Callback):
            def on_evaluation(self, trainer: Trainer, record: dict[str, Any], improved: bool) -> None:
                moments.append((record["test_loss"], improved))
                trainer.optimizer.learning_rate = 1.8 if len(moments) == 2 else 0.2  # the third epoch makes it worse

        run, data = self.on_a_line(cpu, 0.2)
        run.callbacks.append(Improvements())
        run.fit(data, epochs=5, batch_size=16, validation=data)
        losses = [loss for loss, _ in moments]
        assert losses[2] > losses[1]
        assert [improved for _, improved in moments] == [
            loss < min(losses[:place], default=np.inf) for place, loss in enumerate(losses)
        ]
        assert run.best_loss == min(losses)
        assert run.best_step == 4 * (losses.index(min(losses)) + 1)

    def test_yes_or_no(self, backend: Backend) -> None:
        x = np.random.default_rng(0).uniform(-1.0, 1.0, (64, 2))
        data = Samples(x, (x[:, 0] > x[:, 1]).astype(np.uint8))
        run = Trainer(Sequential(Linear(2, 1)).initialize(backend), xpnet.BinaryCrossEntropy(), Adam(0.1))
        history = run.fit(data, epochs=30, batch_size=16, validation=data)
        right = (run.model.predict(x)[:, 0] > 0) == data.y
        assert events(history, "evaluation")[-1]["test_accuracy"] == right.mean() > 0.9
        assert run.best_accuracy is not None

    def test_a_loss_of_zero_is_not_that_of_guessing_one_class(self, cpu: Backend) -> None:
        sure = Sequential(Linear(1, 1, weights=xpnet.Constant(1e5), biases=xpnet.Constant(0.0))).initialize(cpu)
        run = Trainer(sure, xpnet.BinaryCrossEntropy(), xpnet.SGD(0.1))
        history = run.fit((np.array([[1.0], [-1.0]]), np.array([1, 0])), epochs=30, batch_size=2)
        assert events(history, "evaluation")[-1]["train_loss"] == 0.0
        assert events(history, "diagnosis") == []

    @pytest.mark.parametrize("reduction", ["sum", "none"])
    def test_a_sum_trains_as_a_mean_at_a_smaller_rate_and_reports_the_mean(self, backend: Backend, reduction) -> None:
        x, y, _ = samples(8)
        runs = []
        for kind, rate in (("mean", 0.4), (reduction, 0.1)):
            run = Trainer(network(backend), SoftmaxCrossEntropy(reduction=kind), xpnet.SGD(rate))
            runs.append(events(run.fit((x, y), epochs=5, batch_size=4, validation=(x, y)), "evaluation"))
        for mean, total in zip(*runs, strict=True):
            for figure in ("train_loss", "test_loss", "train_accuracy", "test_accuracy"):
                assert total[figure] == pytest.approx(mean[figure], rel=1e-12)

    def test_rows_that_are_ignored_are_as_if_they_were_not_there(self, backend: Backend) -> None:
        """Even where nothing else is in a batch."""
        x, y, _ = samples(12)
        marked = y.copy()
        marked[[1, 4, 5, 6, 7, 9]] = -1
        loss = SoftmaxCrossEntropy(ignore_index=-1)
        run = Trainer(network(backend), loss, xpnet.SGD(0.5))
        history = run.fit((x, marked), epochs=2, batch_size=4, sampler=InOrder(), validation=(x, marked))
        weights = on_host(network(backend))
        for _ in range(2):
            for rows in ([0, 2, 3], [8, 10, 11]):
                step_by_hand(weights, x[rows], y[rows], 0.5)
        for name, expected in weights.items():
            np.testing.assert_allclose(on_host(run.model)[name], expected, rtol=0, atol=1e-13)
        kept = marked >= 0
        only = xpnet.evaluate(run.model, (x[kept], y[kept]))
        ignoring = xpnet.evaluate(run.model, (x, marked), loss, batch_size=4)
        assert (ignoring.accuracy, ignoring.samples) == (only.accuracy, only.samples) == (only.accuracy, 6)
        assert ignoring.loss == pytest.approx(only.loss, rel=1e-13)
        assert events(history, "evaluation")[-1]["test_loss"] == pytest.approx(only.loss, rel=1e-13)
        assert np.isnan(xpnet.evaluate(run.model, (x, np.full(12, -1)), loss)[:2]).all()

    def test_class_weights_average_over_batches_of_any_size(self, backend: Backend) -> None:
        x, y, _ = samples()
        model, loss = network(backend), SoftmaxCrossEntropy(class_weights=[1.0, 10.0, 0.1])
        whole, parts = (xpnet.evaluate(model, (x, y), loss, batch_size=size) for size in (ROWS, 3))
        assert parts.loss == pytest.approx(whole.loss, rel=1e-13)

    def test_indices_go_into_an_embedding(self, backend: Backend) -> None:
        """The class is the first of three words."""
        x = np.random.default_rng(0).integers(0, 6, (48, 3)).astype(np.uint8)
        model = Sequential(xpnet.Embedding(6, 4), xpnet.Flatten(), Linear(12, 6)).initialize(backend)
        run = Trainer(model, SoftmaxCrossEntropy(), Adam(0.1))
        history = run.fit((x, x[:, 0]), epochs=40, batch_size=16)
        assert events(history, "evaluation")[-1]["train_accuracy"] == 1.0
        assert (model.predict_labels(x) == x[:, 0]).all()
