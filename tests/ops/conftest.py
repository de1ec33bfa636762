"""References for the operations: random arrays, and derivatives by central differences."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

Numbers = Callable[..., np.ndarray]


@pytest.fixture
def numbers() -> Numbers:
    """Standard normal float64 arrays of a given shape, the same in every run."""
    return np.random.default_rng(20_26).standard_normal


@pytest.fixture
def assert_derivative() -> Callable[..., None]:
    """Compare an analytic gradient with the central differences of a scalar function, entry by entry."""

    def check(analytic: np.ndarray, function: Callable[[np.ndarray], float], x: np.ndarray) -> None:
        epsilon = 1e-5
        numeric = np.empty_like(x)
        for place in np.ndindex(x.shape):
            up, down = x.copy(), x.copy()
            up[place] += epsilon
            down[place] -= epsilon
            numeric[place] = (function(up) - function(down)) / (2 * epsilon)
        scale = np.maximum(np.maximum(abs(analytic), abs(numeric)), 1e-3)
        assert (abs(analytic - numeric) / scale).max() <= 1e-6

    return check
