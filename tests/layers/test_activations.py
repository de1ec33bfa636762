"""xpnet.layers.activations: the layers give the operations' numbers, for images as for vectors."""

from __future__ import annotations

import numpy as np
import pytest

from xpnet import GELU, ConfigurationError, LeakyReLU, ReLU, Sigmoid, Softmax, Softplus, Tanh


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
    assert kind().parameter_specs() == {}


def gelu(x: np.ndarray) -> np.ndarray:
    return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


OF_INPUT = {
    GELU: gelu,
    LeakyReLU: lambda x: np.where(x > 0, x, 0.01 * x),
    Softplus: lambda x: np.log(1 + np.exp(x)),
}


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float64", 1e-14)])
@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 4, 5)])
@pytest.mark.parametrize("kind", OF_INPUT, ids=lambda kind: kind.__name__)
def test_activations_that_keep_their_input_are_the_equations(
    backend, numbers, passes, kind, shape, dtype, tolerance
) -> None:
    x, dy = numbers(shape).astype(dtype), numbers(shape).astype(dtype)
    y, dx, gradients = passes(kind().initialize(backend, dtype=dtype), x, dy)
    wide, step = x.astype(np.float64), 1e-6
    np.testing.assert_allclose(y, OF_INPUT[kind](wide), rtol=tolerance, atol=tolerance)
    slope = (OF_INPUT[kind](wide + step) - OF_INPUT[kind](wide - step)) / (2 * step)
    np.testing.assert_allclose(dx, dy * slope, rtol=1e-5, atol=1e-6)
    assert y.dtype == dx.dtype == dtype
    assert gradients == {}


def test_the_slope_of_a_leaky_relu(backend, passes) -> None:
    y, dx, _ = passes(LeakyReLU(0.25).initialize(backend), [[-4.0, 4.0]], [[1.0, 1.0]])
    assert (y.tolist(), dx.tolist()) == ([[-1.0, 4.0]], [[0.25, 1.0]])
    for slope in (-0.1, float("nan"), "0.1"):
        with pytest.raises(ConfigurationError, match=r"negative_slope must be a number of at least 0\.0, not"):
            LeakyReLU(slope)
