"""Steps whose loss or gradients are not finite: they change nothing, are told with their place, or left out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import xpnet
from xpnet import Context, Linear, NonFiniteError, Sequential, SoftmaxCrossEntropy, Trainer
from xpnet.backends import Backend
from xpnet.data import InOrder
from xpnet.layers import Layer, ParameterSpec
from xpnet.training import batches_for
from xpnet.training.snapshots import capture, restore

OPTIMIZERS = {
    "SGD": lambda: xpnet.SGD(0.1),
    "Momentum": lambda: xpnet.Momentum(0.1),
    "Adam": lambda: xpnet.Adam(0.1),
    "clipped by norm": lambda: xpnet.SGD(0.1, clip_norm=0.1),
    "clipped by value": lambda: xpnet.SGD(0.1, clip_value=0.1),
}


class Statistics(Layer):
    """Passes its input on, and sums it up in a buffer."""

    def buffer_specs(self) -> dict[str, ParameterSpec]:
        return {"sum": ParameterSpec((4,), xpnet.Constant(0.0))}

    def forward(self, x: Any, context: Context) -> Any:
        if context.training:
            self.buffers["sum"][...] = self.buffers["sum"] + context.backend.xp.sum(x, axis=0)
        return x

    def backward(self, dy: Any, context: Context) -> Any:
        return dy


class Spoilt(Layer):
    """Passes on what it gets; in one step, the fourth, of runs with one seed, times ``forth`` and ``back``."""

    def __init__(self, forth: float = 1.0, back: float = 1.0, step: int = 3, seed: int = 0) -> None:
        self.forth, self.back, self.moment = forth, back, (step, seed)

    def forward(self, x: Any, context: Context) -> Any:
        return x * self.forth if (context.step, context.seed) == self.moment else x * 1.0

    def backward(self, dy: Any, context: Context) -> Any:
        return dy * self.back if (context.step, context.seed) == self.moment else dy * 1.0


def data(rows: int = 40) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(0).uniform(0.1, 1.0, (rows, 4)).astype(np.float32)
    return x, np.argmax(x[:, :3], axis=1)


def network(backend: Backend, *more: Layer) -> Sequential:
    return Sequential(*more, Linear(4, 6, "tanh"), Linear(6, 3)).initialize(backend, seed=1)


def state(trainer: Trainer) -> dict[str, bytes]:
    """The bits of the parameters, the buffers and the optimizer's state."""
    parameters, _, buffers = trainer.model.vectors
    vectors = {"parameters": parameters, "buffers": buffers, **trainer.optimizer.state}
    return {name: trainer.backend.to_numpy(views.vector).tobytes() for name, views in vectors.items()}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_model_is_as_the_bad_step_found_it(backend: Backend, optimizer: str) -> None:
    """Steps 5 to 10 are good ones; the run stops at the report after the tenth."""
    x, y = data()
    good = Trainer(network(backend, Statistics()), SoftmaxCrossEntropy(), OPTIMIZERS[optimizer]())
    good.fit((x[:12], y[:12]), epochs=1, batch_size=4, sampler=InOrder())
    x[13, 2] = np.inf
    bad = Trainer(network(backend, Statistics()), SoftmaxCrossEntropy(), OPTIMIZERS[optimizer]())
    message = r"step 4 stopped being finite in the inputs \(sample 13 of the training set\), with"
    with pytest.raises(NonFiniteError, match=message):
        bad.fit((x, y), epochs=1, batch_size=4, sampler=InOrder())
    assert state(bad) == state(good)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_skipped_steps_change_nothing_and_are_counted(backend: Backend, optimizer: str) -> None:
    """As a run that never had those batches, but for the number of the step that Adam counts with."""
    x, y = data()
    spoilt = x.copy()
    spoilt[[13, 14, 30]] = np.nan
    context = Context(backend, training=True)
    runs = []
    for values in (spoilt, x):
        trainer = Trainer(
            network(backend, Statistics()), SoftmaxCrossEntropy(), OPTIMIZERS[optimizer](), on_nonfinite="skip"
        )
        runs.append(trainer)
        batches = batches_for(trainer.model, (values, y), trainer.loss, batch_size=4)
        with backend.ignoring_overflow():
            for step in range(10):
                if values is x and step in (3, 7):
                    trainer.step += 1
                    continue
                trainer.train_step(batches, context)
    assert state(runs[0]) == state(runs[1])
    figures = [xpnet.training.reports.by_name(backend, run.report) for run in runs]
    assert figures[0] | {"first_non_finite_step": -1.0, "skipped_steps": 0.0} == figures[1]
    assert (figures[0]["first_non_finite_step"], figures[0]["skipped_steps"], figures[0]["count"]) == (4, 2, 32)


