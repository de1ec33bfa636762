"""xpnet.initializers: bounds, moments and shapes of every distribution against its definition."""

from __future__ import annotations

import math

import numpy as np
import pytest

import xpnet
from xpnet import initializers, random
from xpnet.initializers import (
    Constant,
    FanInUniform,
    GlorotNormal,
    GlorotUniform,
    HeNormal,
    HeUniform,
    Normal,
    Uniform,
)

SHAPE, FAN_IN, FAN_OUT = (200, 300), 200, 300
COUNT = 200 * 300
KEY = random.stream_key(0, "weights", "test")

UNIFORM = [
    (Uniform(), -0.1, 0.1),
    (Uniform(0.0, 0.1), 0.0, 0.1),
    (Uniform(-2.0, 5.0), -2.0, 5.0),
    (GlorotUniform(), -math.sqrt(6 / 500), math.sqrt(6 / 500)),
    (HeUniform(), -math.sqrt(6 / 200), math.sqrt(6 / 200)),
    (FanInUniform(), -1 / math.sqrt(200), 1 / math.sqrt(200)),
]
NORMAL = [
    (Normal(), 0.0, 0.01),
    (Normal(2.0, mean=-3.0), -3.0, 2.0),
    (GlorotNormal(), 0.0, math.sqrt(2 / 500)),
    (HeNormal(), 0.0, math.sqrt(2 / 200)),
]
ALL = [Constant(0.25), *(case[0] for case in (*UNIFORM, *NORMAL))]


def draw(initializer) -> np.ndarray:
    return initializer.draw(SHAPE, FAN_IN, FAN_OUT, KEY)


def kind(value) -> str:
    return type(value).__name__ if hasattr(value, "draw") else str(value)


def test_every_initialiser_is_tested() -> None:
    assert {type(initializer).__name__ for initializer in ALL} == set(initializers.__all__)


@pytest.mark.parametrize(("initializer", "low", "high"), UNIFORM, ids=kind)
def test_uniform_distributions(initializer, low, high) -> None:
    values = (draw(initializer) - low) / (high - low)
    assert values.min() >= 0.0
    assert values.max() <= 1.0
    counts = np.bincount((values * 20).astype(int).reshape(-1).clip(max=19), minlength=20)
    expected = COUNT / 20
    assert ((counts - expected) ** 2 / expected).sum() < 50  # 19 degrees of freedom; exceeded once in 10,000


@pytest.mark.parametrize(("initializer", "mean", "std"), NORMAL, ids=kind)
def test_normal_distributions(initializer, mean, std) -> None:
    values = np.sort(((draw(initializer) - mean) / std).reshape(-1))
    assert abs(values.mean()) < 4 / math.sqrt(COUNT)
    assert abs(values.std() - 1) < 4 / math.sqrt(2 * COUNT)
    cumulative = np.array([0.5 * (1 + math.erf(x / math.sqrt(2))) for x in values[::100]])
    assert abs(cumulative - np.arange(0, COUNT, 100) / COUNT).max() < 2.3 / math.sqrt(COUNT)


def test_constant() -> None:
    assert (draw(Constant(0.25)) == 0.25).all()
    assert not draw(Constant()).any()


@pytest.mark.parametrize("initializer", ALL, ids=kind)
def test_shapes_and_type(initializer) -> None:
    for shape in [(3, 4), (5,), (), (0, 2), (2, 3, 1, 1)]:
        values = initializer.draw(shape, 3, 4, KEY)
        assert values.shape == shape
        assert values.dtype == np.float64


@pytest.mark.parametrize("initializer", ALL[1:], ids=kind)
def test_the_draw_is_a_function_of_the_key(initializer) -> None:
    np.testing.assert_array_equal(draw(initializer), draw(initializer))
    other = initializer.draw(SHAPE, FAN_IN, FAN_OUT, random.stream_key(1, "weights", "test"))
    assert (draw(initializer) != other).all()


def test_values_are_those_of_the_stream() -> None:
    uniform, normal = random.uniform(KEY, 6), random.normal(KEY, 6)
    expected = 0.5 * uniform.reshape(2, 3) - 0.25
    np.testing.assert_allclose(FanInUniform().draw((2, 3), 16, 9, KEY), expected, rtol=0, atol=1e-16)
    np.testing.assert_allclose(HeNormal().draw((2, 3), 8, 9, KEY), 0.5 * normal.reshape(2, 3), rtol=1e-15)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Constant(math.inf), "value must be a number, not inf"),
        (lambda: Normal(-0.1), "std must be a number of at least 0.0, not -0.1"),
        (lambda: Normal(mean="0"), "mean must be a number, not '0'"),
        (lambda: Uniform(math.nan), "low must be a number, not nan"),
        (lambda: Uniform(1.0, 0.0), "low must not exceed high, but low is 1.0 and high is 0.0"),
    ],
)
def test_settings_that_cannot_work(make, message) -> None:
    with pytest.raises(xpnet.ConfigurationError, match=message):
        make()
