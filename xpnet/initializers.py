"""Initial values of parameters.

Values are drawn on the host, in float64, from the random stream of (seed, "weights", parameter name); the caller casts
and copies them. The same seed therefore gives the same parameters on every backend.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np

from xpnet import random
from xpnet.errors import ConfigurationError, finite_number

__all__ = [
    "Constant",
    "FanInUniform",
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "Normal",
    "Uniform",
]

Key = tuple[int, int]


class Initializer(Protocol):
    """The interface of an initialiser."""

    def draw(self, shape: tuple[int, ...], fan_in: int, fan_out: int, key: Key) -> np.ndarray:
        """Values of ``shape`` in float64, for a layer of ``fan_in`` inputs and ``fan_out`` outputs."""
        ...


def _uniform(low: float, high: float, shape: tuple[int, ...], key: Key) -> np.ndarray:
    return low + (high - low) * random.uniform(key, math.prod(shape)).reshape(shape)


class Constant:
    """Every value is ``value``.

    Raises:
        ConfigurationError: ``value`` is not a finite number.

    >>> Constant(0.5).draw((2,), 1, 1, (0, 0))
    array([0.5, 0.5])
    """

    def __init__(self, value: float = 0.0) -> None:
        self.value = finite_number("value", value)

    def draw(self, shape: tuple[int, ...], fan_in: int, fan_out: int, key: Key) -> np.ndarray:
        """Values of ``shape``, float64."""
        return np.full(shape, self.value)


class Normal:
    """N(mean, std²).

    Raises:
        ConfigurationError: ``std`` is negative, or an argument is not a finite number.

    >>> bool(abs(Normal(std=0.01).draw((1000,), 1, 1, (0, 0)).std() - 0.01) < 1e-3)
    True
    """

    def __init__(self, std: float = 0.01, mean: float = 0.0) -> None:
        self.std = finite_number("std", std, low=0.0)
        self.mean = finite_number("mean", mean)

    def draw(self, shape: tuple[int, ...], fan_in: int, fan_out: int, key: Key) -> np.ndarray:
        """Values of ``shape``, float64."""
        return self.mean + self.std * random.normal(key, math.prod(shape)).reshape(shape)


class Uniform:
    """U(low, high).

    Raises:
        ConfigurationError: ``low`` exceeds ``high``, or an argument is not a finite number.

    >>> values = Uniform(0.0, 0.1).draw((1000,), 1, 1, (0, 0))
    >>> bool(values.min() >= 0.0 and values.max() < 0.1)
    True
    """

    def __init__(self, low: float = -0.1, high: float = 0.1) -> None:
        self.low = finite_number("low", low)
        self.high = finite_number("high", high)
        if self.low > self.high:
            raise ConfigurationError(f"low must not exceed high, but low is {low} and high is {high}")

    def draw(self, shape: tuple[int, ...], fan_in: int, fan_out: int, key: Key) -> np.ndarray:
        """Values of ``shape``, float64."""
        return _uniform(self.low, self.high, shape, key)


class GlorotUniform:
    """U(-a, a) with a = sqrt(6 / (fan_in + fan_out)): Keras's default for weights.

    Source: Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks", 2010.

    >>> bool(abs(GlorotUniform().draw((100,), 3, 3, (0, 0))).max() <= 1.0)
    True
    """

    def draw(self, shape: tuple[int, ...], fan_in: int, fan_out: int, key: Key) -> np.ndarray:
        """Values of ``shape``, float64."""
        bound = math.sqrt(6.0 / (fan_in + fan_out))
        return _uniform(-bound, bound, shape, key)


class GlorotNormal:
    """N(0, 2 / (fan_in + fan_out)).

    Source: Glorot and Bengio, 2010. Unlike Keras's, not truncated.

    >>> GlorotNormal().draw((2, 3), 2, 3, (0, 0)).shape
    (2, 3)
    """

    def draw(self, shape: tuple[int, ...], fan_in: int, fan_out: int, key: Key) -> np.ndarray:
        """Values of ``shape``, float64."""
        return Normal(math.sqrt(2.0 / (fan_in + fan_out))).draw(shape, fan_in, fan_out, key)


class HeNormal:
    """N(0, 2 / fan_in), for layers followed by a ReLU.

    Source: He, Zhang, Ren, Sun, "Delving deep into rectifiers", 2015.

    >>> HeNormal().draw((2, 3), 2, 3, (0, 0)).shape
    (2, 3)
    """

    def draw(self, shape: tuple[int, ...], fan_in: int, fan_out: int, key: Key) -> np.ndarray:
        """Values of ``shape``, float64."""
        return Normal(math.sqrt(2.0 / fan_in)).draw(shape, fan_in, fan_out, key)


class HeUniform:
    """U(-a, a) with a = sqrt(6 / fan_in), for layers followed by a ReLU.

    Source: He, Zhang, Ren, Sun, 2015.

    >>> bool(abs(HeUniform().draw((100,), 6, 1, (0, 0))).max() <= 1.0)
    True
    """

    def draw(self, shape: tuple[int, ...], fan_in: int, fan_out: int, key: Key) -> np.ndarray:
        """Values of ``shape``, float64."""
        bound = math.sqrt(6.0 / fan_in)
        return _uniform(-bound, bound, shape, key)


class FanInUniform:
    """U(-a, a) with a = 1 / sqrt(fan_in): PyTorch's default for the weights and biases of ``nn.Linear``.

    >>> bool(abs(FanInUniform().draw((100,), 4, 1, (0, 0))).max() <= 0.5)
    True
    """

    def draw(self, shape: tuple[int, ...], fan_in: int, fan_out: int, key: Key) -> np.ndarray:
        """Values of ``shape``, float64."""
        bound = 1.0 / math.sqrt(fan_in)
        return _uniform(-bound, bound, shape, key)
