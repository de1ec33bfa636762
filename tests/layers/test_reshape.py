"""xpnet.layers.reshape: C order there, and the input's shape back."""

from __future__ import annotations

import numpy as np
import pytest

import xpnet
from xpnet import Context, Flatten, Reshape, Sequential


@pytest.mark.parametrize("shape", [(2, 28, 28), (3, 4), (5,), (0, 2, 3), (2, 1, 3, 4)])
def test_rows_are_flattened_in_c_order(backend, passes, shape) -> None:
    x = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    flat = x.reshape(shape[0], int(np.prod(shape[1:])))
    y, dx, _ = passes(Flatten().initialize(backend, dtype="float64"), x, -flat)
    np.testing.assert_array_equal(y, flat)
    np.testing.assert_array_equal(dx, -x)


@pytest.mark.parametrize(("shape", "flat"), [((28, 28), (784,)), ((7,), (7,)), ((), (1,)), ((2, 3, 4), (24,))])
def test_output_shape_of_a_flatten(shape, flat) -> None:
    assert Flatten().output_shape(shape) == flat


@pytest.mark.parametrize(("given", "shape"), [((28, 28), (1, 28, 28)), ((6,), (3, 2)), ((2, 3), (6,)), ((4,), (4,))])
@pytest.mark.parametrize("N", [0, 1, 3])
def test_samples_take_the_shape_in_c_order(backend, passes, N, given, shape) -> None:
    x = np.arange(N * np.prod(given), dtype=np.float64).reshape(N, *given)
    layer = Reshape(shape).initialize(backend, dtype="float64")
    assert layer.output_shape(given) == shape
    y, dx, _ = passes(layer, x, -x.reshape(N, *shape))
    np.testing.assert_array_equal(y, x.reshape(N, *shape))
    np.testing.assert_array_equal(dx, -x)


def test_samples_of_another_size_are_refused(backend) -> None:
    layer = Reshape([1, 28, 28]).initialize(backend)
    message = r"^Reshape\(\[1, 28, 28\]\) takes samples of 784 numbers, but one of shape \(8, 8\) has 64$"
    with pytest.raises(xpnet.ShapeError, match=message):
        layer(backend.asarray(np.zeros((2, 8, 8))))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (784, "shape must be a list of whole numbers, such as .1, 28, 28., not 784"),
        ((), r"shape must be a list of whole numbers, such as .1, 28, 28., not \(\)"),
        ("28", "shape must be a list of whole numbers, such as .1, 28, 28., not '28'"),
        ((1, -1), r"shape\[1\] must be a whole number of at least 1, not -1"),
        ((1, 2.5), r"shape\[1\] must be a whole number of at least 1, not 2.5"),
    ],
)
def test_shapes_that_cannot_work(shape, message) -> None:
    with pytest.raises(xpnet.ConfigurationError, match=message):
        Reshape(shape)


@pytest.mark.parametrize("make", [lambda size: Flatten(), lambda size: Reshape((size,))])
@pytest.mark.parametrize("shape", [(3, 4), (3, 2, 2), (3,)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_outside_a_trainer_the_output_is_fresh(backend, make, shape, order) -> None:
    x = backend.asarray(np.ones(shape, np.float32, order))
    y = Sequential(make(int(np.prod(shape[1:])))).initialize(backend)(x)
    y[...] = 9.0
    assert (backend.to_numpy(x) == 1.0).all()


def test_a_context_that_reuses_its_memory_needs_no_copy(cpu) -> None:
    x = np.ones((3, 2, 2), np.float32)
    assert np.shares_memory(Flatten().initialize(cpu).forward(x, Context(cpu, training=True, reuse=True)), x)
