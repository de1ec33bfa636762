"""xpnet.layers.embedding: rows, gradients, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

import xpnet
from xpnet import Constant, Context, Embedding, Flatten, Linear, Sequential


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(6,), (3, 4), (0, 4)])
def test_rows_and_their_gradient(backend, numbers, shape, dtype) -> None:
    layer = Embedding(5, 2).initialize(backend, dtype=dtype)
    x, dy = np.random.default_rng(0).integers(5, size=shape), numbers((*shape, 2)).astype(dtype)
    context = Context(backend, training=True, reuse=True)
    y = layer.forward(backend.asarray(x), context)
    np.testing.assert_array_equal(backend.to_numpy(y), backend.to_numpy(layer.parameters["W"])[x])
    dx = layer.backward(backend.asarray(dy), context)
    assert (tuple(dx.shape), bool(backend.xp.any(dx != 0))) == (shape, False)
    expected = np.zeros((5, 2))
    np.add.at(expected, x, dy.astype(np.float64))
    np.testing.assert_allclose(backend.to_numpy(layer.gradients["W"]), expected, rtol=1e-6, atol=1e-6)


def test_a_model_that_begins_with_it_has_the_derivative(backend) -> None:
    model = Sequential(Embedding(5, 2), Flatten(), Linear(6, 3, "tanh")).initialize(backend, dtype="float64")
    checks = xpnet.check_gradients(model, np.array([[4, 0, 1], [2, 2, 1]]))
    assert [check.name for check in checks] == ["0.W", "2.W", "2.b"]  # integers have no slope
    assert max(check.error for check in checks) <= 1e-6
    assert any(check.analytic for check in checks)


def test_the_default_weights_are_standard_normal(cpu) -> None:
    W = Embedding(100, 400).initialize(cpu).parameters["W"]
    assert abs(W.mean()) < 4 / 200  # four standard errors
    assert abs(W.std() - 1) < 4 / 280


def test_shapes_and_weights_of_ones_own(backend) -> None:
    layer = Embedding(3, 2, weights=Constant(7.0)).initialize(backend)
    assert (layer.output_shape((4,)), layer.output_shape(())) == ((4, 2), (2,))
    assert backend.to_numpy(layer(backend.asarray([2]))).tolist() == [[7.0, 7.0]]
    assert Sequential(Embedding(9, 4), Flatten(), Linear(12, 2)).summary((3,)).split("\n")[1].split() == [
        "0", "Embedding", "(3,", "4)", "36", "0",
    ]  # fmt: skip


def test_an_index_outside(backend) -> None:
    layer = Embedding(3, 2).initialize(backend)
    if backend.synchronous:
        with pytest.raises(xpnet.OutOfRangeError, match="row index 3 at row 1 is outside 0 to 2"):
            layer(backend.asarray([[0, 3]]))
    else:
        np.testing.assert_array_equal(
            np.isnan(backend.to_numpy(layer(backend.asarray([[0, 3]])))), [[[False] * 2, [True] * 2]]
        )


def test_what_is_no_index(backend) -> None:
    layer = Embedding(3, 2).initialize(backend)
    with pytest.raises(xpnet.DTypeError, match="row indices must be integers, not"):
        layer(backend.asarray([[0.0, 1.0]]))
    with pytest.raises(xpnet.ConfigurationError, match="vocabulary must be a whole number of at least 1, not 0"):
        Embedding(0, 2)
    with pytest.raises(xpnet.ConfigurationError, match="features must be a whole number of at least 1, not 0"):
        Embedding(2, 0)
