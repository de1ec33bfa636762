"""xpnet.training.moving_average: what is averaged, evaluated and saved."""

from __future__ import annotations

import numpy as np
import pytest

import xpnet
from xpnet import Callback, Trainer


def network(backend, dtype="float64") -> xpnet.Sequential:
    layers = xpnet.Linear(4, 6, "tanh"), xpnet.Linear(6, 3)
    return xpnet.Sequential(*layers).initialize(backend, seed=1, dtype=dtype)


class Weights(Callback):
    """Keeps copies of the flat vector: at the beginning, and at each checkpoint."""

    def __init__(self) -> None:
        self.copies: list[np.ndarray] = []

    def on_fit_begin(self, trainer) -> None:
        """The initial weights."""
        self.on_checkpoint(trainer)

    def on_checkpoint(self, trainer) -> None:
        """The weights that training goes on from."""
        self.copies.append(np.array(trainer.backend.to_numpy(trainer.model.parameters.vector)))


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float64", 1e-14)])
def test_the_average_is_the_weighted_sum(backend, small_data, dtype, tolerance) -> None:
    weights = Weights()
    run = Trainer(
        network(backend, dtype), xpnet.SoftmaxCrossEntropy(), xpnet.SGD(0.5), ema_decay=0.8, callbacks=[weights]
    )
    run.fit(small_data.train, epochs=2, batch_size=8, evaluate_every=1)
    expected, *rest = (copy.astype(np.float64) for copy in weights.copies)
    assert len(rest) == 8
    for theta in rest:
        expected = 0.8 * expected + 0.2 * theta
    np.testing.assert_allclose(backend.to_numpy(run.average.values.vector), expected, rtol=tolerance, atol=tolerance)


def test_training_goes_on_from_the_weights_and_evaluations_are_of_the_average(backend, small_data) -> None:
    plain, averaged = (
        Trainer(network(backend), xpnet.SoftmaxCrossEntropy(), xpnet.SGD(0.5), ema_decay=decay) for decay in (None, 0.9)
    )
    for run in (plain, averaged):
        run.fit(small_data.train, epochs=3, batch_size=8, validation=small_data.test)
    vectors = [backend.to_numpy(run.model.parameters.vector) for run in (plain, averaged)]
    np.testing.assert_array_equal(*vectors)
    with averaged.average.applied():
        outcome = xpnet.evaluate(averaged.model, small_data.test)
    assert averaged.history[-1]["validation_loss"] == outcome.loss
    assert plain.history[-1]["validation_loss"] == xpnet.evaluate(plain.model, small_data.test).loss
    assert abs(outcome.loss - plain.history[-1]["validation_loss"]) > 1e-3


def test_the_weights_come_back_after_an_error(cpu) -> None:
    model = network(cpu)
    average = xpnet.training.MovingAverage(model, 0.5)
    model.parameters.vector[...] = 3.0
    with pytest.raises(ZeroDivisionError), average.applied():
        1 / 0  # noqa: B018
    assert (model.parameters.vector == 3.0).all()


@pytest.mark.parametrize("decay", [1.0, -0.1, "0.9"])
def test_a_decay_that_cannot_be(cpu, decay) -> None:
    with pytest.raises(xpnet.ConfigurationError, match=r"ema_decay must be a number of at least 0.0 and below 1.0"):
        Trainer(network(cpu), xpnet.SoftmaxCrossEntropy(), xpnet.SGD(), ema_decay=decay)