def test_a_run_that_skips_goes_on_and_says_so(backend: Backend) -> None:
    x, y = data()
    x[13] = np.nan
    trainer = Trainer(network(backend), SoftmaxCrossEntropy(), xpnet.Adam(0.1), on_nonfinite="skip")
    history = trainer.fit((x, y), epochs=20, batch_size=4)
    evaluations = [record for record in history if record["event"] == "evaluation"]
    assert [record["skipped_steps"] for record in evaluations] == list(range(1, 21))
    assert evaluations[-1]["train_accuracy"] > 0.9
    (diagnosis,) = [record for record in history if record.get("kind") == "skipped steps"]
    assert diagnosis["message"].startswith("1 of ")
    assert diagnosis["message"].endswith("steps were skipped: their loss or gradients were not finite")


def test_every_step_skipped(backend: Backend) -> None:
    x, y = data()
    trainer = Trainer(network(backend), SoftmaxCrossEntropy(), xpnet.SGD(0.1), on_nonfinite="skip")
    before = state(trainer)
    (record,) = [
        record for record in trainer.fit((x * np.nan, y), epochs=1, batch_size=4) if record["event"] == "evaluation"
    ]
    assert math.isnan(record["train_loss"])
    assert record["skipped_steps"] == 10
    assert state(trainer) == before


def test_a_skipping_run_is_resumed_exactly(backend: Backend) -> None:
    x, y = data()
    x[13] = np.nan
    whole, again = (
        Trainer(network(backend), SoftmaxCrossEntropy(), xpnet.Adam(0.1), on_nonfinite="skip") for _ in range(2)
    )
    whole.fit((x, y), steps=17, batch_size=4)
    restore(again, capture(whole, {}), "FILE")
    for trainer in (whole, again):
        trainer.fit((x, y), epochs=3, batch_size=4)
    assert state(again) == state(whole)
    assert backend.to_numpy(again.report).tolist() == backend.to_numpy(whole.report).tolist()


def test_a_run_that_skipped_may_go_on_strictly(backend: Backend) -> None:
    """In the epoch of the step that was skipped, which must not stop the run now."""
    x, y = data()
    x[13] = np.nan
    runs = [
        Trainer(network(backend), SoftmaxCrossEntropy(), xpnet.Adam(0.1), on_nonfinite=what)
        for what in ("skip", "stop")
    ]
    runs[0].fit((x, y), steps=5, batch_size=4, sampler=InOrder())
    restore(runs[1], capture(runs[0], {}), "FILE")
    for trainer in runs:
        trainer.fit((x, y), epochs=1, batch_size=4, sampler=InOrder())
    assert state(runs[1]) == state(runs[0])
    with pytest.raises(NonFiniteError, match=r"step 14 stopped being finite in the inputs \(sample 13 of the"):
        runs[1].fit((x, y), epochs=2, batch_size=4, sampler=InOrder())


@pytest.mark.parametrize("checkpoint_every", [None, 1, 3])
def test_steps_left_out_are_reported_once_however_often_checkpoints_are_made(
    backend: Backend, checkpoint_every: int
) -> None:
    x, y = data()
    x[13] = np.nan
    trainer = Trainer(network(backend), SoftmaxCrossEntropy(), xpnet.Adam(0.1), on_nonfinite="skip")
    trainer.fit((x, y), epochs=2, batch_size=4, sampler=InOrder(), checkpoint_every=checkpoint_every)
    (diagnosis,) = [record for record in trainer.history if record.get("kind") == "skipped steps"]
    assert diagnosis["message"].startswith("1 of 10 steps were skipped")


def test_a_running_statistic_that_overflows_is_no_checkpoint(backend: Backend) -> None:
    """The batch's variance is 1e40 and more than float32 has, what BatchNorm makes of it is 0, and 0 is finite."""
    x, y = data()
    x[13] = 1e20 if backend.dtype == "float32" else 1e200
    saved = []
    note = type("Note", (xpnet.Callback,), {"on_checkpoint": lambda self, trainer: saved.append(trainer.step)})()
    model = Sequential(xpnet.BatchNorm(4), Linear(4, 3)).initialize(backend)
    trainer = Trainer(model, SoftmaxCrossEntropy(), xpnet.SGD(0.01), callbacks=[note])
    with pytest.raises(NonFiniteError, match=r"a running statistic is not finite after step 6, with the learning rate"):
        trainer.fit((x, y), epochs=1, batch_size=4, sampler=InOrder(), checkpoint_every=3)
    assert saved == [3]


