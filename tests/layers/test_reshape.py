"""xpnet.layers.flatten: C order there, and the input's shape back."""

from __future__ import annotations

import numpy as np
import pytest

from xpnet import Context, Flatten, Sequential


@pytest.mark.parametrize("shape", [(2, 28, 28), (3, 4), (5,), (0, 2, 3), (2, 1, 3, 4)])
def test_rows_are_flattened_in_c_order(backend, passes, shape) -> None:
    x = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    flat = x.reshape(shape[0], int(np.prod(shape[1:])))
    y, dx, _ = passes(Flatten().initialize(backend, dtype="float64"), x, -flat)
    np.testing.assert_array_equal(y, flat)
    np.testing.assert_array_equal(dx, -x)


@pytest.mark.parametrize(("shape", "flat"), [((28, 28), (784,)), ((7,), (7,)), ((), (1,)), ((2, 3, 4), (24,))])
def test_output_shape(shape, flat) -> None:
    assert Flatten().output_shape(shape) == flat


@pytest.mark.parametrize("shape", [(3, 4), (3, 2, 2), (3,)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_outside_a_trainer_the_output_is_fresh(backend, shape, order) -> None:
    x = backend.asarray(np.ones(shape, np.float32, order))
    y = Sequential(Flatten()).initialize(backend)(x)
    y[...] = 9.0
    assert (backend.to_numpy(x) == 1.0).all()


def test_a_context_that_reuses_its_memory_needs_no_copy(cpu) -> None:
    x = np.ones((3, 2, 2), np.float32)
    assert np.shares_memory(Flatten().initialize(cpu).forward(x, Context(cpu, training=True, reuse=True)), x)
