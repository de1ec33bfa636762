"""xpnet.ops.pooling: windows by NumPy's own slicing, who gets the gradient, and the derivatives."""

from __future__ import annotations

import numpy as np
import pytest

from xpnet import ops

CASES = [  # images (N, H, W, C), size, stride
    ((2, 4, 6, 3), 2, 2),
    ((2, 5, 7, 2), 2, 2),
    ((1, 5, 6, 2), 3, 1),
    ((2, 7, 8, 1), 3, 2),
    ((2, 8, 7, 2), 2, 3),
    ((2, 3, 4, 2), 1, 1),
    ((0, 4, 4, 2), 2, 2),
]


def windows(x: np.ndarray, size: int, stride: int) -> np.ndarray:
    """(N, R, S, size², C)."""
    N, H, W, C = x.shape
    tops, lefts = range(0, H - size + 1, stride), range(0, W - size + 1, stride)
    result = np.empty((N, len(tops), len(lefts), size * size, C), x.dtype)
    for r, top in enumerate(tops):
        for s, left in enumerate(lefts):
            result[:, r, s] = x[:, top : top + size, left : left + size].reshape(N, size * size, C)
    return result


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("images", "size", "stride"), CASES)
def test_max_pool_takes_the_largest(backend, numbers, images, size, stride, dtype) -> None:
    x = numbers(images).astype(dtype)
    y = backend.to_numpy(ops.max_pool(backend, backend.asarray(x), size, stride))
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, windows(x, size, stride).max(axis=3))


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 3e-7), ("float64", 1e-15)])
@pytest.mark.parametrize(("images", "size", "stride"), CASES)
def test_average_pool_takes_the_mean(backend, numbers, images, size, stride, dtype, tolerance) -> None:
    x = numbers(images).astype(dtype)
    y = backend.to_numpy(ops.average_pool(backend, backend.asarray(x), size, stride))
    assert y.dtype == dtype
    np.testing.assert_allclose(y, windows(x.astype(np.float64), size, stride).mean(axis=3), rtol=0, atol=tolerance)


@pytest.mark.parametrize("ties", ["none", "many", "all"])
@pytest.mark.parametrize(("images", "size", "stride"), CASES)
def test_the_first_of_the_largest_gets_the_gradient(backend, numbers, images, size, stride, ties) -> None:
    x = {"none": numbers(images), "many": np.sign(numbers(images)), "all": np.zeros(images)}[ties]
    origins = windows(np.arange(x.size).reshape(images), size, stride)
    first = windows(x, size, stride).argmax(axis=3)[:, :, :, np.newaxis]
    dy = np.arange(first.size, dtype=np.float64).reshape(first.shape)[:, :, :, 0] % 97
    expected = np.bincount(np.take_along_axis(origins, first, axis=3).reshape(-1), dy.reshape(-1), x.size).reshape(
        images
    )
    x, dy = backend.asarray(x), backend.asarray(dy)
    dx = ops.max_pool_backward(backend, dy, x, ops.max_pool(backend, x, size, stride), size, stride)
    np.testing.assert_array_equal(backend.to_numpy(dx), expected)


@pytest.mark.parametrize(("images", "size", "stride"), CASES[:-1])
def test_backward_is_the_derivative(backend, numbers, assert_derivative, images, size, stride) -> None:
    x = np.random.default_rng(1).permutation(int(np.prod(images))).reshape(images) / 10  # no two close to each other
    on_device = backend.asarray(x)
    y = ops.max_pool(backend, on_device, size, stride)
    dy = numbers(y.shape)
    gradients = {
        ops.max_pool: ops.max_pool_backward(backend, backend.asarray(dy), on_device, y, size, stride),
        ops.average_pool: ops.average_pool_backward(backend, backend.asarray(dy), images, size, stride),
    }
    for pool, gradient in gradients.items():

        def scalar(at: np.ndarray, pool=pool) -> float:
            return float(np.sum(dy * backend.to_numpy(pool(backend, backend.asarray(at), size, stride))))

        assert_derivative(backend.to_numpy(gradient), scalar, x)


def test_out_is_filled_and_returned(backend, numbers) -> None:
    x = backend.asarray(numbers((2, 5, 5, 3)))
    y = ops.max_pool(backend, x, 3, 2)
    for call in (
        lambda out: ops.max_pool(backend, x, 3, 2, out),
        lambda out: ops.average_pool(backend, x, 3, 2, out),
        lambda out: ops.max_pool_backward(backend, y, x, y, 3, 2, out),
        lambda out: ops.average_pool_backward(backend, y, x.shape, 3, 2, out),
    ):
        fresh = call(None)
        out = backend.xp.full_like(fresh, backend.xp.nan)
        assert call(out) is out
        np.testing.assert_array_equal(backend.to_numpy(out), backend.to_numpy(fresh))


def test_a_window_of_one_is_a_copy(backend, numbers) -> None:
    x = backend.asarray(numbers((2, 3, 3, 1)))
    before = np.array(backend.to_numpy(x))
    for pool in (ops.max_pool, ops.average_pool):
        pool(backend, x, 1, 1)[...] = 9.0
        np.testing.assert_array_equal(backend.to_numpy(x), before)


def test_not_a_number_is_the_largest(backend) -> None:
    x = np.zeros((1, 2, 2, 1))
    x[0, 1, 0, 0] = np.nan
    assert np.isnan(backend.to_numpy(ops.max_pool(backend, backend.asarray(x), 2, 2))).all()
