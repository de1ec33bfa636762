"""xpnet.ops.activations: against math's scalars in float64, and against central differences."""

from __future__ import annotations

import math

import numpy as np
import pytest

from xpnet import ops

EQUATIONS = {
    "relu": lambda x: max(x, 0.0),
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "tanh": math.tanh,
}
TOLERANCE = {"float32": 3e-7, "float64": 1e-15}
POINTS = [-30.0, -3.0, -1.0, -1e-3, -0.0, 0.0, 1e-3, 0.5, 1.0, 3.0, 30.0]


def test_every_activation_is_tested() -> None:
    assert set(ops.ACTIVATIONS) == set(EQUATIONS)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", EQUATIONS)
def test_forward_is_the_equation(backend, name, dtype) -> None:
    y = ops.ACTIVATIONS[name].forward(backend, backend.asarray(np.array(POINTS).reshape(1, -1), dtype))
    assert y.dtype == getattr(backend.xp, dtype)
    expected = [[EQUATIONS[name](float(np.dtype(dtype).type(x))) for x in POINTS]]
    np.testing.assert_allclose(backend.to_numpy(y), expected, rtol=TOLERANCE[dtype], atol=1e-300)


@pytest.mark.parametrize("name", EQUATIONS)
def test_backward_is_the_derivative(backend, name, numbers, assert_derivative) -> None:
    x, dy = numbers((3, 4)), numbers((3, 4))
    x += 0.01 * np.sign(x)  # away from ReLU's kink
    forward, backward = ops.ACTIVATIONS[name]

    def scalar(at: np.ndarray) -> float:
        return float(np.sum(dy * backend.to_numpy(forward(backend, backend.asarray(at)))))

    dx = backward(backend, backend.asarray(dy), forward(backend, backend.asarray(x)))
    assert_derivative(backend.to_numpy(dx), scalar, x)


@pytest.mark.parametrize(("name", "limits"), [("relu", [0.0, np.inf]), ("sigmoid", [0.0, 1.0]), ("tanh", [-1.0, 1.0])])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_limits_and_nan(backend, name, limits, dtype) -> None:
    x = backend.asarray([-np.inf, np.inf, np.nan], dtype)
    y = backend.to_numpy(ops.ACTIVATIONS[name].forward(backend, x))
    np.testing.assert_array_equal(y, [*limits, np.nan])


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_sigmoid_keeps_its_small_values(backend, dtype) -> None:
    # 1 - 1 / (1 + exp(x)) would round to 0 here; and sigmoid(-x) = 1 - sigmoid(x) where that is exact enough.
    small = backend.to_numpy(ops.sigmoid(backend, backend.asarray([-80.0], dtype)))
    np.testing.assert_allclose(small, [math.exp(-80.0)], rtol=1e-5)
    x = np.linspace(-5, 5, 21)
    left, right = (backend.to_numpy(ops.sigmoid(backend, backend.asarray(side, dtype))) for side in (x, -x))
    np.testing.assert_allclose(left + right, 1.0, rtol=2 * TOLERANCE[dtype])


def test_relu_has_no_slope_at_its_kink(backend) -> None:
    y = ops.relu(backend, backend.asarray([-1.0, 0.0, 1.0]))
    dx = ops.relu_backward(backend, backend.asarray([5.0, 5.0, 5.0]), y)
    assert backend.to_numpy(dx).tolist() == [0.0, 0.0, 5.0]


@pytest.mark.parametrize("name", EQUATIONS)
def test_out_is_filled_and_returned(backend, name, numbers) -> None:
    forward, backward = ops.ACTIVATIONS[name]
    x, dy = backend.asarray(numbers((2, 3))), backend.asarray(numbers((2, 3)))
    for result in (
        lambda out: forward(backend, x, out),
        lambda out: backward(backend, dy, forward(backend, x), out),
    ):
        out = backend.xp.full((2, 3), np.nan, dtype=backend.xp.float64, device=backend.device)
        assert result(out) is out
        np.testing.assert_array_equal(backend.to_numpy(out), backend.to_numpy(result(None)))


