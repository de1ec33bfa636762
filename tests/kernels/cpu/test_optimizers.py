"""Every update against its equation in float64; skipped updates and invalid arguments."""

from __future__ import annotations

import numpy as np
import pytest
from xpnet_kernels import cpu

RNG = np.random.default_rng(0)
SIZE = 1003  # not a multiple of any vector's width
TOLERANCE = {np.float32: 2e-6, np.float64: 1e-14}

dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def vectors(dtype: type, count: int) -> list[np.ndarray]:
    return [RNG.normal(size=SIZE).astype(dtype) for _ in range(count)]


def read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def unaligned(array: np.ndarray) -> np.ndarray:
    copy = np.frombuffer(bytearray(array.nbytes + 1), np.uint8)[1:].view(array.dtype)
    copy[:] = array
    return copy


def adam(values, g, m, v, rate, beta1, beta2, epsilon, correction1, correction2, decay):
    values, g, m, v = (array.astype(np.float64) for array in (values, g, m, v))
    m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
    step = rate / correction1 * m / (np.sqrt(v) / np.sqrt(correction2) + epsilon)
    return (1 - rate * decay) * values - step, m, v


@dtypes
@pytest.mark.parametrize("place", [np.copy, unaligned])
@pytest.mark.parametrize("decay", [0.0, 0.01])
def test_adam_is_its_equation(dtype, place, decay):
    values, g, m, v = vectors(dtype, 4)
    v = np.abs(v)
    hyperparameters = (1e-2, 0.9, 0.999, 1e-8, 1 - 0.9**3, 1 - 0.999**3, decay)
    expected = adam(values, g, m, v, *hyperparameters)
    arrays = [place(array) for array in (values, g, m, v)]
    cpu.adam_update(arrays[0], read_only(arrays[1]), *arrays[2:], read_only(np.array(hyperparameters)))
    for array, reference in zip((arrays[0], *arrays[2:]), expected, strict=True):
        np.testing.assert_allclose(array, reference, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@dtypes
def test_sgd_is_its_equation(dtype):
    values, g = vectors(dtype, 2)
    expected = values.astype(np.float64) - 0.1 * g
    cpu.sgd_update(values, read_only(g), np.array([0.1]))
    np.testing.assert_allclose(values, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@dtypes
@pytest.mark.parametrize("nesterov", [0.0, 1.0])
def test_momentum_is_its_equation(dtype, nesterov):
    values, g, velocity = vectors(dtype, 3)
    new = 0.9 * velocity.astype(np.float64) + g
    expected = values - 0.1 * (g + 0.9 * new if nesterov else new)
    cpu.momentum_update(values, read_only(g), velocity, np.array([0.1, 0.9, nesterov]))
    np.testing.assert_allclose(velocity, new, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    np.testing.assert_allclose(values, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize("size", [0, 1, 7, 64, 100_003])
def test_vectors_of_any_length(size):
    values, g = np.ones(size, np.float32), np.full(size, 2, np.float32)
    cpu.sgd_update(values, g, np.array([0.25]))
    assert (values == 0.5).all()


def test_small_moments_become_zero():
    values, m, v, velocity = (np.full(4, 1e-30, np.float32) for _ in range(4))
    zero = np.zeros(4, np.float32)
    for _ in range(200):
        cpu.adam_update(values, zero, m, v, np.array([1e-3, 0.5, 0.5, 1e-8, 1.0, 1.0, 0.0]))
        cpu.momentum_update(values, zero, velocity, np.array([0.0, 0.5, 0.0]))
    for moment in (m, v, velocity):
        assert (moment == 0).all()


@pytest.mark.parametrize("gradient", [1e18, 1e20, 1e25, 3e38])
@pytest.mark.parametrize("size", [1, 64, 67])
def test_huge_gradients_give_a_finite_step_or_none(gradient, size):
    values, m, v = np.ones(size, np.float32), np.zeros(size, np.float32), np.zeros(size, np.float32)
    hyperparameters = np.array([1e-3, 0.9, 0.999, 1e-8, 0.1, 0.001, 0.0])
    cpu.adam_update(values, np.full(size, gradient, np.float32), m, v, hyperparameters)
    square = np.float32(0.001) * np.float32(gradient)
    overflows = float(square) * gradient > float(np.finfo(np.float32).max)
    np.testing.assert_allclose(values, 1 if overflows else 1 - 1e-3, rtol=1e-6)


def test_nan_gradients_stay_visible():
    values, m, v, velocity = (np.ones(3, np.float32) for _ in range(4))
    g = np.array([np.nan, 1, 1], np.float32)
    cpu.adam_update(values, g, m, v, np.array([1e-3, 0.9, 0.999, 1e-8, 0.1, 0.001, 0.0]))
    cpu.momentum_update(np.ones(3, np.float32), g, velocity, np.array([0.1, 0.9, 0.0]))
    for array in (values, m, v, velocity):
        assert np.isnan(array).tolist() == [True, False, False]


@dtypes
@pytest.mark.parametrize(("bad", "flag"), [(None, 0), (np.nan, 1), (np.inf, 1), (-np.inf, 1)])
@pytest.mark.parametrize("position", [0, 500, SIZE - 1])
def test_check_finite(dtype, bad, flag, position):
    g = np.full(SIZE, np.finfo(dtype).max, dtype)  # a sum of these would overflow
    if bad is not None:
        g[position] = bad
    found_inf = np.full(1, 7, np.int32)
    cpu.check_finite(g, found_inf)
    assert found_inf[0] == flag


@pytest.mark.parametrize("flag", [0, 1])
def test_an_update_is_skipped_where_found_inf_is_set(flag):
    found_inf = np.array([flag], np.int32)
    values, m, v, velocity = (np.ones(5, np.float32) for _ in range(4))
    g = np.full(5, 2, np.float32)
    cpu.sgd_update(values, g, np.array([0.1]), found_inf=found_inf)
    cpu.momentum_update(values, g, velocity, np.array([0.1, 0.9, 0.0]), found_inf=found_inf)
    cpu.adam_update(values, g, m, v, np.array([0.1, 0.9, 0.999, 1e-8, 0.1, 0.001, 0.0]), found_inf=found_inf)
    for array in (values, m, v, velocity):
        assert (array == 1).all() == (flag == 1)


UPDATES = {
    cpu.check_finite: ("gradients", "found_inf"),
    cpu.sgd_update: ("values", "gradients", "hyperparameters", "found_inf"),
    cpu.momentum_update: ("values", "gradients", "velocity", "hyperparameters", "found_inf"),
    cpu.adam_update: ("values", "gradients", "m", "v", "hyperparameters", "found_inf"),
}


@pytest.mark.parametrize(("update", "name"), [(update, name) for update in UPDATES for name in UPDATES[update]])
@pytest.mark.parametrize("change", [-1, 1, None])
@dtypes
def test_lengths_that_do_not_fit_are_named_and_nothing_is_touched(update, name, change, dtype):
    """The compiled code must check lengths: an update with a shorter vector would write past its end."""
    lengths = {cpu.sgd_update: 1, cpu.momentum_update: 3, cpu.adam_update: 7}
    arguments = {vector: np.ones(5, dtype) for vector in UPDATES[update]} | {"found_inf": np.zeros(1, np.int32)}
    if update in lengths:
        arguments["hyperparameters"] = np.full(lengths[update], 0.5)
    if (update, name) in ((cpu.check_finite, "gradients"), *((other, "values") for other in lengths)):
        arguments[name] = np.ones((1, 5), dtype)  # of these any length will do
    else:
        room = np.ones(20, arguments[name].dtype)
        arguments[name] = room[: 0 if change is None else len(arguments[name]) + change]
    before = {other: array.copy() for other, array in arguments.items()}
    with pytest.raises(ValueError, match=f"{name} must have "):
        update(**arguments)
    for other, array in arguments.items():
        np.testing.assert_array_equal(array, before[other])


def test_bad_arguments_are_named_and_nothing_is_written():
    values, g = np.ones(4, np.float32), np.ones(4, np.float32)
    hyperparameters = np.array([0.1])
    with pytest.raises(ValueError, match=r"gradients must have the shape \(4,\), not \(3,\)"):
        cpu.sgd_update(values, g[:3], hyperparameters)
    with pytest.raises(TypeError, match="gradients must be float32, not float64"):
        cpu.sgd_update(values, g.astype(np.float64), hyperparameters)
    with pytest.raises(TypeError, match="values must be float32 or float64, not int64"):
        cpu.sgd_update(np.ones(4, np.int64), g, hyperparameters)
    with pytest.raises(TypeError, match="values must be a NumPy array, not list"):
        cpu.sgd_update([1.0], g, hyperparameters)
    with pytest.raises(ValueError, match="gradients must have contiguous rows"):
        cpu.sgd_update(values, np.ones(8, np.float32)[::2], hyperparameters)
    with pytest.raises(ValueError, match="values is an output, but this array is read-only"):
        cpu.sgd_update(read_only(values.copy()), g, hyperparameters)
    with pytest.raises(ValueError, match=r"hyperparameters must have the shape \(1,\), not \(2,\)"):
        cpu.sgd_update(values, g, np.ones(2))
    with pytest.raises(TypeError, match="hyperparameters must be float64, not float32"):
        cpu.sgd_update(values, g, hyperparameters.astype(np.float32))
    with pytest.raises(ValueError, match="hyperparameters must have contiguous rows"):
        cpu.momentum_update(values, g, np.zeros(4, np.float32), np.zeros(6)[::2])
    with pytest.raises(TypeError, match="found_inf must be int32, not int64"):
        cpu.sgd_update(values, g, hyperparameters, found_inf=np.ones(1, np.int64))
    with pytest.raises(TypeError, match="found_inf must be int32, not int64"):
        cpu.check_finite(g, np.ones(1, np.int64))
    with pytest.raises(ValueError, match="found_inf is an output, but this array is read-only"):
        cpu.check_finite(g, read_only(np.ones(1, np.int32)))
    assert (values == 1).all()
