"""xpnet.layers.pooling: windows of channels-first images, and what the layers refuse."""

from __future__ import annotations

import numpy as np
import pytest

import xpnet
from xpnet import AvgPool2d, Context, MaxPool2d

SIZES = [(2, 3, 4, 6, 2, None), (1, 2, 7, 5, 3, None), (2, 1, 6, 7, 3, 2), (3, 2, 5, 5, 2, 1), (0, 2, 4, 4, 2, None)]


def by_loops(x, dy, size: int, stride: int, kind: type) -> tuple[np.ndarray, np.ndarray]:
    """y and dx, window after window."""
    y, dx = np.empty_like(dy), np.zeros_like(x)
    for n, c, r, s in np.ndindex(dy.shape):
        window = n, c, slice(r * stride, r * stride + size), slice(s * stride, s * stride + size)
        if kind is MaxPool2d:
            y[n, c, r, s] = x[window].max()
            i, j = np.unravel_index(x[window].argmax(), (size, size))
            dx[n, c, r * stride + i, s * stride + j] += dy[n, c, r, s]
        else:
            y[n, c, r, s] = x[window].mean()
            dx[window] += dy[n, c, r, s] / size**2
    return y, dx


@pytest.mark.parametrize("kind", [MaxPool2d, AvgPool2d])
@pytest.mark.parametrize("sizes", SIZES)
def test_forward_and_backward_are_the_equations(backend, numbers, passes, kind, sizes) -> None:
    N, C, H, W, size, stride = sizes
    layer = kind(size, stride).initialize(backend, dtype="float64")
    x = np.round(numbers((N, C, H, W)), 1)  # some values twice
    dy = numbers((N, *layer.output_shape((C, H, W))))
    y, dx, _ = passes(layer, x, dy)
    expected = by_loops(x, dy, size, stride or size, kind)
    np.testing.assert_allclose(y, expected[0], rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(dx, expected[1], rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("kind", [MaxPool2d, AvgPool2d])
def test_reused_memory_changes_nothing(backend, numbers, passes, kind) -> None:
    layer = kind(2, 3).initialize(backend, dtype="float64")
    reusing = Context(backend, training=True, reuse=True)
    for N in (3, 1, 4):
        x, dy = numbers((N, 2, 6, 7)), numbers((N, 2, 2, 2))
        for one, other in zip(passes(layer, x, dy)[:2], passes(layer, x, dy, reusing)[:2], strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("kind", [MaxPool2d, AvgPool2d])
@pytest.mark.parametrize("stride", [None, 1])
def test_check_gradients(backend, kind, stride) -> None:
    layer = kind(3, stride).initialize(backend, dtype="float64")
    x = np.random.default_rng(1).permutation(2 * 2 * 6 * 5).reshape(2, 2, 6, 5) / 10  # no two close to each other
    (check,) = xpnet.check_gradients(layer, x, samples=60)
    assert check.error <= 1e-6


@pytest.mark.parametrize("kind", [MaxPool2d, AvgPool2d])
@pytest.mark.parametrize(
    ("size", "stride", "image", "expected"),
    [
        (2, None, (8, 24, 24), (8, 12, 12)),
        (2, None, (8, 25, 7), (8, 12, 3)),
        (3, 2, (1, 7, 8), (1, 3, 3)),
        (7, 1, (2, 7, 7), (2, 1, 1)),
    ],
)
def test_output_shape(kind, size, stride, image, expected) -> None:
    assert kind(size, stride).output_shape(image) == expected


@pytest.mark.parametrize("kind", [MaxPool2d, AvgPool2d])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "kernel_size must be a whole"),
        ((2.0,), "kernel_size must be a whole"),
        ((2, 0), "stride must be a whole"),
    ],
)
def test_arguments_that_cannot_work(kind, arguments, message) -> None:
    with pytest.raises(xpnet.ConfigurationError, match=message):
        kind(*arguments)


@pytest.mark.parametrize("kind", [MaxPool2d, AvgPool2d])
@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((5, 28, 28), r"\(channels, height, width\), not \(28, 28\); put a Reshape\(\[1, 28, 28\]\) in front of it$"),
        ((5, 6), r"\(channels, height, width\), not \(6,\)$"),
        ((5, 0, 4, 4), r"\(channels, height, width\), not \(0, 4, 4\)$"),
        ((5, 2, 3, 2), "needs images of at least 3 x 3, not 3 x 2: use a smaller window"),
    ],
)
def test_an_input_that_does_not_fit(backend, kind, shape, message) -> None:
    layer = kind(3).initialize(backend)
    with pytest.raises(xpnet.ShapeError, match=rf"^{kind.__name__}\(3\) .*" + message):
        layer(backend.asarray(np.zeros(shape)))


@pytest.mark.parametrize("kind", [MaxPool2d, AvgPool2d])
def test_outside_a_trainer_the_output_is_fresh(backend, kind) -> None:
    x = backend.asarray(np.ones((2, 1, 3, 3), np.float32))
    kind(1).initialize(backend)(x)[...] = 9.0
    assert (backend.to_numpy(x) == 1.0).all()
