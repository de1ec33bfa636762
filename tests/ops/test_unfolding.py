"""xpnet.ops.unfolding: patches by NumPy's own slicing, and the fold as the transpose of the unfolding."""

from __future__ import annotations

import numpy as np
import pytest

from xpnet import ops

CASES = [  # images (N, H, W, C), size, stride
    ((2, 5, 6, 3), 3, 1),
    ((3, 7, 5, 1), 2, 2),
    ((1, 8, 7, 2), 3, 2),
    ((2, 6, 9, 2), 2, 3),
    ((2, 4, 4, 5), 4, 1),
    ((2, 3, 4, 2), 1, 1),
    ((0, 5, 5, 2), 3, 1),
]


def patches(x: np.ndarray, size: int, stride: int) -> np.ndarray:
    """(N, R, S, size, size·C), patch after patch."""
    N, H, W, C = x.shape
    tops, lefts = range(0, H - size + 1, stride), range(0, W - size + 1, stride)
    columns = np.empty((N, len(tops), len(lefts), size, size * C), x.dtype)
    for r, top in enumerate(tops):
        for s, left in enumerate(lefts):
            columns[:, r, s] = x[:, top : top + size, left : left + size].reshape(N, size, size * C)
    return columns


def on(backend, array: np.ndarray, layout: str):
    """The array on the backend; with the layout "channels first" as a view whose channels lie first in memory."""
    if layout == "channels last":
        return backend.asarray(array)
    first = backend.asarray(np.ascontiguousarray(array.transpose(0, 3, 1, 2)))
    return backend.xp.permute_dims(first, (0, 2, 3, 1))


@pytest.mark.parametrize(
    ("length", "size", "stride", "expected"), [(28, 5, 1, 24), (7, 2, 2, 3), (8, 2, 2, 4), (5, 5, 3, 1), (9, 2, 3, 3)]
)
def test_the_number_of_positions_of_a_window(length, size, stride, expected) -> None:
    assert ops.positions(length, size, stride) == expected == len(range(0, length - size + 1, stride))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layout", ["channels last", "channels first"])
@pytest.mark.parametrize(("images", "size", "stride"), CASES)
def test_unfold_copies_the_patches(backend, numbers, images, size, stride, layout, dtype) -> None:
    x = numbers(images).astype(dtype)
    columns = backend.to_numpy(ops.unfold(backend, on(backend, x, layout), size, stride))
    assert columns.dtype == dtype
    np.testing.assert_array_equal(columns, patches(x, size, stride))


@pytest.mark.parametrize(("images", "size", "stride"), CASES)
def test_fold_is_the_transpose_of_unfold(backend, images, size, stride) -> None:
    """Entry by entry: the image that each column's entry came from, added up in whole numbers."""
    places = np.arange(np.prod(images)).reshape(images)
    origins = patches(places, size, stride)
    columns = np.arange(origins.size, dtype=np.float64).reshape(origins.shape) % 97
    expected = np.bincount(origins.reshape(-1), columns.reshape(-1), places.size).reshape(images)
    folded = ops.fold(backend, backend.asarray(columns), *images[1:3], stride)
    np.testing.assert_array_equal(backend.to_numpy(folded), expected)


@pytest.mark.parametrize(("before", "after"), [(0, 0), (1, 1), (0, 2), (3, 1)])
@pytest.mark.parametrize("layout", ["channels last", "channels first"])
def test_pad_surrounds_with_zeros(backend, numbers, before, after, layout) -> None:
    x = numbers((2, 3, 4, 2))
    padded = backend.to_numpy(ops.pad(backend, on(backend, x, layout), before, after))
    np.testing.assert_array_equal(padded, np.pad(x, [(0, 0), (before, after), (before, after), (0, 0)]))


def test_out_is_filled_and_returned(backend, numbers) -> None:
    x, nan = backend.asarray(numbers((2, 4, 5, 3))), backend.xp.nan
    columns = ops.unfold(backend, x, 2)
    for call in (
        lambda out: ops.pad(backend, x, 1, 2, out),
        lambda out: ops.unfold(backend, x, 2, 1, out),
        lambda out: ops.fold(backend, columns, 4, 5, 1, out),
    ):
        fresh = call(None)
        out = backend.xp.full_like(fresh, nan)
        assert call(out) is out
        np.testing.assert_array_equal(backend.to_numpy(out), backend.to_numpy(fresh))