@pytest.mark.parametrize("factor", [math.inf, math.nan])
@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("way", ["forth", "back"])
def test_the_first_array_that_is_not_finite_is_named(backend: Backend, factor: float, place: int, way: str) -> None:
    x, y = data()
    layers: list[Layer] = [Linear(4, 4), Linear(4, 3)]
    layers.insert(place, Spoilt(**{way: factor}))
    trainer = Trainer(Sequential(*layers).initialize(backend), SoftmaxCrossEntropy(), xpnet.SGD(0.01))
    said = {"forth": "the output of layer {} Spoilt", "back": "the input gradient of layer {} Spoilt"}[way]
    if way == "back" and place == 0:  # nobody wants the gradient with respect to the data
        trainer.fit((x, y), epochs=1, batch_size=4)
        return
    with pytest.raises(NonFiniteError, match=f"step 4 stopped being finite in {said.format(place)}, with the learning"):
        trainer.fit((x, y), epochs=1, batch_size=4, sampler=InOrder())


def test_a_sum_that_overflows_is_named(backend: Backend) -> None:
    x, y = data()
    model = Sequential(Spoilt(forth=1e38), Linear(4, 3, weights=xpnet.Constant(5.0))).initialize(backend)
    trainer = Trainer(model, SoftmaxCrossEntropy(), xpnet.SGD(0.01))
    with pytest.raises(NonFiniteError, match="step 4 stopped being finite in the output of layer 1 Linear"):
        trainer.fit((x, y), epochs=1, batch_size=4, sampler=InOrder())


def test_a_step_of_micro_batches_is_taken_again_as_it_was(backend: Backend) -> None:
    """What only the seed and the second one's number bring about: layers that draw, draw by these."""
    x, y = data()
    model = network(backend, Spoilt(forth=math.inf, step=3 + 2**32, seed=7))
    trainer = Trainer(model, SoftmaxCrossEntropy(), xpnet.SGD(0.01), micro_batch_size=2, seed=7)
    with pytest.raises(NonFiniteError, match="step 4 stopped being finite in the output of layer 0 Spoilt"):
        trainer.fit((x, y), epochs=1, batch_size=4, sampler=InOrder())


def test_the_gradient_of_a_parameter_is_named(backend: Backend) -> None:
    """dW = xᵀ dz overflows where neither x nor dz does."""
    x, y = data()
    x[12:16] *= 1e30
    model = Sequential(Linear(4, 3, weights=xpnet.Constant(0.0)), Spoilt(back=1e15)).initialize(backend)
    trainer = Trainer(model, SoftmaxCrossEntropy(), xpnet.SGD(1e-30))
    with pytest.raises(NonFiniteError, match="step 4 stopped being finite in the gradient of W in layer 0 Linear"):
        trainer.fit((x, y), epochs=1, batch_size=4, sampler=InOrder())


@pytest.mark.parametrize("value", ["Stop", "ignore", None])
def test_an_unknown_on_nonfinite_is_refused_with_the_choices(cpu: Backend, value: Any) -> None:
    with pytest.raises(xpnet.ConfigurationError, match=r"on_nonfinite.*the choices are stop, skip"):
        Trainer(network(cpu), SoftmaxCrossEntropy(), xpnet.SGD(0.1), on_nonfinite=value)


def test_an_infinite_loss_with_finite_gradients(backend: Backend) -> None:
    """The label's logit is -inf: its loss is infinite, its gradient 0 - 1."""
    gradients, found_inf = backend.asarray([[0.5, -1.0, 0.5]]), backend.asarray([7], "int32")
    logits = backend.asarray([[0.0, -np.inf, 0.0]], "float32")
    with backend.ignoring_overflow():
        result = xpnet.ops.softmax_cross_entropy(backend, logits, backend.asarray([1]))
    np.testing.assert_array_equal(backend.to_numpy(result.gradient), backend.to_numpy(gradients))
    found_inf = backend.xp.asarray(found_inf, copy=True)
    xpnet.ops.check_finite(backend, backend.xp.reshape(result.gradient, (-1,)), result.loss, found_inf)
    assert backend.to_numpy(found_inf).tolist() == [1]
