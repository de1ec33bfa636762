"""xpnet.ops.updates: one step of each optimizer against scalar loops in Python's floats."""

from __future__ import annotations

import math

import numpy as np
import pytest

from xpnet import ops

TOLERANCE = {"float32": 1e-6, "float64": 1e-14}
COUNT = 131  # no multiple of a vector's width


def sgd(theta, g, rate):
    return (theta - rate * g,)


def momentum(theta, g, velocity, rate, mu, nesterov):
    velocity = mu * velocity + g
    return theta - rate * (g + mu * velocity if nesterov else velocity), velocity


def adam(theta, g, m, v, rate, beta1, beta2, epsilon, correction1, correction2, decay):
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    theta -= rate * decay * theta
    return theta - rate * (m / correction1) / (math.sqrt(v / correction2) + epsilon), m, v


CASES = {
    "sgd": (ops.sgd_update, sgd, [0.1]),
    "sgd-of-no-length": (ops.sgd_update, sgd, [0.0]),
    "momentum": (ops.momentum_update, momentum, [0.1, 0.9, 0.0]),
    "momentum-nesterov": (ops.momentum_update, momentum, [0.1, 0.9, 1.0]),
    "momentum-none": (ops.momentum_update, momentum, [0.1, 0.0, 0.0]),
    "adam": (ops.adam_update, adam, [1e-3, 0.9, 0.999, 1e-8, 0.1, 0.001, 0.0]),
    "adam-step-7": (ops.adam_update, adam, [0.1, 0.9, 0.999, 1e-7, 1 - 0.9**7, 1 - 0.999**7, 0.0]),
    "adam-decoupled-decay": (ops.adam_update, adam, [0.1, 0.9, 0.999, 1e-8, 0.1, 0.001, 0.3]),
    "adam-no-memory": (ops.adam_update, adam, [0.1, 0.0, 0.0, 1e-3, 1.0, 1.0, 0.0]),
}


def owned(backend, values, dtype):
    """An array that may be written, whatever the backend hands out."""
    return backend.xp.asarray(backend.asarray(values, dtype), copy=True)


