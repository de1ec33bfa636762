"""xpnet.training.step: gradients → reduce → update, each replaced, watched and guarded."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest

import xpnet
from xpnet import Linear, Optimizer, Sequential, SoftmaxCrossEntropy, Trainer
from xpnet.backends import Backend
from xpnet.data import InOrder
from xpnet.training import batches_for

X = np.random.default_rng(0).normal(size=(24, 3))
Y = np.arange(24) % 2


class SignDescent(Optimizer):
    """A rule that knows nothing of the flag, with a state of its own."""

    slots = ("total",)

    def rule(self, backend, values, gradients, total, learning_rate):
        total += gradients
        values -= learning_rate * backend.xp.sign(total)


class Overridden(xpnet.SGD):
    """An update of one's own around a library operation."""

    def update(self, step, found_inf=None):
        super().update(step)


def trainer_on(backend, optimizer, **options) -> Trainer:
    model = Sequential(Linear(3, 2)).initialize(backend, seed=0, dtype="float64")
    return Trainer(model, SoftmaxCrossEntropy(), optimizer, **options)


def state(trainer: Trainer) -> list[np.ndarray]:
    vectors = trainer.model.vectors.parameters, *trainer.optimizer.state.values()
    return [np.array(vector.backend.to_numpy(vector.vector)) for vector in vectors]


def test_a_rule_of_ones_own_is_the_definition(backend) -> None:
    trainer = trainer_on(backend, SignDescent(0.5, learning_rate_factors={"0.b": 2.0}))
    model = trainer.model
    before = {name: np.array(backend.to_numpy(view)) for name, view in model.parameters.items()}
    trainer.fit((X, Y), steps=1, batch_size=24)
    for name, view in model.parameters.items():
        sign = np.sign(backend.to_numpy(model.gradients[name]))
        expected = before[name] - (1.0 if name == "0.b" else 0.5) * sign
        np.testing.assert_allclose(backend.to_numpy(view), expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("kind", [SignDescent, Overridden, xpnet.Adam])
@pytest.mark.parametrize("on_nonfinite", ["stop", "skip"])
def test_a_step_that_is_not_finite_changes_nothing_under_any_rule(backend, kind, on_nonfinite) -> None:
    """A NaN in step 3 of 6."""
    spoilt = X.copy()
    spoilt[9] = np.nan
    trainer, twin = (trainer_on(backend, kind(0.1), on_nonfinite=on_nonfinite) for _ in range(2))
    twin.fit((X, Y), steps=2, batch_size=4, sampler=InOrder())
    if on_nonfinite == "stop":
        with pytest.raises(xpnet.NonFiniteError, match=r"step 3 stopped being finite in the inputs \(sample 9 of"):
            trainer.fit((spoilt, Y), steps=6, batch_size=4, sampler=InOrder())
    else:
        trainer.fit((spoilt, Y), steps=3, batch_size=4, sampler=InOrder())
    for ours, theirs in zip(state(trainer), state(twin), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_each_of_the_three_can_be_watched(cpu) -> None:
    trainer, seen = trainer_on(cpu, xpnet.SGD(0.1), micro_batch_size=3), []
    step = trainer.training_step

    def watch(name):
        original = getattr(step, name)

        def watched(*arguments):
            result = original(*arguments)
            seen.append(name)
            return result

        setattr(step, name, watched)

    for name in ("gradients", "reduce", "update"):
        watch(name)
    trainer.fit((X, Y), steps=2, batch_size=8)
    assert seen == ["gradients"] * 3 + ["reduce", "update"] + ["gradients"] * 3 + ["reduce", "update"]


def test_a_reduction_of_ones_own_sums_over_more_than_one_trainer(cpu) -> None:
    """Two halves of each batch, each with its own model, exchanged as ranks would: the whole batch's run."""
    whole = trainer_on(cpu, xpnet.SGD(0.1))
    whole.fit((X, Y), steps=6, batch_size=8, sampler=InOrder())
    rank = trainer_on(cpu, xpnet.SGD(0.1))
    other = trainer_on(cpu, xpnet.SGD(0.1)).model
    halves = np.arange(24).reshape(-1, 2, 4)
    mine, theirs = halves[:, 0].ravel(), halves[:, 1].ravel()
    loss, context = SoftmaxCrossEntropy(), xpnet.Context(cpu, training=True)

    def reduce(results, parts):
        (result,) = results
        rows = theirs[4 * rank.step % 12 :][:4]
        other.parameters.vector[...] = rank.model.parameters.vector
        gradient = loss.forward(other.forward(X[rows], context), Y[rows], context).gradient
        other.backward_parameters(gradient, context)
        rank.model.gradients.vector[...] = (rank.model.gradients.vector + other.gradients.vector) / 2
        return result

    rank.training_step.reduce = reduce
    rank.fit((X[mine], Y[mine]), steps=6, batch_size=4, sampler=InOrder())
    np.testing.assert_allclose(state(rank)[0], state(whole)[0], rtol=0, atol=1e-14)


def test_an_update_of_ones_own_replaces_the_optimizers(backend) -> None:
    """It is guarded, too: a NaN in step 2 leaves what step 1 made."""
    trainer = trainer_on(backend, xpnet.SGD(0.1), on_nonfinite="skip")
    parameters = trainer.model.vectors.parameters.vector

    def update(step, found_inf) -> None:
        parameters[...] = backend.xp.full_like(parameters, float(step + 1))

    trainer.training_step.update = update
    spoilt = X.copy()
    spoilt[5] = np.inf
    trainer.fit((spoilt, Y), steps=2, batch_size=4, sampler=InOrder())
    assert (backend.to_numpy(trainer.model.parameters["0.W"]) == 1.0).all()
    assert trainer.history[-1]["skipped_steps"] == 1


def test_after_a_step_that_raised_the_next_one_takes_its_own_batch(backend, cpu) -> None:
    def run(on: Backend) -> list[np.ndarray]:
        trainer = trainer_on(on, xpnet.SGD(0.1))
        step, context = trainer.training_step, xpnet.Context(on, training=True)
        batches, gradients = batches_for(trainer.model, (X, Y), trainer.loss, batch_size=4), step.gradients

        def failing(x, y, context):
            if context.step == 1:
                raise MemoryError
            return gradients(x, y, context)

        step.gradients = failing
        for number in range(4):
            with suppress(MemoryError):
                step(batches, number, context)
        return state(trainer)

    np.testing.assert_allclose(run(backend)[0], run(cpu)[0], rtol=0, atol=1e-14)


def test_a_loss_that_was_replaced_in_the_result_is_what_is_reported(backend) -> None:
    trainer = trainer_on(backend, xpnet.SGD(0.0))
    gradients = trainer.training_step.gradients

    def with_a_penalty(x, y, context):
        result = gradients(x, y, context)
        return result._replace(loss=result.loss + 1000.0)

    exact = trainer.fit((X, Y), steps=3, batch_size=8, sampler=InOrder())[-1]["train_loss"]
    trainer.training_step.gradients = with_a_penalty
    found = trainer.fit((X, Y), steps=6, batch_size=8, sampler=InOrder())[-1]["train_loss"]
    assert found == pytest.approx(exact + 1000.0, rel=1e-12)


def test_an_optimizer_without_a_rule(cpu) -> None:
    class Nothing(Optimizer):
        pass

    with pytest.raises(xpnet.ConfigurationError, match="Nothing has no rule: define rule"):
        trainer_on(cpu, Nothing(0.1))
