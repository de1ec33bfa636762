"""A loss of one's own: a function, or a class with ``per_row``; held against xpnet's own losses and the definition."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import xpnet
from xpnet import Context, FunctionLoss, Linear, Loss, Sequential, Trainer

OUTPUTS = np.array([[1.0, -2.0], [0.5, 4.0], [3.0, 0.0]])
TARGETS = np.array([[0.0, -2.5], [1.0, 4.0], [2.0, 2.0]])


def squares(outputs, targets):
    """The mean over the columns of (y - t)², and its gradient."""
    error = outputs - targets
    return (error * error)[:, 0] / 2 + (error * error)[:, 1] / 2, error


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("reuse", [False, True])
def test_it_is_the_loss_that_it_writes_out(backend, reduction, reuse) -> None:
    own, ready = FunctionLoss(squares, reduction), xpnet.MeanSquaredError(reduction)
    context = Context(backend, training=True, reuse=reuse)
    for rows in (3, 2, 3):
        outputs, targets = backend.asarray(OUTPUTS[:rows]), backend.asarray(TARGETS[:rows])
        ours, theirs = own.forward(outputs, targets, context), ready.forward(outputs, targets, context)
        factor = 1 if reduction == "mean" else 0.5  # sums of two columns, or of their means
        assert float(ours.loss) == pytest.approx(factor * float(theirs.loss), rel=1e-15)
        expected = factor * backend.to_numpy(theirs.gradient)
        np.testing.assert_allclose(backend.to_numpy(ours.gradient), expected, rtol=1e-15)
        assert (ours.rows, ours.weight, ours.reduction) == (rows, rows, reduction)


def test_without_reduction_every_row_has_its_loss(backend) -> None:
    loss = FunctionLoss(squares, "none")
    outputs, targets = backend.asarray(OUTPUTS), backend.asarray(TARGETS)
    losses = backend.to_numpy(loss(backend, outputs, targets))
    np.testing.assert_allclose(losses, ((OUTPUTS - TARGETS) ** 2).mean(axis=1), rtol=1e-15)
    gradient = loss.forward(outputs, targets, Context(backend, training=True)).gradient
    np.testing.assert_allclose(backend.to_numpy(gradient), OUTPUTS - TARGETS, rtol=1e-15)


def test_outside_training_there_is_no_gradient(backend) -> None:
    loss = FunctionLoss(squares)
    assert loss.forward(backend.asarray(OUTPUTS), backend.asarray(TARGETS), Context(backend)).gradient is None


@pytest.mark.parametrize("micro_batch_size", [None, 2])
def test_training_and_evaluating_by_a_function_is_that_by_the_ready_loss(backend, micro_batch_size) -> None:
    draws = np.random.default_rng(0)
    samples = draws.normal(size=(20, 3)), draws.normal(size=(20, 2))
    weights, figures = [], []
    for loss in (squares, xpnet.MeanSquaredError()):
        model = Sequential(Linear(3, 2)).initialize(backend, seed=0, dtype="float64")
        trainer = Trainer(model, loss, xpnet.SGD(0.1), micro_batch_size=micro_batch_size)
        trainer.fit(samples, validation=samples, epochs=3, batch_size=5)
        weights.append(np.array(backend.to_numpy(model.parameters.vector)))
        figures.append([trainer.best_loss, xpnet.evaluate(model, samples, loss).loss])
    np.testing.assert_allclose(weights[0], weights[1], rtol=0, atol=1e-14)
    assert figures[0] == pytest.approx(figures[1], rel=1e-14)


def test_a_dataclass(backend) -> None:
    """It defines equality, and so no hash."""

    @dataclasses.dataclass
    class Scaled(Loss):
        factor: float

        def per_row(self, outputs, targets):
            losses, gradient = squares(outputs, targets)
            return self.factor * losses, self.factor * gradient

    vectors = []
    for loss in (Scaled(2.0), FunctionLoss(lambda y, t: tuple(2.0 * part for part in squares(y, t)))):
        model = Sequential(Linear(2, 2)).initialize(backend, dtype="float64")
        Trainer(model, loss, xpnet.SGD(0.1)).fit((OUTPUTS, TARGETS), epochs=2, batch_size=2)
        vectors.append(np.array(backend.to_numpy(model.parameters.vector)))
    np.testing.assert_array_equal(*vectors)


def test_a_class_keeps_its_arguments(cpu) -> None:
    class Weighted(Loss):
        def __init__(self, weight: float) -> None:
            super().__init__()
            self.weight = weight

        def per_row(self, outputs, targets):
            losses, gradient = squares(outputs, targets)
            return self.weight * losses, self.weight * gradient

    plain, tripled = (float(loss(cpu, OUTPUTS, TARGETS)) for loss in (FunctionLoss(squares), Weighted(3.0)))
    assert tripled == pytest.approx(3 * plain, rel=1e-15)


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda y, t: ((y - t) ** 2, y), xpnet.ShapeError, r"one loss per row, of shape \(3,\), got \(3, 2\)"),
        (lambda y, t: (y[:, 0], y[:, 0]), xpnet.ShapeError, r"gradient of the outputs' shape \(3, 2\), got \(3,\)"),
        (lambda y, t: (((y - t) ** 2).sum(), y), xpnet.ShapeError, r"one loss per row, of shape \(3,\), got \(\)"),
        (
            lambda y, t: (y - t)[:, 0],
            xpnet.ConfigurationError,
            "the loss returned a ndarray: return a tuple of two arra",
        ),
        (lambda y, t: ([1.0] * 3, y), xpnet.BackendError, "got a builtins.list"),
    ],
)
def test_what_a_function_gives_is_checked(cpu, function, error, message) -> None:
    with pytest.raises(error, match=message):
        FunctionLoss(function).forward(OUTPUTS, TARGETS, Context(cpu, training=True))


def test_what_cannot_be_called_is_no_loss(cpu) -> None:
    model = Sequential(Linear(1, 1)).initialize(cpu)
    with pytest.raises(xpnet.ConfigurationError, match="a loss must be a Loss or a function of outputs and targets"):
        Trainer(model, "mse", xpnet.SGD(0.1))


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (lambda y: (y[:, 0], None), "returned None for the gradient"),
        (lambda y: y[:, 0], r"returned a \w*[aA]rray: return a tuple of two arrays"),
        (lambda y: None, "returned a NoneType: return a tuple of two arrays"),
    ],
    ids=["no gradient", "losses alone", "nothing"],
)
def test_a_function_that_returns_anything_but_losses_and_gradient(backend, result, message) -> None:
    model = Sequential(Linear(3, 2)).initialize(backend)
    trainer = Trainer(model, lambda outputs, targets: result(outputs), xpnet.SGD(0.1))
    with pytest.raises(xpnet.ConfigurationError, match=f"^the loss {message}"):
        trainer.fit((np.ones((2, 3)), np.ones((2, 2))), epochs=1)


def test_a_class_in_place_of_a_loss(cpu) -> None:
    model = Sequential(Linear(3, 2)).initialize(cpu)
    with pytest.raises(xpnet.ConfigurationError, match=r"not the class MeanSquaredError: call it"):
        Trainer(model, xpnet.MeanSquaredError, xpnet.SGD(0.1))


def test_a_loss_whose_constructor_does_not_call_that_of_its_base_class(backend) -> None:
    class Scaled(Loss):
        def __init__(self, factor):
            self.factor = factor

        def per_row(self, outputs, targets):
            losses, gradient = squares(outputs, targets)
            return self.factor * losses, self.factor * gradient

    outputs, targets = backend.asarray(OUTPUTS), backend.asarray(TARGETS)
    expected = 3.0 * float(xpnet.MeanSquaredError()(backend, outputs, targets))
    assert float(Scaled(3.0)(backend, outputs, targets)) == pytest.approx(expected, rel=1e-15)
