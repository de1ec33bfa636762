"""A bug planted in the batches, the loss, the clipping or the optimizer is found there, at its step."""

from __future__ import annotations

import numpy as np
import pytest

import xpnet
from tests.parity.conftest import DIGITS, DOUBLE, cpu_with, found, network, of_images, outcome, wrong_on_cpu
from xpnet import SGD, Adam, Flatten, Linear, Rescale, Sequential, ops
from xpnet.parity import compare


def test_a_bug_in_the_loss_is_found():
    def in_gradient(logits, labels, summary, losses, gradient, **options):
        gradient[5] *= 1.0001

    def in_mean(logits, labels, summary, losses, gradient, **options):
        summary[0] *= 1.0001

    for plant, quantity, array in ((in_gradient, "gradient", "logits"), (in_mean, "forward", "loss")):
        assert found(outcome(network(), cpu_with("softmax_cross_entropy", plant))) == ("loss", quantity, array)


def test_a_bug_in_gathering_is_found():
    def plant(rows, indices, divisor, out, **labels):
        out[4] *= np.float32(1.00001)

    assert found(outcome(network(), cpu_with("gather", plant))) == ("data", "batch", "x")


class WrongAdam(Adam):
    """Adam with its numbers changed on one backend."""

    def __init__(self, place, factor):
        super().__init__()
        self.place, self.factor = place, factor

    def _step_hyperparameters(self, step, rate, decay):
        settings = super()._step_hyperparameters(step, rate, decay)
        if self._backend.name != "float64":
            settings[self.place] *= self.factor
        return settings


@pytest.mark.parametrize(("place", "factor"), [(0, 1.0001), (1, 0.999), (2, 0.9999), (3, 1e3), (4, 1.0001), (5, 0.99)])
def test_a_bug_in_the_optimizer_is_found(cpu, place, factor):
    layer, quantity, _ = found(outcome(network(), cpu, optimizer=WrongAdam(place, factor)))
    assert (layer, quantity) == ("1 Linear", "update")


def test_a_bug_in_optimizer_state_is_found():
    def forget(values, gradients, m, v, hyperparameters, found_inf):
        v[...] = 0.0

    row = outcome(network(), cpu_with("adam_update", forget)).first_divergence
    assert (row.layer, row.quantity, row.step) == ("1 Linear", "update", 1)
    assert row.array.startswith("v of ")


def test_it_stops_at_the_first_step_with_a_divergence():
    calls = []

    def plant(values, gradients, hyperparameters, found_inf):
        calls.append(None)
        if len(calls) > 4:  # two updates a step: by itself, and in training
            values[0] += 1.0

    parity = outcome(network(), cpu_with("sgd_update", plant), optimizer=SGD(0.1), steps=9)
    assert (parity.steps, parity.first_divergence.step) == (3, 3)
    assert {row.layer for row in parity.rows if not row.agrees} == {"1 Linear"}


@pytest.mark.parametrize(("kind", "limit"), [("clip_norm", 0.1), ("clip_value", 0.01)])
@pytest.mark.parametrize("factor", [2.0, 1.001, 1e9])
def test_a_bug_in_clipping_is_found(monkeypatch, cpu, kind, limit, factor):
    wrong_on_cpu(monkeypatch, kind, lambda gradients, limit: (gradients, factor * limit))
    layer, quantity, _ = found(of_images(cpu, SGD(0.1, **{kind: limit})))
    assert (layer, quantity) == ("1 Conv2d", "update")


def test_a_wrong_check_for_finite_numbers_is_found(cpu):
    def never(gradients, found_inf):
        found_inf[0] = 1

    assert found(of_images(cpu_with("check_finite", never))) == ("optimizer", "finite check", "found_inf")


@pytest.mark.parametrize("loss", [xpnet.MeanSquaredError(), xpnet.BinaryCrossEntropy()], ids=repr)
def test_other_losses(monkeypatch, cpu, loss):
    model = Sequential(Rescale(16), Flatten(), Linear(64, 8, "tanh"), Linear(8, 1)).initialize(DOUBLE, seed=1)
    train = DIGITS.x_train, DIGITS.y_train / 9
    assert compare(model, loss, SGD(0.1), train, [DOUBLE, cpu], steps=2).first_divergence is None
    name = "mean_squared_error" if isinstance(loss, xpnet.MeanSquaredError) else "binary_cross_entropy"
    right = getattr(ops, name)

    def wrong(backend, outputs, targets, gradient, out, **reduction):
        result = right(backend, outputs, targets, gradient, out, **reduction)
        if backend.name == "cpu":
            result.gradient[...] = result.gradient * 1.0001
        return result

    monkeypatch.setattr(ops, name, wrong)
    assert found(compare(model, loss, SGD(0.1), train, [DOUBLE, cpu], steps=2)) == ("loss", "gradient", "logits")
