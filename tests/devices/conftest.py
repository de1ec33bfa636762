"""The CPU, and another device to hold against it: CUDA where there is a GPU, and everywhere a stand-in for one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from xpnet.backends import Backend

UNIT = {"float32": 2.0**-24, "float64": 2.0**-53}  # half the distance of two numbers around 1
RELATIVE = {"float32": 2e-6, "float64": 1e-12}  # what two devices may differ by in one operation without a sum

Close = Callable[..., None]


@pytest.fixture(params=["strict", "emulated", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> Backend:
    """Array-api-strict on its ``device1``; CUDA, emulated and real."""
    return request.getfixturevalue(request.param)


@pytest.fixture(params=["emulated", pytest.param("cuda", marks=pytest.mark.gpu)])
def any_cuda(request: pytest.FixtureRequest) -> Backend:
    """CUDA, emulated and real."""
    return request.getfixturevalue(request.param)


@pytest.fixture(params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> str:
    """Each type of parameters."""
    return request.param


@pytest.fixture
def close(dtype: str) -> Close:
    """Holds two arrays against each other.

    Both are sums of ``length`` terms whose magnitudes add up to ``scale``: each errs by at most length · u · scale
    (Higham, "Accuracy and Stability of Numerical Algorithms", 2002, equation 3.4). Without a length, ``scale``
    defaults to the expected values.
    """

    def check(
        actual: np.ndarray, expected: np.ndarray, scale: np.ndarray | float | None = None, length: int = 0
    ) -> None:
        scale = np.abs(expected) if scale is None else scale
        error = np.abs(actual.astype(np.float64) - expected)
        allowed = (RELATIVE[dtype] + 2 * length * UNIT[dtype]) * scale
        assert actual.shape == expected.shape
        assert (error <= allowed + np.finfo(dtype).tiny).all(), (
            f"off by up to {np.max(error / (allowed + 1e-300)):.3g} bounds"
        )

    return check