def vectors_for(function, numbers, dtype) -> list[np.ndarray]:
    """Values, gradients and state, as random as a step may meet them; the second moment is positive."""
    state = {"sgd_update": 0, "momentum_update": 1, "adam_update": 2}[function.__name__]
    vectors = [numbers(COUNT).astype(dtype) for _ in range(2 + state)]
    if state == 2:
        vectors[3] = abs(vectors[3])
    return vectors


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("case", CASES)
def test_a_step_is_the_equation(backend, numbers, case, dtype) -> None:
    update, equation, hyperparameters = CASES[case]
    vectors = vectors_for(update, numbers, dtype)
    on_device = [owned(backend, vector, dtype) for vector in vectors]
    assert update(backend, *on_device, backend.asarray(hyperparameters, "float64")) is None

    after = [backend.to_numpy(vector) for vector in on_device]
    expected = np.array(
        [equation(*element, *hyperparameters) for element in zip(*(v.tolist() for v in vectors), strict=True)]
    )
    np.testing.assert_array_equal(after[1], vectors[1])  # the gradient is only read
    for got, wanted in zip([after[0], *after[2:]], expected.T, strict=True):
        assert got.dtype == dtype
        np.testing.assert_allclose(got, wanted, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def test_float32_settings_are_rounded_once(backend) -> None:
    # 1 - beta2 in float32 is off by 1.3e-5 of itself; taken in float64 and then rounded, by 6e-8.
    theta, m, v = (owned(backend, [0.0], "float32") for _ in range(3))
    hyperparameters = backend.asarray([1e-3, 0.9, 0.999, 0.0, 0.1, 0.001, 0.0], "float64")
    ops.adam_update(backend, theta, backend.asarray([1.0], "float32"), m, v, hyperparameters)
    assert float(v[0]) == pytest.approx(0.001, rel=2e-7)
    assert float(m[0]) == pytest.approx(0.1, rel=2e-7)
    assert float(theta[0]) == pytest.approx(-1e-3, rel=5e-7)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_moments_that_decay_towards_denormals_become_zero(backend, dtype) -> None:
    gradients = backend.asarray([0.0, 0.0, 0.0], dtype)
    theta, m, v = (
        owned(backend, values, dtype) for values in ([1.0] * 3, [1.05e-36, -1.05e-36, 1e-35], [1e-36, 1e-37, 1e-30])
    )  # fmt: skip
    ops.adam_update(backend, theta, gradients, m, v, backend.asarray([0.0, 0.9, 0.999, 1e-8, 1, 1, 0], "float64"))
    np.testing.assert_allclose(backend.to_numpy(m), [0, 0, 9e-36], rtol=1e-6)
    np.testing.assert_allclose(backend.to_numpy(v), [0, 0, 9.99e-31], rtol=1e-6)

    velocity = owned(backend, [1.05e-36, -1.05e-36, 1e-35], dtype)
    ops.momentum_update(backend, theta, gradients, velocity, backend.asarray([0.0, 0.9, 0.0], "float64"))
    np.testing.assert_allclose(backend.to_numpy(velocity), [0, 0, 9e-36], rtol=1e-6)


@pytest.mark.parametrize("case", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_a_gradient_that_is_nan_is_not_hidden(backend, numbers, case, dtype) -> None:
    update, _, hyperparameters = CASES[case]
    vectors = [owned(backend, vector, dtype) for vector in vectors_for(update, numbers, dtype)]
    vectors[1][3] = math.nan
    update(backend, *vectors, backend.asarray(hyperparameters, "float64"))
    for vector in [vectors[0], *vectors[2:]]:
        assert np.flatnonzero(np.isnan(backend.to_numpy(vector))).tolist() == [3]


@pytest.mark.parametrize("case", ["sgd", "momentum", "adam"])
def test_an_update_of_empty_vectors_is_accepted(backend, case) -> None:
    update, _, hyperparameters = CASES[case]
    count = {"sgd": 2, "momentum": 3, "adam": 4}[case]
    vectors = [owned(backend, np.zeros(0), "float32") for _ in range(count)]
    update(backend, *vectors, backend.asarray(hyperparameters, "float64"))


@pytest.mark.parametrize("case", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_an_update_that_makes_no_sense_touches_nothing(backend, numbers, case, dtype) -> None:
    update, _, hyperparameters = CASES[case]
    vectors = [owned(backend, vector, dtype) for vector in vectors_for(update, numbers, dtype)]
    vectors[1][3] = math.nan
    before = [backend.to_numpy(vector).tobytes() for vector in vectors]
    hyperparameters = backend.asarray(hyperparameters, "float64")
    update(backend, *vectors, hyperparameters, backend.asarray([1], "int32"))
    assert [backend.to_numpy(vector).tobytes() for vector in vectors] == before
    update(backend, *vectors, hyperparameters, backend.asarray([0], "int32"))
    changed = [vector for place, vector in enumerate(vectors) if place != 1]
    assert all(np.isnan(backend.to_numpy(vector)[3]) for vector in changed)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("loss", [0.5, math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("bad", [None, math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("place", [0, COUNT // 2, COUNT - 1])
def test_the_finite_flag(backend, numbers, dtype, loss, bad, place) -> None:
    gradients = numbers(COUNT).astype(dtype)
    gradients[0] = np.finfo(dtype).max
    if bad is not None:
        gradients[place] = bad
    found_inf = owned(backend, [7], "int32")
    ops.check_finite(backend, backend.asarray(gradients), backend.asarray(loss, "float64"), found_inf)
    assert backend.to_numpy(found_inf).tolist() == [int(bad is not None or not math.isfinite(loss))]
