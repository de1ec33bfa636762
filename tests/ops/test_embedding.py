"""xpnet.ops.embedding: rows against NumPy's indexing, the gradient against additions one by one."""

from __future__ import annotations

import numpy as np
import pytest

import xpnet
from xpnet import ops

INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(), (4,), (2, 3), (2, 1, 3), (0,), (0, 3)])
def test_rows_are_those_of_the_table_bit_for_bit(backend, numbers, shape, dtype) -> None:
    W, indices = numbers((7, 3)).astype(dtype), np.random.default_rng(0).integers(7, size=shape)
    y = ops.embedding(backend, backend.asarray(W), backend.asarray(indices))
    np.testing.assert_array_equal(backend.to_numpy(y), W[indices])
    assert (tuple(y.shape), y.dtype) == ((*shape, 3), getattr(backend.xp, dtype))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(9,), (4, 6), (1,), (0, 3), ()])
def test_the_gradient_adds_what_each_index_received(backend, numbers, shape, dtype) -> None:
    indices, dy = np.random.default_rng(1).integers(5, size=shape), numbers((*shape, 3)).astype(dtype)
    expected = np.zeros((7, 3))  # 5 and 6 are never asked for
    np.add.at(expected, indices, dy.astype(np.float64))
    dW = backend.xp.full_like(backend.asarray(np.zeros((7, 3), dtype)), np.nan)
    ops.embedding_backward(backend, backend.asarray(dy), backend.asarray(indices), dW)
    tolerance = 1e-6 if dtype == "float32" else 1e-14
    np.testing.assert_allclose(backend.to_numpy(dW), expected, rtol=tolerance, atol=tolerance)


def test_the_gradient_is_the_derivative(backend, numbers, assert_derivative) -> None:
    W, dy, indices = numbers((4, 2)), numbers((3, 2, 2)), backend.asarray([[0, 3], [3, 3], [1, 0]])
    dW = backend.xp.asarray(backend.asarray(W), copy=True)
    ops.embedding_backward(backend, backend.asarray(dy), indices, dW)

    def scalar(at: np.ndarray) -> float:
        return float(np.sum(dy * backend.to_numpy(ops.embedding(backend, backend.asarray(at), indices))))

    assert_derivative(backend.to_numpy(dW), scalar, W)


def test_many_equal_indices_cost_float32_no_digits(backend) -> None:
    """Added one by one in float32, 0.1 drifts from the fifth digit on."""
    count = 60_000
    dy, dW = backend.asarray(np.full((count, 1), 0.1, np.float32)), backend.asarray(np.zeros((3, 1), np.float32))
    dW = backend.xp.asarray(dW, copy=True)
    ops.embedding_backward(backend, dy, backend.asarray(np.full(count, 2)), dW)
    assert backend.to_numpy(dW).tolist() == [[0.0], [0.0], [float(np.float32(count * float(np.float32(0.1))))]]


@pytest.mark.parametrize("index_type", INTEGERS)
def test_indices_of_any_integer_type(backend, numbers, index_type) -> None:
    W, indices = numbers((200, 2)), np.array([[5, 0], [127, 5]], index_type)
    y = ops.embedding(backend, backend.asarray(W), backend.asarray(indices))
    np.testing.assert_array_equal(backend.to_numpy(y), W[[[5, 0], [127, 5]]])
    dW = backend.xp.full_like(backend.asarray(W), np.nan)
    ops.embedding_backward(backend, y, backend.asarray(indices), dW)
    np.testing.assert_allclose(backend.to_numpy(dW)[[0, 5, 127, 6]], [W[0], 2 * W[5], W[127], [0, 0]], rtol=1e-13)


@pytest.mark.parametrize("bad", [-1, 3, 2**40])
def test_an_index_outside_raises_or_is_nan(backend, bad) -> None:
    W, indices = backend.asarray(np.ones((3, 2))), backend.asarray(np.array([[0, 2], [1, bad]]))
    if backend.synchronous:
        with pytest.raises(xpnet.OutOfRangeError, match=f"row index {bad} at row 3 is outside 0 to 2"):
            ops.embedding(backend, W, indices)
        return
    y = backend.to_numpy(ops.embedding(backend, W, indices))
    np.testing.assert_array_equal(y, [[[1, 1], [1, 1]], [[1, 1], [np.nan, np.nan]]])
    dW = backend.xp.full_like(W, np.nan)
    ops.embedding_backward(backend, backend.asarray(np.ones((2, 2, 2))), indices, dW)
    np.testing.assert_array_equal(backend.to_numpy(dW), np.ones((3, 2)))  # it went nowhere


@pytest.mark.parametrize("indices", [[0.0, 1.0], [True, False]])
def test_indices_that_are_no_integers(backend, indices) -> None:
    with pytest.raises(xpnet.DTypeError, match="row indices must be integers, not"):
        ops.embedding(backend, backend.asarray(np.ones((3, 2))), backend.asarray(indices))


def test_out_is_filled_and_returned(backend, numbers) -> None:
    W, indices = backend.asarray(numbers((3, 2))), backend.asarray([[2, 0]])
    out = backend.xp.full((1, 2, 2), np.nan, dtype=backend.xp.float64, device=backend.device)
    assert ops.embedding(backend, W, indices, out) is out
    np.testing.assert_array_equal(backend.to_numpy(out), backend.to_numpy(W)[[[2, 0]]])
