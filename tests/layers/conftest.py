"""What the tests of the layers share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from xpnet.layers import Context


@pytest.fixture
def numbers() -> Callable[..., np.ndarray]:
    """Standard normal float64 arrays of a given shape, the same in every run."""
    return np.random.default_rng(20_26).standard_normal


@pytest.fixture
def passes() -> Callable[..., tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]]:
    """One training pass of an initialised layer: its output, input gradient and parameter gradients, on the host."""

    def run(layer, x, dy, context=None):
        backend = layer.require_backend()
        context = context or Context(backend, training=True)
        y = layer.forward(backend.asarray(x, layer.dtype), context)
        dx = layer.backward(backend.asarray(dy, layer.dtype), context)
        gradients = {name: np.array(backend.to_numpy(view)) for name, view in layer.gradients.items()}
        return np.array(backend.to_numpy(y)), np.array(backend.to_numpy(dx)), gradients

    return run
