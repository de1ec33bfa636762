"""xpnet.layers.flatten: C order there, and the input's shape back."""

from __future__ import annotations

import numpy as np
import pytest

from xpnet import Flatten


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
