"""xpnet.ops.elementwise_losses: against scalar sums in float64, central differences, and the limits."""

from __future__ import annotations

import math

import numpy as np
import pytest

import xpnet
from xpnet import ops

TOLERANCE = {"float32": 2e-6, "float64": 1e-14}
SHAPES = [(1, 1), (5, 3), (2, 3, 4), (4,)]


def binary(z: float, t: float) -> float:
    """-t log σ(z) - (1-t) log σ(-z), each side left out where it has no weight."""
    sides = ((t, -z), (1 - t, z))
    return math.fsum(weight * (math.log1p(math.exp(-abs(s))) + max(s, 0.0)) for weight, s in sides if weight)


EQUATIONS = {
    ops.mean_squared_error: (lambda y, t: (y - t) ** 2, lambda y, t: 2 * (y - t)),
    ops.binary_cross_entropy: (binary, lambda z, t: 1 / (1 + math.exp(-z)) - t),
}
both = pytest.mark.parametrize("operation", EQUATIONS, ids=lambda operation: operation.__name__)


@both
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_loss_and_gradient_are_the_equation(backend, numbers, operation, shape, dtype, reduction) -> None:
    loss, slope = map(np.vectorize, EQUATIONS[operation])
    outputs = (2 * numbers(shape)).astype(dtype)
    targets = np.random.default_rng(0).random(shape).astype(dtype)
    result = operation(backend, backend.asarray(outputs), backend.asarray(targets), reduction=reduction)
    wide = outputs.astype(np.float64), targets.astype(np.float64)
    losses, divisor = loss(*wide), outputs.size if reduction == "mean" else 1
    close = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    np.testing.assert_allclose(backend.to_numpy(result.losses), losses, **close)
    np.testing.assert_allclose(backend.to_numpy(result.gradient), slope(*wide) / divisor, **close)
    assert float(result.loss) == pytest.approx(math.fsum(losses.reshape(-1)) / divisor, rel=TOLERANCE[dtype])
    assert (result.loss.shape, result.loss.dtype) == ((), backend.xp.float64)
    assert (result.weight, result.rows) == (outputs.size, shape[0])
    assert result.losses.dtype == result.gradient.dtype == getattr(backend.xp, dtype)


@both
def test_the_gradient_is_the_derivative(backend, numbers, assert_derivative, operation) -> None:
    outputs, targets = numbers((3, 4)), np.random.default_rng(0).random((3, 4))

    def loss(at: np.ndarray) -> float:
        return float(operation(backend, backend.asarray(at), backend.asarray(targets)).loss)

    result = operation(backend, backend.asarray(outputs), backend.asarray(targets))
    assert_derivative(backend.to_numpy(result.gradient), loss, outputs)


@both
def test_a_column_of_outputs_takes_a_vector_of_targets(backend, numbers, operation) -> None:
    outputs, targets = numbers((4, 1)), np.array([0, 1, 1, 0])
    one, other = (operation(backend, backend.asarray(outputs), backend.asarray(t)) for t in (targets, targets[:, None]))
    assert float(one.loss) == float(other.loss)
    np.testing.assert_array_equal(backend.to_numpy(one.gradient), backend.to_numpy(other.gradient))
    assert tuple(one.gradient.shape) == (4, 1)


@both
@pytest.mark.parametrize(
    ("outputs", "targets"), [((4, 2), (4,)), ((4, 4), (4,)), ((4,), (4, 1)), ((4, 1), (1, 4)), ((4, 2), (2, 4))]
)
def test_shapes_that_only_broadcasting_would_fit(backend, operation, outputs, targets) -> None:
    with pytest.raises(xpnet.ShapeError, match="expected a target for each output"):
        operation(backend, backend.asarray(np.zeros(outputs)), backend.asarray(np.zeros(targets)))


@both
def test_no_rows(backend, operation) -> None:
    empty = backend.asarray(np.zeros((0, 3)))
    result = operation(backend, empty, empty)
    assert math.isnan(float(result.loss))
    assert tuple(result.gradient.shape) == (0, 3)
    assert float(operation(backend, empty, empty, reduction="sum").loss) == 0.0


@both
def test_out_is_filled_and_a_gradient_nobody_wants_is_none(backend, numbers, operation) -> None:
    outputs, targets = backend.asarray(numbers((3, 2))), backend.asarray([[0, 1], [1, 1], [0, 0]])
    fresh, out = operation(backend, outputs, targets), backend.xp.full_like(outputs, np.nan)
    assert operation(backend, outputs, targets, out=out).gradient is out
    np.testing.assert_array_equal(backend.to_numpy(out), backend.to_numpy(fresh.gradient))
    without = operation(backend, outputs, targets, gradient=False)
    assert (without.gradient, float(without.loss)) == (None, float(fresh.loss))


def test_a_squared_error_is_neither_right_nor_wrong(backend) -> None:
    assert math.isnan(float(ops.mean_squared_error(backend, *[backend.asarray(np.ones((2, 1)))] * 2).correct))


def test_a_logit_is_right_on_the_targets_side(backend) -> None:
    logits = backend.asarray([[2.0, -2.0], [0.0, 1.0], [-1.0, 3.0]])
    targets = backend.asarray([[1.0, 0.0], [0.0, 0.2], [1.0, 0.9]])  # right, right; right, wrong; wrong, right
    assert float(ops.binary_cross_entropy(backend, logits, targets).correct) == 4 / 2


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_logits_of_any_size_have_exact_losses(backend, dtype) -> None:
    huge = float(np.finfo(dtype).max) / 4  # their sum is to be finite
    z = np.array([[huge, huge, -huge, -huge, np.inf, np.inf, -np.inf, -np.inf, 0.0, 1e4]])
    t = np.array([[1, 0, 1, 0, 1, 0, 1, 0, 1, 0.25]])
    result = ops.binary_cross_entropy(backend, backend.asarray(z, dtype), backend.asarray(t, dtype), reduction="none")
    losses = [[0, huge, huge, 0, 0, np.inf, np.inf, 0, math.log(2), 7500.0]]
    np.testing.assert_allclose(backend.to_numpy(result.losses), losses, rtol=1e-7)
    gradient = [[0, 1, -1, 0, 0, 1, -1, 0, -0.5, 0.75]]
    np.testing.assert_allclose(backend.to_numpy(result.gradient), gradient, rtol=1e-7)


def test_small_losses_keep_their_digits(backend) -> None:
    result = ops.binary_cross_entropy(backend, backend.asarray([[-40.0]]), backend.asarray([[0.0]]))
    assert float(result.loss) == pytest.approx(math.exp(-40), rel=1e-12)
