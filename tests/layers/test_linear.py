"""xpnet.layers.linear: the equation in float64, and what the layer declares and refuses."""

from __future__ import annotations

import math

import numpy as np
import pytest

import xpnet
from xpnet import Constant, Context, Linear

ACTIVATIONS = {
    None: (lambda z: z, np.ones_like),
    "relu": (lambda z: np.maximum(z, 0), lambda y: (y > 0).astype(float)),
    "sigmoid": (lambda z: 1 / (1 + np.exp(-z)), lambda y: y * (1 - y)),
    "tanh": (np.tanh, lambda y: 1 - y**2),
}


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 3e-6), ("float64", 1e-14)])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_forward_and_backward_are_the_equations(backend, numbers, passes, activation, dtype, tolerance) -> None:
    function, slope = ACTIVATIONS[activation]
    layer = Linear(6, 4, activation).initialize(backend, seed=2, dtype=dtype)
    x, dy = numbers((5, 6)).astype(dtype), numbers((5, 4)).astype(dtype)
    y, dx, gradients = passes(layer, x, dy)

    W, b = (backend.to_numpy(layer.parameters[name]).astype(np.float64) for name in ("W", "b"))
    x, dy = x.astype(np.float64), dy.astype(np.float64)
    z = np.einsum("ni,ij->nj", x, W) + b
    dz = dy * slope(function(z))
    close = {"rtol": tolerance, "atol": tolerance}
    np.testing.assert_allclose(y, function(z), **close)
    np.testing.assert_allclose(dx, np.einsum("nj,ij->ni", dz, W), **close)
    np.testing.assert_allclose(gradients["W"], np.einsum("ni,nj->ij", x, dz), **close)
    np.testing.assert_allclose(gradients["b"], dz.sum(axis=0), **close)
    assert {y.dtype.name, dx.dtype.name, gradients["W"].dtype.name} == {dtype}


def test_it_declares_a_matrix_and_a_bias() -> None:
    declared = Linear(784, 50).parameter_specs()
    assert {name: (item.shape, item.fan_in, item.fan_out) for name, item in declared.items()} == {
        "W": ((784, 50), 784, 50),
        "b": ((50,), 784, 50),
    }


def test_default_weights_and_biases_reach_one_over_the_root_of_fan_in(cpu) -> None:
    layer = Linear(100, 400).initialize(cpu)
    for view in layer.parameters.values():
        assert abs(view).max() <= 1 / math.sqrt(100)
        assert abs(view).max() > 0.95 / math.sqrt(100)


def test_initialisers_of_ones_own(backend) -> None:
    layer = Linear(2, 3, weights=Constant(2.0), biases=Constant(-1.0)).initialize(backend)
    y = layer(backend.asarray([[1.0, 10.0]]))
    assert backend.to_numpy(y).tolist() == [[21.0, 21.0, 21.0]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 3), "inputs must be a whole number of at least 1, not 0"),
        ((3, -1), "outputs must be a whole number of at least 1, not -1"),
        ((3, 2.5), "outputs must be a whole number of at least 1, not 2.5"),
        ((True, 3), "inputs must be a whole number of at least 1, not True"),
        ((3, 2, None, Constant(0.0), Constant(0.0), 1), "bias must be true or false, not 1"),
        ((3, 2, "rleu"), "unknown activation 'rleu' .did you mean 'relu'.*; the choices are relu, sigmoid, tanh"),
    ],
)
def test_arguments_that_cannot_work(arguments, message) -> None:
    with pytest.raises(xpnet.ConfigurationError, match=message):
        Linear(*arguments)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((5, 3), "Linear(4, 2) takes samples of shape (4,), not (3,)"),
        ((5,), "Linear(4, 2) takes samples of shape (4,), not ()"),
        ((5, 2, 2), "Linear(4, 2) takes samples of shape (..., 4), not (2, 2); put a Flatten() in front of it"),
        ((5, 4, 1), "Linear(4, 2) takes samples of shape (..., 4), not (4, 1); put a Flatten() in front of it"),
    ],
)
def test_an_input_that_does_not_fit(backend, shape, message) -> None:
    layer = Linear(4, 2).initialize(backend)
    with pytest.raises(xpnet.ShapeError) as caught:
        layer(backend.asarray(np.zeros(shape)))
    assert str(caught.value) == message


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("reuse", [False, True])
def test_the_last_axis_of_sequences(backend, numbers, passes, bias, reuse) -> None:
    layer = Linear(6, 4, "tanh", bias=bias).initialize(backend, seed=2, dtype="float64")
    context = Context(backend, training=True, reuse=reuse)
    for rows in (5, 2, 5):
        x, dy = numbers((rows, 3, 6)), numbers((rows, 3, 4))
        y, dx, gradients = passes(layer, x, dy, context)
        W = backend.to_numpy(layer.parameters["W"])
        z = np.einsum("nti,ij->ntj", x, W) + (backend.to_numpy(layer.parameters["b"]) if bias else 0.0)
        dz = dy * (1 - np.tanh(z) ** 2)
        expected = {"W": np.einsum("nti,ntj->ij", x, dz), "b": dz.sum(axis=(0, 1))}
        assert gradients.keys() == ({"W", "b"} if bias else {"W"})
        close = {"rtol": 1e-13, "atol": 1e-13}
        np.testing.assert_allclose(y, np.tanh(z), **close)
        np.testing.assert_allclose(dx, np.einsum("ntj,ij->nti", dz, W), **close)
        for name, gradient in gradients.items():
            np.testing.assert_allclose(gradient, expected[name], **close)


def test_shapes_and_flops_of_samples_with_leading_axes() -> None:
    layer = Linear(4, 2)
    assert [layer.output_shape(shape) for shape in ((4,), (7, 4), (7, 3, 4))] == [(2,), (7, 2), (7, 3, 2)]
    assert [layer.flops(shape) for shape in ((4,), (7, 4), (7, 3, 4))] == [16, 7 * 16, 21 * 16]


def test_a_sequence_model_by_central_differences(backend, numbers) -> None:
    words = xpnet.Linear(3, 5, "sigmoid", bias=False), xpnet.LayerNorm(5), xpnet.GELU(), xpnet.Dropout(0.3)
    model = xpnet.Sequential(*words, xpnet.Linear(5, 2)).initialize(backend, dtype="float64")
    checks = xpnet.check_gradients(model, numbers((2, 4, 3)))
    assert max(check.error for check in checks) < 1e-6
    assert {check.name for check in checks} >= {"0.W", "1.gamma", "4.W", "4.b"}
    assert "0.b" not in model.parameters


def test_a_refused_input_leaves_nothing_behind(backend) -> None:
    layer = Linear(4, 2).initialize(backend)
    context = Context(backend, training=True)
    with pytest.raises(xpnet.ShapeError):
        layer.forward(backend.asarray(np.zeros((5, 3)), "float32"), context)
    with pytest.raises(xpnet.CallOrderError):
        layer.backward(backend.asarray(np.zeros((5, 2)), "float32"), context)
