"""Dropout: published Philox words, a mask computed by NumPy too, and invalid arguments."""

from __future__ import annotations

import numpy as np
import pytest
from xpnet_kernels.cpu import dropout

from xpnet.random import words

RNG = np.random.default_rng(0)
STEPS = [0, 2**63 - 1, np.array([2**32 + 5])]
KEYS = [(0, 0), (0xFFFFFFFF, 0xFFFFFFFE), (123, 456)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(), (0,), (1,), (5, 7), (3, 4, 500), (2**20 + 5,)])
@pytest.mark.parametrize(("key", "step"), [*zip(KEYS, STEPS, strict=True)])
def test_the_random_words_decide(dtype, shape, key, step):
    x = RNG.normal(size=shape).astype(dtype)
    out = np.full(shape, 7, dtype)
    dropout(x, 0.3, key, step, out)
    kept = words(key, int(np.max(step)), x.size).reshape(shape) * 2.0**-32 >= 0.3
    np.testing.assert_array_equal(out, np.where(kept, x * dtype(1 / (1 - 0.3)), 0))


def test_published_words():
    # Random123's known answers: counter 0 and key 0 give 6627e8d5 e169c58d bc57ac4c 9b00dbd8.
    out = np.empty(4)
    for word, position in ((0x6627E8D5, 0), (0xE169C58D, 1), (0xBC57AC4C, 2), (0x9B00DBD8, 3)):
        dropout(np.ones(4), word * 2.0**-32, (0, 0), 0, out)
        assert out[position] > 0
        dropout(np.ones(4), (word + 1) * 2.0**-32, (0, 0), 0, out)
        assert out[position] == 0


def test_in_place_and_backward_are_the_same_mask():
    x = RNG.normal(size=(40, 100)).astype(np.float32)
    out, gradient = x.copy(), np.ones_like(x)
    dropout(out, 0.5, (1, 2), 3, out)
    dropout(gradient, 0.5, (1, 2), 3, gradient)
    np.testing.assert_array_equal(out, x * gradient)


def test_probability_zero_keeps_everything():
    x = RNG.normal(size=1000)
    out = np.empty_like(x)
    dropout(x, 0.0, (1, 2), 3, out)
    np.testing.assert_array_equal(out, x)


def test_dropped_elements_are_zero_even_if_nan():
    x = np.array([np.nan, np.inf] * 500)
    out = np.empty_like(x)
    dropout(x, 0.999, (1, 2), 3, out)
    assert (out == 0).sum() > 900


def test_invalid_arguments():
    x = np.full((4, 4), 7.0)
    for probability in (1.0, -0.1, np.nan):
        with pytest.raises(ValueError, match="probability must be a number from 0 to below 1"):
            dropout(x, probability, (0, 0), 0, x)
    with pytest.raises(TypeError, match="out must be float64, not float32"):
        dropout(x, 0.5, (0, 0), 0, np.empty((4, 4), np.float32))
    with pytest.raises(ValueError, match=r"out must be writable and of the shape \(4, 4\), not \(4, 3\)"):
        dropout(x, 0.5, (0, 0), 0, np.empty((4, 3)))
    with pytest.raises(TypeError, match="out must be a NumPy array, not list"):
        dropout(x, 0.5, (0, 0), 0, x.tolist())
    with pytest.raises(TypeError, match="x must be a NumPy array, not MaskedArray"):
        dropout(np.ma.masked_array(x), 0.5, (0, 0), 0, x)
    with pytest.raises(TypeError, match="cannot be interpreted as an integer"):
        dropout(x, 0.5, (0.5, 0), 0, x)
    with pytest.raises(ValueError, match=r"key must be two words of 32 bits, not \(4294967296, 0\)"):
        dropout(x, 0.5, (2**32, 0), 0, x)
    with pytest.raises(ValueError, match="x and out must be contiguous"):
        dropout(x[:, ::2], 0.5, (0, 0), 0, np.empty((4, 2)))
    with pytest.raises(ValueError, match="out overlaps with x at other elements"):
        dropout(x[:2], 0.5, (0, 0), 0, x[1:3])
    with pytest.raises(TypeError, match="x must be float32 or float64, not int64"):
        dropout(np.ones(3, np.int64), 0.5, (0, 0), 0, np.ones(3, np.int64))
    assert (x == 7).all()
