"""The linear layer, forward and backward, against the equations in float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from xpnet_kernels.cpu import linear, linear_backward

RNG = np.random.default_rng(0)
ACTIVATIONS = {
    None: lambda z: z,
    "relu": lambda z: np.maximum(z, 0),
    "sigmoid": lambda z: 0.5 + 0.5 * np.tanh(z / 2),
    "tanh": np.tanh,
}
DERIVATIVES = {
    None: np.ones_like,
    "relu": lambda y: (y > 0).astype(np.float64),
    "sigmoid": lambda y: y * (1 - y),
    "tanh": lambda y: 1 - y**2,
}
ROUNDING = {np.float32: 2.0**-24, np.float64: 2.0**-53}

activations = pytest.mark.parametrize("activation", ACTIVATIONS)
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
Place = Callable[[np.ndarray], np.ndarray]


def normal(*shape: int, dtype: type = np.float32) -> np.ndarray:
    return RNG.normal(size=shape).astype(dtype)


def forward_case(rows: int, inputs: int, outputs: int, dtype: type, activation: str | None, place: Place = np.copy):
    """Run the forward pass; compare with the equation."""
    x, W, b = normal(rows, inputs, dtype=dtype), normal(inputs, outputs, dtype=dtype), normal(outputs, dtype=dtype)
    out = np.full((rows, outputs), np.nan, dtype)
    linear(place(x), place(W), place(b), activation, out)
    x, W, b = (a.astype(np.float64) for a in (x, W, b))
    bound = (inputs + 4) * (abs(x) @ abs(W) + abs(b) + 1) * ROUNDING[dtype]  # no activation is steeper than 1
    assert (abs(out - ACTIVATIONS[activation](x @ W + b)) <= bound).all()


def backward_case(rows: int, inputs: int, outputs: int, dtype: type, activation: str | None, place: Place = np.copy):
    """Run the backward pass with and without dx; compare with the equations."""
    dy, x, W = (
        normal(rows, outputs, dtype=dtype),
        normal(rows, inputs, dtype=dtype),
        normal(inputs, outputs, dtype=dtype),
    )
    y = RNG.uniform(-0.9, 0.9, (rows, outputs)).astype(dtype)
    given = [place(a) for a in (dy, x, y, W)]
    outputs_of = {}
    for wanted in (False, True):
        dW, db = np.full(W.shape, np.nan, dtype), np.full(outputs, np.nan, dtype)
        dz, dx = np.full(dy.shape, np.nan, dtype), np.full(x.shape, np.nan, dtype) if wanted else None
        linear_backward(*given, activation, dW, db, dz, dx)
        outputs_of[wanted] = dW, db, dx
    for before, after in zip((dy, x, y, W), given, strict=True):
        np.testing.assert_array_equal(before, after)
    for with_dx, without in zip(outputs_of[True][:2], outputs_of[False][:2], strict=True):
        np.testing.assert_array_equal(with_dx, without)
    dW, db, dx = outputs_of[True]
    dy, x, y, W = (a.astype(np.float64) for a in (dy, x, y, W))
    dz = dy * DERIVATIVES[activation](y)
    slack = ROUNDING[dtype] * 4  # dz itself is rounded, and 1 - y² before it
    for value, left, right in ((dW, x.T, dz), (dx, dz, W.T), (db[None], np.ones((1, rows)), dz)):
        noise = abs(left) @ np.ones(right.shape) if right is dz else np.ones(left.shape) @ abs(right)
        bound = (left.shape[1] + 4) * ROUNDING[dtype] * (abs(left) @ abs(right)) + slack * abs(dy).max(
            initial=0
        ) * noise
        assert (abs(value - left @ right) <= bound).all()


@activations
@dtypes
@pytest.mark.parametrize("case", [forward_case, backward_case])
@pytest.mark.parametrize(
    "shape", [(0, 3, 4), (3, 0, 4), (3, 4, 0), (1, 1, 1), (1, 67, 13), (13, 67, 1), (7, 17, 33), (100, 50, 10)]
)
def test_empty_small_and_odd_shapes(case, shape, dtype, activation):
    case(*shape, dtype, activation)


@dtypes
@pytest.mark.parametrize("case", [forward_case, backward_case])
def test_sizes_from_1_to_67(case, dtype):
    for size in range(1, 68):
        case(size, 68 - size, (29 * size) % 67 + 1, dtype, "relu")


@dtypes
@pytest.mark.parametrize("activation", [None, "tanh"])
@pytest.mark.parametrize("case", [forward_case, backward_case])
def test_any_memory_layout(case, dtype, activation, place):
    case(33, 70, 50, dtype, activation, place)


@activations
@pytest.mark.parametrize("shape", [(100, 784, 50), (128, 784, 512)])
@pytest.mark.parametrize("case", [forward_case, backward_case])
def test_layers_of_real_networks(case, shape, activation):
    case(*shape, np.float32, activation)


@activations
@pytest.mark.parametrize("shape", [(100, 784, 50), (100, 784, 500)])
def test_the_number_of_threads_changes_no_bit(shape, activation, monkeypatch):
    rows, inputs, outputs = shape
    x, W, b, dy = normal(rows, inputs), normal(inputs, outputs), normal(outputs), normal(rows, outputs)
    reference = None
    for threads in ("1", "2", "5", "2"):
        monkeypatch.setenv("XPNET_NUM_THREADS", threads)
        y, dW, db, dz, dx = (np.empty_like(a) for a in (dy, W, b, dy, x))
        linear(x, W, b, activation, y)
        linear_backward(dy, x, y, W, activation, dW, db, dz, dx)
        result = y, dW, db, dx
        reference = reference or result
        for array, expected in zip(result, reference, strict=True):
            np.testing.assert_array_equal(array, expected)


SPECIAL = np.array([np.nan, -0.0, 0.0, np.inf, -np.inf, 1.5, -1.5, 1e-42, -1e-42], np.float32)


@pytest.mark.parametrize("outputs", [1, 9, 16, 17, 50, 70])
def test_relu_of_special_values(outputs):
    b = np.resize(SPECIAL, outputs)
    x, W, out = np.zeros((3, 784), np.float32), np.zeros((784, outputs), np.float32), np.empty((3, outputs), np.float32)
    linear(x, W, b, "relu", out)
    expected = np.array([z if math.isnan(z) or z > 0 else 0.0 for z in b])
    np.testing.assert_array_equal(out, np.tile(expected, (3, 1)))
    assert not np.signbit(out[:, expected == 0]).any()


@pytest.mark.parametrize("outputs", [1, 9, 16, 17, 50, 70])
def test_the_derivative_of_relu_at_special_values(outputs):
    y, dy, x = np.tile(np.resize(SPECIAL, outputs), (4, 1)), normal(4, outputs), normal(4, 3)
    W, dW, db = normal(3, outputs), np.empty((3, outputs), np.float32), np.empty(outputs, np.float32)
    dz = np.full((4, outputs), np.nan, np.float32)
    linear_backward(dy, x, y, W, "relu", dW, db, dz)
    np.testing.assert_array_equal(
        dz, [[g if a > 0 else 0.0 for g, a in zip(*rows, strict=True)] for rows in zip(dy, y, strict=True)]
    )
    np.testing.assert_allclose(db, dz.astype(np.float64).sum(axis=0), rtol=1e-6, atol=1e-7)


def test_without_an_activation_neither_y_nor_dz_is_needed():
    dy, x, W = normal(5, 3), normal(5, 4), normal(4, 3)
    dW, db, dx = np.empty_like(W), np.empty(3, np.float32), np.empty_like(x)
    linear_backward(dy, x, None, W, None, dW, db, None, dx)
    np.testing.assert_allclose(dW, x.T.astype(np.float64) @ dy, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(dx, dy.astype(np.float64) @ W.T, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(db, dy.sum(axis=0, dtype=np.float64), rtol=1e-6)


def test_invalid_arguments_of_the_forward_pass():
    x, W, b, out = normal(5, 4), normal(4, 3), normal(3), np.zeros((5, 3), np.float32)
    with pytest.raises(ValueError, match="unknown activation 'gelu'"):
        linear(x, W, b, "gelu", out)
    with pytest.raises(ValueError, match=r"W must have the shape \(4, 2\), not \(3, 2\)"):
        linear(x, W[:3, :2], b, None, out)
    with pytest.raises(ValueError, match=r"b must have the shape \(3,\), not \(2,\)"):
        linear(x, W, b[:2], None, out)
    with pytest.raises(ValueError, match=r"out must have the shape \(5, 3\), not \(3, 5\)"):
        linear(x, W, b, None, out.T)
    with pytest.raises(ValueError, match="W must have contiguous rows"):
        linear(x, normal(3, 4).T, b, None, out)
    with pytest.raises(TypeError, match="W must be float32, not float64"):
        linear(x, W.astype(np.float64), b, None, out)
    with pytest.raises(TypeError, match="x must be float32 or float64, not float16"):
        linear(x.astype(np.float16), W, b, None, out)
    assert (out == 0).all()
    square = normal(4, 4)
    for name, arguments in {
        "x": (square, normal(4, 4), b[:1].repeat(4)),
        "W": (normal(4, 4), square, b[:1].repeat(4)),
        "b": (normal(4, 4), normal(4, 4), square[0]),
    }.items():
        with pytest.raises(ValueError, match=f"out is an output, but shares memory with {name}"):
            linear(*arguments, None, square)


def test_invalid_arguments_of_the_backward_pass():
    dy, x, y, W = normal(5, 3), normal(5, 4), normal(5, 3), normal(4, 3)
    dW, db, dz = np.zeros((4, 3), np.float32), np.zeros(3, np.float32), np.zeros((5, 3), np.float32)
    with pytest.raises(ValueError, match="unknown activation 'gelu'"):
        linear_backward(dy, x, y, W, "gelu", dW, db, dz)
    with pytest.raises(ValueError, match=r"x must have the shape \(5, 4\), not \(4, 4\)"):
        linear_backward(dy, x[:4], y, W, "relu", dW, db, dz)
    with pytest.raises(TypeError, match="y must be a NumPy array, not NoneType"):
        linear_backward(dy, x, None, W, "relu", dW, db, dz)
    with pytest.raises(TypeError, match="dz must be a NumPy array, not NoneType"):
        linear_backward(dy, x, y, W, "relu", dW, db, None)
    with pytest.raises(ValueError, match="dz is an output, but shares memory with dy"):
        linear_backward(dy, x, y, W, "relu", dW, db, dy)
    with pytest.raises(ValueError, match="dW is an output, but shares memory with W"):
        linear_backward(dy, x, y, W, "relu", W, db, dz)
    with pytest.raises(ValueError, match="dx is an output, but shares memory with x"):
        linear_backward(dy, x, y, W, "relu", dW, db, dz, x)
    for array in (dW, db, dz):
        assert (array == 0).all()
    one = np.zeros(4 * 3 + 5 * 4, np.float32)
    dW_there, dx_there, db_there = one[:12].reshape(4, 3), one[2:22].reshape(5, 4), one[:3]
    with pytest.raises(ValueError, match="dx is an output, but shares memory with dW"):
        linear_backward(dy, x, y, W, "relu", dW_there, db, dz, dx_there)
    with pytest.raises(ValueError, match="db is an output, but shares memory with dW"):
        linear_backward(dy, x, y, W, "relu", dW_there, db_there, dz)
    with pytest.raises(ValueError, match="dx is an output, but shares memory with db"):
        linear_backward(dy, x, y, W, "relu", dW, db_there, dz, one[:20].reshape(5, 4))
    with pytest.raises(ValueError, match="dz is an output, but shares memory with dW"):
        linear_backward(dy, x, y, W, "relu", dW_there, db, one[:15].reshape(5, 3))
    assert (one == 0).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(7, 0), (0, 0), (0, 4), (5, 0), (4, 4)])
def test_an_input_gradient_of_another_shape_is_not_taken_for_none(shape, dtype):
    dy, x, W = (np.ones(s, dtype) for s in ((5, 3), (5, 4), (4, 3)))
    dW, db = np.zeros((4, 3), dtype), np.zeros(3, dtype)
    with pytest.raises(ValueError, match=r"dx must have the shape \(5, 4\)"):
        linear_backward(dy, x, None, W, None, dW, db, None, np.zeros(shape, dtype))
    assert not dW.any()
    assert not db.any()


@pytest.mark.parametrize("name", ["out", "dW", "db", "dz", "dx"])
def test_a_read_only_output(name):
    dy, x, y, W, b = normal(5, 3), normal(5, 4), normal(5, 3), normal(4, 3), normal(3)
    shapes = {"out": (5, 3), "dW": (4, 3), "db": (3,), "dz": (5, 3), "dx": (5, 4)}
    outputs = {key: np.zeros(shape, np.float32) for key, shape in shapes.items()}
    outputs[name].flags.writeable = False
    backward = [outputs[key] for key in ("dW", "db", "dz", "dx")]
    call = partial(linear, x, W, b, "relu", outputs["out"])
    call = call if name == "out" else partial(linear_backward, dy, x, y, W, "relu", *backward)
    with pytest.raises(ValueError, match=f"{name} is an output, but this array is read-only"):
        call()
    assert not outputs[name].any()
