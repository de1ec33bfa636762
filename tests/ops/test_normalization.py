"""xpnet.ops.normalization: against sums that math.fsum rounds once, and central differences."""

from __future__ import annotations

import math

import numpy as np
import pytest

from xpnet import ops

EPSILON = 1e-5
TOLERANCE = {"float32": 3e-6, "float64": 1e-13}
SHAPES = [(2, 1), (7, 3), (5, 3, 4, 2), (1, 2, 3, 1)]


def exact_moments(values: np.ndarray) -> tuple[float, float]:
    """Mean and biased variance, each sum rounded once."""
    numbers = values.astype(np.float64).reshape(-1).tolist()
    mean = math.fsum(numbers) / len(numbers)
    return mean, math.fsum((x - mean) ** 2 for x in numbers) / len(numbers)


def by_channel(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    moments = np.array([exact_moments(x[:, channel]) for channel in range(x.shape[1])])
    return moments[:, 0], moments[:, 1]


def beside(vector: np.ndarray, x: np.ndarray) -> np.ndarray:
    return vector.reshape(-1, *[1] * (x.ndim - 2))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", SHAPES)
def test_batch_norm_is_the_equation(backend, numbers, shape, dtype) -> None:
    x, gamma, beta = (numbers(s).astype(dtype) for s in (shape, shape[1], shape[1]))
    result = ops.batch_norm(backend, *map(backend.asarray, (x, gamma, beta)), EPSILON)
    mean, variance = by_channel(x)
    expected = beside(gamma / np.sqrt(variance + EPSILON), x) * (x - beside(mean, x)) + beside(beta, x)
    close = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    np.testing.assert_allclose(backend.to_numpy(result.y), expected, **close)
    np.testing.assert_allclose(backend.to_numpy(result.mean).reshape(-1), mean, **close)
    np.testing.assert_allclose(backend.to_numpy(result.variance).reshape(-1), variance, **close)
    assert result.y.dtype == getattr(backend.xp, dtype)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", SHAPES)
def test_batch_norm_in_inference_is_the_equation(backend, numbers, shape, dtype) -> None:
    x, gamma, beta, mean = (numbers(s).astype(dtype) for s in (shape, *[shape[1]] * 3))
    variance = abs(numbers(shape[1])).astype(dtype)
    arrays = map(backend.asarray, (x, gamma, beta, mean, variance))
    y = ops.batch_norm_inference(backend, *arrays, EPSILON)
    wide = np.sqrt(variance.astype(np.float64) + EPSILON)
    expected = beside(gamma / wide, x) * (x - beside(mean, x)) + beside(beta, x)
    np.testing.assert_allclose(backend.to_numpy(y), expected, rtol=1e-5 if dtype == "float32" else 1e-13, atol=1e-6)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", [(1, 2), (5, 3), (2, 3, 4)])
def test_layer_norm_is_the_equation(backend, numbers, shape, dtype) -> None:
    x, gamma, beta = (numbers(s).astype(dtype) for s in (shape, shape[-1], shape[-1]))
    result = ops.layer_norm(backend, *map(backend.asarray, (x, gamma, beta)), EPSILON)
    rows = []
    for row in x.reshape(-1, shape[-1]):
        mean, variance = exact_moments(row)
        rows.append((row - mean) / math.sqrt(variance + EPSILON) * gamma + beta)
    close = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    np.testing.assert_allclose(backend.to_numpy(result.y), np.reshape(rows, shape), **close)


@pytest.mark.parametrize(
    ("forward", "backward", "shape", "features"),
    [
        (ops.batch_norm, ops.batch_norm_backward, (4, 3), 3),
        (ops.batch_norm, ops.batch_norm_backward, (2, 3, 2, 2), 3),
        (ops.layer_norm, ops.layer_norm_backward, (3, 4), 4),
        (ops.layer_norm, ops.layer_norm_backward, (2, 2, 3), 3),
    ],
)
def test_backward_is_the_derivative(backend, numbers, assert_derivative, forward, backward, shape, features) -> None:
    given = {"x": numbers(shape), "gamma": numbers(features), "beta": numbers(features)}
    dy = numbers(shape)
    arrays = {name: backend.asarray(value) for name, value in given.items()}
    result = forward(backend, **arrays, epsilon=EPSILON)
    dgamma, dbeta = (backend.xp.full_like(arrays["gamma"], np.nan) for _ in range(2))
    dx = backward(backend, backend.asarray(dy), result, arrays["gamma"], dgamma, dbeta)

    for name, gradient in {"x": dx, "gamma": dgamma, "beta": dbeta}.items():

        def scalar(at: np.ndarray, name: str = name) -> float:
            y = forward(backend, **{**arrays, name: backend.asarray(at)}, epsilon=EPSILON).y
            return float(np.sum(dy * backend.to_numpy(y)))

        assert_derivative(backend.to_numpy(gradient), scalar, given[name])


@pytest.mark.parametrize(("mean", "dtype", "tolerance"), [(1e4, "float32", 1e-3), (1e8, "float64", 1e-7)])
@pytest.mark.parametrize("kind", ["batch", "layer"])
def test_a_large_mean_costs_no_digits_of_the_variance(backend, numbers, kind, mean, dtype, tolerance) -> None:
    """E[x²] - E[x]² would have none left: x² is 1e8 in float32, 1e16 in float64."""
    x = (mean + numbers((500, 2))).astype(dtype)
    given, operation = (x, ops.batch_norm) if kind == "batch" else (np.ascontiguousarray(x.T), ops.layer_norm)
    length = given.shape[1]
    one, zero = np.ones(length, dtype), np.zeros(length, dtype)
    result = operation(backend, *map(backend.asarray, (given, one, zero)), EPSILON)
    variance = by_channel(x)[1]
    np.testing.assert_allclose(backend.to_numpy(result.variance).reshape(-1), variance, rtol=tolerance)


def test_many_rows_cost_float32_no_digits(backend) -> None:
    """Added one by one in float32, the mean of so many drifts from the fifth digit on."""
    x = np.full((60_000, 2), 0.1, np.float32)
    one, zero = backend.asarray(np.ones(2, np.float32)), backend.asarray(np.zeros(2, np.float32))
    result = ops.batch_norm(backend, backend.asarray(x), one, zero, EPSILON)
    assert backend.to_numpy(result.mean).reshape(-1).tolist() == x[0].tolist()


@pytest.mark.parametrize("value", [0.0, 3.0, -1e6])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_a_constant_column_becomes_its_shift(backend, value, dtype) -> None:
    x = backend.asarray(np.full((6, 2), value, dtype))
    gamma, beta = backend.asarray([2.0, -2.0], dtype), backend.asarray([0.5, 7.0], dtype)
    result = ops.batch_norm(backend, x, gamma, beta, EPSILON)
    assert backend.to_numpy(result.y).tolist() == [[0.5, 7.0]] * 6
    assert not backend.to_numpy(result.variance).any()


def test_outputs_are_filled_and_returned(backend, numbers) -> None:
    x, dy, gamma, beta = (backend.asarray(numbers(shape)) for shape in ((4, 3), (4, 3), 3, 3))
    dgamma, dbeta = backend.xp.empty_like(gamma), backend.xp.empty_like(gamma)
    for forward, backward in (
        (ops.batch_norm, ops.batch_norm_backward),
        (ops.layer_norm, ops.layer_norm_backward),
    ):
        fresh, out = forward(backend, x, gamma, beta, EPSILON), backend.xp.full_like(x, np.nan)
        assert forward(backend, x, gamma, beta, EPSILON, out).y is out
        np.testing.assert_array_equal(backend.to_numpy(out), backend.to_numpy(fresh.y))
        dx = backward(backend, dy, fresh, gamma, dgamma, dbeta)
        assert backward(backend, dy, fresh, gamma, dgamma, dbeta, out) is out
        np.testing.assert_array_equal(backend.to_numpy(out), backend.to_numpy(dx))
