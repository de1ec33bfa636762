"""Optimizer steps in the simulator against their equations in float64. Run by test_simulator.py."""

from __future__ import annotations

import numpy as np
import pytest
from xpnet_kernels.cuda import adam_update, check_finite, momentum_update, sgd_update

SIZE = 71  # more than the 16 threads of a simulated block take at once, and no multiple of a vector


@pytest.fixture
def flat(element):
    """A function that makes a flat vector of the element type, not aligned."""
    random = np.random.default_rng(0)

    def make(scale=1.0):
        values = element.cast(random.normal(scale=scale, size=SIZE + 1))
        return values[1:]

    return make


def close(element, actual, expected):
    """Rounded once to the element type, after a few roundings in the accumulation type."""
    error = 4 * element.epsilon if element.epsilon < 1e-6 else 1.1 * element.epsilon
    assert actual == pytest.approx(expected, rel=error, abs=1e-6 if element.epsilon > 1e-15 else 1e-15)


def test_sgd(element, flat, as_float64):
    values, gradients = flat(), flat()
    expected = as_float64(values) - 0.1 * as_float64(gradients)
    sgd_update(values, gradients, np.array([0.1]))
    close(element, as_float64(values), expected)


@pytest.mark.parametrize("nesterov", [0.0, 1.0])
def test_momentum(element, flat, as_float64, nesterov):
    values, gradients, velocity = flat(), flat(), flat()
    v = 0.9 * as_float64(velocity) + as_float64(gradients)
    expected = as_float64(values) - 0.1 * (as_float64(gradients) + 0.9 * v if nesterov else v)
    momentum_update(values, gradients, velocity, np.array([0.1, 0.9, nesterov]))
    close(element, as_float64(velocity), v)
    close(element, as_float64(values), expected)


def test_adam(element, flat, as_float64):
    values, gradients, m, v = flat(), flat(), flat(), np.abs(flat()) if element.name != "bfloat16" else flat() & 0x7FFF
    x, g = as_float64(values), as_float64(gradients)
    mean, square = 0.9 * as_float64(m) + 0.1 * g, 0.99 * as_float64(v) + 0.01 * g * g
    expected = (1 - 0.01 * 0.1) * x - 0.01 / 0.19 * mean / (np.sqrt(square) / np.sqrt(0.0199) + 1e-8)
    adam_update(values, gradients, m, v, np.array([0.01, 0.9, 0.99, 1e-8, 0.19, 0.0199, 0.1]))
    close(element, as_float64(m), mean)
    close(element, as_float64(v), square)
    close(element, as_float64(values), expected)


def test_tiny_moments_become_zero():
    values, gradients = np.ones(5, np.float32), np.zeros(5, np.float32)
    m, v = np.array([1e-30, 1e-36, -1e-36, 0, 1e-38], np.float32), np.full(5, 1e-37, np.float32)
    adam_update(values, gradients, m, v, np.array([0.1, 0.9, 0.999, 1e-8, 1.0, 1.0, 0.0]))
    assert m.tolist() == pytest.approx([9e-31, 0, 0, 0, 0])
    assert v.tolist() == [0, 0, 0, 0, 0]
    assert np.isfinite(values).all()


def test_a_step_is_skipped_where_gradients_are_not_finite():
    values, gradients = np.ones(5, np.float32), np.ones(5, np.float32)
    found_inf = np.array([1], np.int32)
    sgd_update(values, gradients, np.array([0.5]), found_inf=found_inf)
    momentum_update(values, gradients, np.zeros(5, np.float32), np.array([0.5, 0.9, 0]), found_inf=found_inf)
    assert values.tolist() == [1] * 5
    found_inf[0] = 0
    sgd_update(values, gradients, np.array([0.5]), found_inf=found_inf)
    assert values.tolist() == [0.5] * 5


@pytest.mark.parametrize("size", [0, 5, 2000], ids=["nothing", "one launch", "two launches"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_check_finite(size, bad):
    gradients = np.zeros(size, np.float32)
    found_inf = np.full(1, 7, np.int32)
    check_finite(gradients, found_inf)
    assert found_inf[0] == 0
    if size:
        gradients[-1] = bad
        check_finite(gradients, found_inf)
        assert found_inf[0] == 1
