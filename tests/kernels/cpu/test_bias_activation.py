"""Bias, activation and their backward pass, against the equations in float64."""

from __future__ import annotations

import numpy as np
import pytest
from xpnet_kernels.cpu import bias_activation, bias_activation_backward

RNG = np.random.default_rng(0)
ACTIVATIONS = {
    None: lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": lambda x: 0.5 + 0.5 * np.tanh(x / 2),
    "tanh": np.tanh,
}
DERIVATIVES = {
    None: np.ones_like,
    "relu": lambda y: (y > 0).astype(np.float64),
    "sigmoid": lambda y: y * (1 - y),
    "tanh": lambda y: 1 - y**2,
}
TOLERANCE = {np.float32: 5e-7, np.float64: 1e-15}

activations = pytest.mark.parametrize("activation", ACTIVATIONS)
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
shapes = pytest.mark.parametrize("shape", [(0, 3), (3, 0), (1, 1), (7, 10), (100, 50), (33, 1031)])


@activations
@dtypes
@shapes
@pytest.mark.parametrize("in_place", [False, True])
def test_forward(activation, dtype, shape, in_place, place):
    z, bias = place((4 * RNG.normal(size=shape)).astype(dtype)), RNG.normal(size=shape[1]).astype(dtype)
    expected = ACTIVATIONS[activation]((z + bias).astype(np.float64))
    out = z if in_place and z.flags.writeable else np.full(shape, 7, dtype)
    bias_activation(z, place(bias), activation, out)
    np.testing.assert_allclose(out, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] / 4)


@activations
@dtypes
@shapes
@pytest.mark.parametrize("in_place", [False, True])
def test_backward(activation, dtype, shape, in_place, place):
    dy, y = place(RNG.normal(size=shape).astype(dtype)), place(RNG.uniform(-0.9, 0.9, shape).astype(dtype))
    expected = dy.astype(np.float64) * DERIVATIVES[activation](y.astype(np.float64))
    dz = dy if in_place and dy.flags.writeable else np.full(shape, 7, dtype)
    db = np.full(shape[1], 7, dtype)
    bias_activation_backward(dy, y, activation, dz, db)
    np.testing.assert_allclose(dz, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    np.testing.assert_allclose(db, expected.sum(axis=0), rtol=1e-5, atol=TOLERANCE[dtype] * shape[0])


def test_long_sums_are_in_double_precision():
    dy = np.full((2**21, 1), 0.1, np.float32)
    db = np.empty(1, np.float32)
    bias_activation_backward(dy, None, None, np.empty_like(dy), db)
    assert db[0] == np.float32(float(np.float32(0.1)) * 2**21)


@activations
def test_nan_stays_nan(activation):
    out = np.empty((1, 40))
    bias_activation(np.full((1, 40), np.nan), np.zeros(40), activation, out)
    assert np.isnan(out).all()


@pytest.mark.parametrize(("activation", "limits"), [("sigmoid", [0, 1]), ("tanh", [-1, 1]), ("relu", [0, np.inf])])
@dtypes
def test_infinities(activation, limits, dtype):
    out = np.empty((1, 2), dtype)
    bias_activation(np.array([[-np.inf, np.inf]], dtype), np.zeros(2, dtype), activation, out)
    assert out[0].tolist() == limits


@activations
def test_the_number_of_threads_changes_no_bit(monkeypatch, activation):
    dy, y = RNG.normal(size=(2, 2**11, 2**10)).astype(np.float32)
    outputs = []
    for threads in ("1", "2", "5"):
        monkeypatch.setenv("XPNET_NUM_THREADS", threads)
        dz, db = np.empty_like(dy), np.empty(2**10, np.float32)
        bias_activation_backward(dy, y, activation, dz, db)
        out = np.empty_like(dy)
        bias_activation(dy, db, activation, out)
        outputs.append((dz, db, out))
    for arrays in outputs[1:]:
        for array, reference in zip(arrays, outputs[0], strict=True):
            np.testing.assert_array_equal(array, reference)


def test_invalid_arguments():
    z, bias = np.ones((2, 3), np.float32), np.ones(3, np.float32)
    with pytest.raises(ValueError, match="unknown activation 'gelu'; the choices are None, 'relu', 'sigmoid' and"):
        bias_activation(z, bias, "gelu", z)
    with pytest.raises(ValueError, match=r"bias must have the shape \(3,\), not \(2,\)"):
        bias_activation(z, bias[:2], None, z)
    with pytest.raises(ValueError, match="out overlaps with z at other elements; give it an array of its own"):
        bias_activation(z[:1], bias, None, z.reshape(-1)[1:4].reshape(1, 3))
    with pytest.raises(TypeError, match="y must be a NumPy array, not NoneType"):
        bias_activation_backward(z, None, "relu", z, bias)
    with pytest.raises(ValueError, match="dz is an output, but shares memory with y"):
        bias_activation_backward(z, z, "relu", z, bias)
    assert (z == 1).all()
    assert (bias == 1).all()
