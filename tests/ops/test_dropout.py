"""xpnet.ops.dropout: the mask against the published generator, and its bits on every backend."""

from __future__ import annotations

import numpy as np
import pytest

from xpnet import ops, random

KEY = random.stream_key(7, "dropout", "1.2")


def mask(shape: tuple[int, ...], rate: float, step: int, key=KEY) -> np.ndarray:
    """Word by word: kept when word · 2⁻³² >= rate."""
    count = int(np.prod(shape))
    words = random.words(key, step, count)
    return np.array([int(word) >= rate * 2**32 for word in words], bool).reshape(shape)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (5, 7), (2, 3, 4, 5), (3, 1000)])
@pytest.mark.parametrize(("rate", "step"), [(0.5, 0), (0.3, 2**32 + 5), (0.999, 17)])
def test_what_is_kept_is_scaled_bit_for_bit(backend, numbers, shape, rate, step, dtype) -> None:
    x = numbers(shape).astype(dtype)
    y = ops.dropout(backend, backend.asarray(x), rate, KEY, step)
    expected = np.where(mask(shape, rate, step), x * np.dtype(dtype).type(1 / (1 - rate)), 0)
    assert np.array(backend.to_numpy(y)).tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rate_zero_keeps_every_bit(backend, numbers, dtype) -> None:
    x = numbers((40, 30)).astype(dtype)
    y = ops.dropout(backend, backend.asarray(x), 0.0, KEY, 3)
    assert np.array(backend.to_numpy(y)).tobytes() == x.tobytes()


def test_close_to_one_hardly_anything_is_kept_and_that_is_huge(backend) -> None:
    rate = float(np.nextafter(1.0, 0.0))
    y = ops.dropout(backend, backend.asarray(np.ones((100, 100))), rate, KEY, 0)
    assert not backend.to_numpy(y).any()  # no word of 32 bits reaches 1 - 2⁻⁵³
    words = random.words(KEY, 0, 10_000)
    rate = float(words.max()) * 2.0**-32
    y = backend.to_numpy(ops.dropout(backend, backend.asarray(np.ones(10_000)), rate, KEY, 0))
    assert np.flatnonzero(y).tolist() == [words.argmax()]
    assert y.max() == 1 / (1 - rate)


def test_the_share_that_is_dropped_is_the_rate(cpu) -> None:
    for rate in (0.1, 0.5, 0.8):
        dropped = (ops.dropout(cpu, np.ones(100_000), rate, KEY, 1) == 0).mean()
        assert abs(dropped - rate) < 4 * np.sqrt(rate * (1 - rate) / 100_000)  # four standard deviations


def test_each_step_and_key_has_a_mask_of_its_own(backend) -> None:
    ones = backend.asarray(np.ones(1000))
    drawn = [(KEY, 0), (KEY, 1), (KEY, 2**32), (random.stream_key(7, "dropout", "1.3"), 0)]
    masks = [backend.to_numpy(ops.dropout(backend, ones, 0.5, key, step)) > 0 for key, step in drawn]
    for place, one in enumerate(masks):
        for other in masks[:place]:
            assert 400 < (one == other).sum() < 600  # as often as two coins agree


@pytest.mark.filterwarnings("error")
def test_what_is_dropped_is_zero_whatever_it_was(backend) -> None:
    x = backend.asarray(np.array([np.inf, -np.inf, np.nan] * 200))
    y = backend.to_numpy(ops.dropout(backend, x, 0.5, KEY, 0))
    assert (y[~mask((600,), 0.5, 0)] == 0).all()
    assert not np.isfinite(y[mask((600,), 0.5, 0)]).any()


def test_out_is_filled_and_returned_and_may_be_the_input(backend, numbers) -> None:
    x = numbers((4, 6))
    fresh = backend.to_numpy(ops.dropout(backend, backend.asarray(x), 0.5, KEY, 2))
    out = backend.xp.full_like(backend.asarray(x), np.nan)
    assert ops.dropout(backend, backend.asarray(x), 0.5, KEY, 2, out) is out
    np.testing.assert_array_equal(backend.to_numpy(out), fresh)
    own = backend.xp.asarray(backend.asarray(x), copy=True)
    ops.dropout(backend, own, 0.5, KEY, 2, own)
    np.testing.assert_array_equal(backend.to_numpy(own), fresh)


def test_another_layout_gets_the_mask_of_its_elements(backend, numbers) -> None:
    """Elements are counted in C order, however they lie in memory."""
    x = numbers((5, 4))
    turned = backend.xp.matrix_transpose(backend.asarray(np.ascontiguousarray(x.T)))
    here, there = (ops.dropout(backend, array, 0.5, KEY, 2) for array in (backend.asarray(x), turned))
    np.testing.assert_array_equal(backend.to_numpy(there), backend.to_numpy(here))
