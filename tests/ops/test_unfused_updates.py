"""xpnet.ops.unfused_updates: one step of each optimizer against scalar loops in Python's floats."""

from __future__ import annotations

import math

import numpy as np
import pytest

from xpnet import ops

TOLERANCE = {"float32": 1e-6, "float64": 1e-14}
COUNT = 131


def adagrad(theta, g, squares, rate, epsilon):
    squares += g * g
    return theta - rate * g / (math.sqrt(squares) + epsilon), squares


def rmsprop(theta, g, v, rate, alpha, epsilon):
    v = alpha * v + (1 - alpha) * g * g
    return theta - rate * g / (math.sqrt(v) + epsilon), v


def lion(theta, g, m, rate, beta1, beta2, decay):
    direction = beta1 * m + (1 - beta1) * g
    theta -= rate * decay * theta
    return theta - rate * ((direction > 0) - (direction < 0)), beta2 * m + (1 - beta2) * g


CASES = {
    "adagrad": (ops.adagrad_update, adagrad, [0.1, 1e-10]),
    "adagrad-epsilon": (ops.adagrad_update, adagrad, [0.1, 0.5]),
    "rmsprop": (ops.rmsprop_update, rmsprop, [0.01, 0.99, 1e-8]),
    "rmsprop-epsilon": (ops.rmsprop_update, rmsprop, [0.01, 0.9, 0.5]),
    "rmsprop-no-memory": (ops.rmsprop_update, rmsprop, [0.01, 0.0, 1e-8]),
    "lion": (ops.lion_update, lion, [0.1, 0.9, 0.99, 0.0]),
    "lion-decay": (ops.lion_update, lion, [0.1, 0.5, 0.75, 0.3]),
}
MAIN = ["adagrad", "rmsprop", "lion"]


def owned(backend, values, dtype):
    """An array that may be written, whatever the backend hands out."""
    return backend.xp.asarray(backend.asarray(values, dtype), copy=True)


def vectors_for(case: str, numbers, dtype) -> list[np.ndarray]:
    """Values, gradients and state; what is a mean or a sum of squares is positive."""
    values, gradients, state = (numbers(COUNT).astype(dtype) for _ in range(3))
    return [values, gradients, state if case.startswith("lion") else abs(state)]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("case", CASES)
def test_a_step_is_the_equation(backend, numbers, case, dtype) -> None:
    update, equation, hyperparameters = CASES[case]
    vectors = vectors_for(case, numbers, dtype)
    on_device = [owned(backend, vector, dtype) for vector in vectors]
    assert update(backend, *on_device, backend.asarray(hyperparameters, "float64")) is None

    values, gradients, state = (backend.to_numpy(vector) for vector in on_device)
    expected = np.array(
        [equation(*element, *hyperparameters) for element in zip(*(v.tolist() for v in vectors), strict=True)]
    )
    np.testing.assert_array_equal(gradients, vectors[1])  # the gradient is only read
    for got, wanted in zip((values, state), expected.T, strict=True):
        assert got.dtype == dtype
        np.testing.assert_allclose(got, wanted, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize("case", MAIN)
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_an_update_that_makes_no_sense_touches_nothing(backend, numbers, case, dtype) -> None:
    update, _, hyperparameters = CASES[case]
    vectors = [owned(backend, vector, dtype) for vector in vectors_for(case, numbers, dtype)]
    vectors[1][3] = math.nan
    before = [backend.to_numpy(vector).tobytes() for vector in vectors]
    hyperparameters = backend.asarray(hyperparameters, "float64")
    update(backend, *vectors, hyperparameters, backend.asarray([1], "int32"))
    assert [backend.to_numpy(vector).tobytes() for vector in vectors] == before
    update(backend, *vectors, hyperparameters, backend.asarray([0], "int32"))
    for vector in (vectors[0], vectors[2]):
        assert np.flatnonzero(np.isnan(backend.to_numpy(vector))).tolist() == [3]


@pytest.mark.parametrize(
    ("update", "hyperparameters"), [(ops.rmsprop_update, [0, 0.9, 1e-8]), (ops.lion_update, [0, 0, 0.9, 0])]
)
def test_moments_that_decay_towards_denormals_become_zero(backend, update, hyperparameters) -> None:
    theta, gradients, moment = (owned(backend, values, "float32") for values in ([1.0] * 2, [0.0] * 2, [1e-36, 1e-35]))
    update(backend, theta, gradients, moment, backend.asarray(hyperparameters, "float64"))
    np.testing.assert_allclose(backend.to_numpy(moment), [0, 9e-36], rtol=1e-6)


def test_float32_settings_are_rounded_once(backend) -> None:
    theta, v = (owned(backend, [0.0], "float32") for _ in range(2))
    hyperparameters = backend.asarray([0.0, 0.999, 1e-8], "float64")
    ops.rmsprop_update(backend, theta, backend.asarray([1.0], "float32"), v, hyperparameters)
    assert float(v[0]) == pytest.approx(0.001, rel=2e-7)  # 1 - 0.999 in float32 is off by 1.3e-5 of itself
