"""xpnet.layers.activations: the layers give the operations' numbers, for images as for vectors."""

from __future__ import annotations

import numpy as np
import pytest

from xpnet import ReLU, Sigmoid, Softmax, Tanh


def softmax(x: np.ndarray) -> np.ndarray:
    weights = np.exp(x)
    return weights / weights.sum(axis=-1, keepdims=True)


def softmax_slope(y: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """dy times the Jacobian, diag(y) - y yᵀ, row by row."""
    jacobian = np.einsum("...i,ij->...ij", y, np.eye(y.shape[-1])) - np.einsum("...i,...j->...ij", y, y)
    return np.einsum("...j,...ij->...i", dy, jacobian)


EQUATIONS = {
    ReLU: (lambda x: np.maximum(x, 0), lambda y, dy: dy * (y > 0)),
    Sigmoid: (lambda x: 1 / (1 + np.exp(-x)), lambda y, dy: dy * y * (1 - y)),
    Tanh: (np.tanh, lambda y, dy: dy * (1 - y**2)),
    Softmax: (softmax, softmax_slope),
}


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float64", 1e-14)])
@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 4, 5)])
@pytest.mark.parametrize("kind", EQUATIONS, ids=lambda kind: kind.__name__)
def test_forward_and_backward_are_the_equations(backend, numbers, passes, kind, shape, dtype, tolerance) -> None:
    function, slope = EQUATIONS[kind]
    x, dy = numbers(shape).astype(dtype), numbers(shape).astype(dtype)
    y, dx, gradients = passes(kind().initialize(backend, dtype=dtype), x, dy)
    expected = function(x.astype(np.float64))
    np.testing.assert_allclose(y, expected, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(dx, slope(expected, dy.astype(np.float64)), rtol=tolerance, atol=tolerance)
    assert y.dtype == dx.dtype == dtype
    assert gradients == {}


@pytest.mark.parametrize("kind", EQUATIONS, ids=lambda kind: kind.__name__)
def test_the_shape_stays(kind) -> None:
    assert kind().output_shape((3, 4)) == (3, 4)
    assert kind().declare_parameters() == {}
