"""xpnet.layers.dropout: which elements are dropped follows from seed, step and place alone."""

from __future__ import annotations

import numpy as np
import pytest

import xpnet
from xpnet import Context, Dropout, Sequential, random


def context(backend, step: int = 0, seed: int = 0, training: bool = True) -> Context:
    made = Context(backend, training=training, seed=seed)
    made.step = step
    return made


def kept_words(seed: int, path: str, step: int, shape: tuple[int, ...], rate: float) -> np.ndarray:
    """By the definition: Philox words of the key of (seed, "dropout", path)."""
    words = random.words(random.stream_key(seed, "dropout", path), step, int(np.prod(shape)))
    return words.reshape(shape) * 2.0**-32 >= rate


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("seed", "step"), [(0, 0), (3, 41)])
def test_both_passes_have_the_mask_of_their_place(backend, numbers, dtype, seed, step) -> None:
    model = Sequential(Dropout(0.3), Sequential(Dropout(0.6))).initialize(backend, dtype=dtype)
    x, dy, at = numbers((6, 50)).astype(dtype), numbers((6, 50)).astype(dtype), context(backend, step, seed)
    first, second = (kept_words(seed, path, step, x.shape, rate) for path, rate in (("0", 0.3), ("1.0", 0.6)))
    factors = [np.dtype(dtype).type(1 / (1 - rate)) for rate in (0.3, 0.6)]
    y = model.forward(backend.asarray(x), at)
    at.step += 1  # what the forward pass took is kept for its backward
    dx = model.backward(backend.asarray(dy), at)
    kept = first & second
    np.testing.assert_array_equal(backend.to_numpy(y), np.where(kept, x * factors[0] * factors[1], 0))
    np.testing.assert_array_equal(backend.to_numpy(dx), np.where(kept, dy * factors[1] * factors[0], 0))


def test_the_step_on_the_device_gives_the_mask_of_its_number(backend, numbers) -> None:
    layer, x = Dropout(0.3).initialize(backend, dtype="float64"), numbers((5, 40))
    expected = backend.to_numpy(layer.forward(backend.asarray(x), context(backend, 2**32 + 9)))
    at = context(backend, 2**32 + 9)
    at.device_step = backend.asarray(np.array([2**32 + 9]))
    np.testing.assert_array_equal(backend.to_numpy(layer.forward(backend.asarray(x), at)), expected)
    np.testing.assert_array_equal(backend.to_numpy(layer.backward(backend.asarray(x), at)), expected)


def test_a_moved_model_drops_the_same(backend, reference, numbers) -> None:
    x = numbers((5, 40))
    model = Sequential(Dropout(), Dropout()).initialize(backend, dtype="float64")
    here = backend.to_numpy(model.forward(backend.asarray(x), context(backend, 9)))
    there = model.to(reference).forward(x, context(reference, 9))
    np.testing.assert_array_equal(there, here)


@pytest.mark.parametrize("reuse", [False, True])
def test_in_inference_nothing_changes(backend, numbers, reuse) -> None:
    x = numbers((4, 5))
    layer = Dropout(0.9).initialize(backend, dtype="float64")
    y = layer.forward(backend.asarray(x), Context(backend, reuse=reuse))
    np.testing.assert_array_equal(backend.to_numpy(y), x)


def test_in_inference_the_output_is_not_the_users_input(cpu) -> None:
    x = np.zeros((2, 3), np.float32)
    Dropout().initialize(cpu)(x)[...] = 1.0
    assert not x.any()


def test_an_empty_batch(backend) -> None:
    layer = Dropout().initialize(backend)
    assert tuple(layer.forward(backend.asarray(np.zeros((0, 3))), context(backend)).shape) == (0, 3)


@pytest.mark.parametrize("rate", [1.0, -0.1, float("nan"), "half", True, None])
def test_rates_out_of_range_are_refused(rate) -> None:
    with pytest.raises(xpnet.ConfigurationError, match=r"rate must be a number of at least 0\.0 and below 1\.0, not"):
        Dropout(rate)