@pytest.mark.parametrize("name", EQUATIONS)
def test_out_may_be_the_input(backend, name, numbers) -> None:
    x = numbers((2, 3))
    expected = backend.to_numpy(ops.ACTIVATIONS[name].forward(backend, backend.asarray(x)))
    own = backend.xp.asarray(backend.asarray(x), copy=True)
    ops.ACTIVATIONS[name].forward(backend, own, own)
    np.testing.assert_array_equal(backend.to_numpy(own), expected)


def exact_gelu(x: float) -> float:
    """By 1 + tanh(u) = 2 / (1 + exp(-2u)), which does not cancel."""
    twice_u = 2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    return x / (1 + math.exp(-twice_u)) if twice_u > -700 else 0.0


OF_INPUT = {
    "gelu": (ops.gelu, ops.gelu_backward, exact_gelu),
    "leaky_relu": (ops.leaky_relu, ops.leaky_relu_backward, lambda x: x if x > 0 else 0.01 * x),
    "softplus": (ops.softplus, ops.softplus_backward, lambda x: max(x, 0.0) + math.log1p(math.exp(-abs(x)))),
}
of_input = pytest.mark.parametrize(("forward", "backward", "equation"), OF_INPUT.values(), ids=OF_INPUT)


class TestOfInput:
    """Those whose derivative is computed from the input."""

    @pytest.mark.parametrize("dtype", TOLERANCE)
    @of_input
    def test_forward_is_the_equation(self, backend, forward, backward, equation, dtype) -> None:
        y = forward(backend, backend.asarray(np.array(POINTS).reshape(1, -1), dtype))
        assert y.dtype == getattr(backend.xp, dtype)
        expected = [[equation(float(np.dtype(dtype).type(x))) for x in POINTS]]
        tolerance = {"float32": 3e-6, "float64": 1e-14}[dtype]
        np.testing.assert_allclose(backend.to_numpy(y), expected, rtol=tolerance, atol=1e-37)

    @of_input
    def test_backward_is_the_derivative(self, backend, numbers, assert_derivative, forward, backward, equation) -> None:
        x, dy = 2 * numbers((3, 4)), numbers((3, 4))
        x += 0.01 * np.sign(x)  # away from the kink

        def scalar(at: np.ndarray) -> float:
            return float(np.sum(dy * backend.to_numpy(forward(backend, backend.asarray(at)))))

        assert_derivative(backend.to_numpy(backward(backend, backend.asarray(dy), backend.asarray(x))), scalar, x)

    @pytest.mark.filterwarnings("error")
    @pytest.mark.parametrize("dtype", TOLERANCE)
    @of_input
    def test_inputs_of_any_size_have_exact_values_and_slopes(self, backend, forward, backward, equation, dtype) -> None:
        huge = float(np.finfo(dtype).max)
        low = 0.01 if forward is ops.leaky_relu else 0.0
        x = backend.asarray([huge, 1e5, -1e5, -huge, np.inf, -np.inf, np.nan], dtype)
        y = backend.to_numpy(forward(backend, x))
        limits = [huge, 1e5, -1e5 * low, -huge * low, np.inf, -np.inf if low else 0.0, np.nan]
        np.testing.assert_allclose(y, limits, rtol=1e-7)
        slopes = backend.to_numpy(backward(backend, backend.xp.ones_like(x), x))
        np.testing.assert_allclose(slopes[:6], [1, 1, low, low, 1, low], rtol=1e-7)

    @of_input
    def test_out_is_filled_and_returned(self, backend, numbers, forward, backward, equation) -> None:
        x, dy = backend.asarray(numbers((2, 3))), backend.asarray(numbers((2, 3)))
        for result in (lambda out: forward(backend, x, out=out), lambda out: backward(backend, dy, x, out=out)):
            out = backend.xp.full_like(x, np.nan)
            assert result(out) is out
            np.testing.assert_array_equal(backend.to_numpy(out), backend.to_numpy(result(None)))

    def test_the_slope_of_a_leaky_relu_is_the_callers(self, backend) -> None:
        x, dy = backend.asarray([-2.0, 0.0, 3.0]), backend.asarray([1.0, 10.0, 100.0])
        assert backend.to_numpy(ops.leaky_relu(backend, x, 0.25)).tolist() == [-0.5, 0.0, 3.0]
        assert backend.to_numpy(ops.leaky_relu_backward(backend, dy, x, 0.25)).tolist() == [0.25, 2.5, 100.0]
