"""xpnet.ops.linear: y = a(x W + b) against sums in float64, and its derivatives."""

from __future__ import annotations

import math

import numpy as np
import pytest

from xpnet import ops

ACTIVATIONS = {
    None: lambda z: z,
    "relu": lambda z: max(z, 0.0),
    "sigmoid": lambda z: 1 / (1 + math.exp(-z)),
    "tanh": math.tanh,
}


def by_sums(x: np.ndarray, W: np.ndarray, b: np.ndarray, activation: str | None) -> list[list[float]]:
    """The definition, one product after the other, in exactly rounded sums."""
    columns = range(W.shape[1])
    return [
        [ACTIVATIONS[activation](math.fsum([b[j], *(row * W[:, j])])) for j in columns] for row in x.astype(np.float64)
    ]


@pytest.fixture
def arrays(numbers):
    return numbers((5, 4)), numbers((4, 3)), numbers(3)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-6), ("float64", 1e-14)])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_forward_is_the_equation(backend, arrays, activation, dtype, tolerance) -> None:
    arrays = [array.astype(dtype) for array in arrays]
    y = ops.linear(backend, *map(backend.asarray, arrays), activation)
    assert y.dtype == getattr(backend.xp, dtype)
    np.testing.assert_allclose(backend.to_numpy(y), by_sums(*arrays, activation), rtol=0, atol=tolerance)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_backward_is_the_derivative(backend, arrays, activation, numbers, assert_derivative) -> None:
    arrays = {"x": arrays[0], "W": arrays[1], "b": arrays[2]}
    dy = numbers((5, 3))
    on_device = {name: backend.asarray(array) for name, array in arrays.items()}
    y = ops.linear(backend, *on_device.values(), activation)
    if activation == "relu":
        pre_activation = arrays["x"] @ arrays["W"] + arrays["b"]
        assert abs(pre_activation).min() > 1e-3  # away from the kink
    dW, db = backend.xp.full_like(on_device["W"], np.nan), backend.xp.full_like(on_device["b"], np.nan)
    dx = ops.linear_backward(backend, backend.asarray(dy), on_device["x"], y, on_device["W"], activation, dW, db)
    for name, gradient in (("x", dx), ("W", dW), ("b", db)):

        def scalar(at: np.ndarray, name: str = name) -> float:
            inputs = on_device | {name: backend.asarray(at)}
            return float(np.sum(dy * backend.to_numpy(ops.linear(backend, *inputs.values(), activation))))

        assert_derivative(backend.to_numpy(gradient), scalar, arrays[name])


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_out_is_filled_and_returned(backend, arrays, activation, numbers) -> None:
    x, W, b = map(backend.asarray, arrays)
    dy, empty = backend.asarray(numbers((5, 3))), backend.xp.empty_like
    y = ops.linear(backend, x, W, b, activation)
    out = empty(y)
    assert ops.linear(backend, x, W, b, activation, out) is out
    np.testing.assert_array_equal(backend.to_numpy(out), backend.to_numpy(y))

    dx = ops.linear_backward(backend, dy, x, y, W, activation, empty(W), empty(b))
    out = empty(x)
    assert ops.linear_backward(backend, dy, x, y, W, activation, empty(W), empty(b), out=out) is out
    np.testing.assert_array_equal(backend.to_numpy(out), backend.to_numpy(dx))


def test_without_the_input_gradient_the_others_are_the_same(backend, arrays, numbers) -> None:
    x, W, b = map(backend.asarray, arrays)
    y, dy = ops.linear(backend, x, W, b, "tanh"), backend.asarray(numbers((5, 3)))
    gradients = []
    for wanted in (True, False):
        dW, db = backend.xp.empty_like(W), backend.xp.empty_like(b)
        dx = ops.linear_backward(backend, dy, x, y, W, "tanh", dW, db, input_gradient=wanted)
        assert (dx is not None) == wanted
        gradients.append([backend.to_numpy(dW).tolist(), backend.to_numpy(db).tolist()])
    assert gradients[0] == gradients[1]


def test_no_rows(backend, arrays) -> None:
    x, W, b = (backend.asarray(array) for array in (arrays[0][:0], *arrays[1:]))
    y = ops.linear(backend, x, W, b, "relu")
    assert y.shape == (0, 3)
    dW, db = backend.xp.full_like(W, 7.0), backend.xp.full_like(b, 7.0)
    assert ops.linear_backward(backend, y, x, y, W, "relu", dW, db).shape == (0, 4)
    assert not backend.to_numpy(dW).any()
    assert not backend.to_numpy(db).any()


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("axes", [(5,), (2, 3), (2, 1, 3), ()])
@pytest.mark.parametrize("activation", [None, "sigmoid"])
@pytest.mark.parametrize("biased", [False, True])
def test_leading_axes_and_no_bias_are_sums_over_rows(backend, numbers, axes, activation, biased, given) -> None:
    x, dy, W, b = numbers((*axes, 4)), numbers((*axes, 3)), numbers((4, 3)), numbers(3) * biased
    function = np.vectorize(ACTIVATIONS[activation])
    y = function(np.tensordot(x, W, 1) + b)
    dz = dy * (1.0 if activation is None else y * (1 - y))
    on_x, on_dy, on_W, on_b = map(backend.asarray, (x, dy, W, b))
    outs = {"y": None, "dx": None, "dz": None}
    if given:
        outs = {
            "y": backend.xp.empty_like(on_dy),
            "dx": backend.xp.empty_like(on_x),
            "dz": backend.xp.empty_like(on_dy),
        }
    dW, db = backend.xp.empty_like(on_W), backend.xp.empty_like(on_b)
    result = ops.linear(backend, on_x, on_W, on_b if biased else None, activation, outs["y"])
    arguments = on_dy, on_x, result, on_W, activation, dW, db if biased else None
    dx = ops.linear_backward(backend, *arguments, out=outs["dx"], dz=outs["dz"])
    assert not given or (result is outs["y"] and dx is outs["dx"])
    dW_alone = backend.xp.empty_like(on_W)
    without = *arguments[:5], dW_alone, *arguments[6:]
    assert ops.linear_backward(backend, *without, input_gradient=False) is None
    expected = {
        "y": (result, y),
        "dx": (dx, np.tensordot(dz, W.T, 1)),
        "dW": (dW, np.einsum("ni,nj->ij", x.reshape(-1, 4), dz.reshape(-1, 3))),
        "dW alone": (dW_alone, np.einsum("ni,nj->ij", x.reshape(-1, 4), dz.reshape(-1, 3))),
        "db": (db, dz.reshape(-1, 3).sum(axis=0)),
    }
    if not biased:
        del expected["db"]
    for name, (ours, theirs) in expected.items():
        np.testing.assert_allclose(backend.to_numpy(ours), theirs, rtol=1e-13, atol=1e-13, err_msg=name)
