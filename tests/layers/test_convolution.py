"""xpnet.layers.convolution: the sums in float64 with padding and stride, and what the layer declares and refuses."""

from __future__ import annotations

import math

import numpy as np
import pytest

import xpnet
from xpnet import Constant, Context, Conv2d

ACTIVATIONS = {
    None: (lambda z: z, np.ones_like),
    "relu": (lambda z: np.maximum(z, 0), lambda y: (y > 0).astype(float)),
    "sigmoid": (lambda z: 1 / (1 + np.exp(-z)), lambda y: y * (1 - y)),
    "tanh": (np.tanh, lambda y: 1 - y**2),
}
SIZES = [  # N, height, width, kernel_size, stride, padding, zeros before and after
    (2, 6, 5, 3, 1, 0, (0, 0)),
    (1, 7, 9, 3, 2, 1, (1, 1)),
    (2, 5, 4, 5, 1, 2, (2, 2)),
    (2, 4, 6, 3, 1, "same", (1, 1)),
    (3, 5, 4, 4, 1, "same", (1, 2)),
    (2, 5, 5, 2, 3, 1, (1, 1)),
    (1, 3, 3, 1, 1, 0, (0, 0)),
]


def by_loops(x, W, b, dy, stride: int, margins: tuple[int, int], activation: str | None):
    """y, dx, dW and db in float64, place after place; x is (N, C, H, W) and W (size, size, C, outputs)."""
    function, slope = ACTIVATIONS[activation]
    x, W, b, dy = (array.astype(np.float64) for array in (x, W, b, dy))
    padded = np.pad(x, [(0, 0), (0, 0), margins, margins])
    size, dpadded, dW = W.shape[0], np.zeros_like(padded), np.zeros_like(W)
    z = np.empty_like(dy)
    for r, s in np.ndindex(dy.shape[2:]):
        patch = padded[:, :, r * stride : r * stride + size, s * stride : s * stride + size]
        z[:, :, r, s] = np.einsum("ncij,ijco->no", patch, W) + b
    dz = dy * slope(function(z))
    for r, s in np.ndindex(dy.shape[2:]):
        window = slice(None), slice(None), slice(r * stride, r * stride + size), slice(s * stride, s * stride + size)
        dW += np.einsum("ncij,no->ijco", padded[window], dz[:, :, r, s])
        dpadded[window] += np.einsum("no,ijco->ncij", dz[:, :, r, s], W)
    before, after = margins
    dx = dpadded[:, :, before : dpadded.shape[2] - after, before : dpadded.shape[3] - after]
    return function(z), dx, dW, dz.sum(axis=(0, 2, 3))


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-13)])
@pytest.mark.parametrize("activation", [None, "relu", "tanh"])
@pytest.mark.parametrize("sizes", SIZES)
def test_forward_and_backward_are_the_equations(backend, numbers, passes, sizes, activation, dtype, tolerance) -> None:
    N, H, width, size, stride, padding, margins = sizes
    layer = Conv2d(3, 4, size, stride, padding, activation).initialize(backend, seed=2, dtype=dtype)
    shape = layer.output_shape((3, H, width))
    x, dy = numbers((N, 3, H, width)).astype(dtype), numbers((N, *shape)).astype(dtype)
    y, dx, gradients = passes(layer, x, dy)

    W, b = (backend.to_numpy(layer.parameters[name]) for name in ("W", "b"))
    expected = by_loops(x, W, b, dy, stride, margins, activation)
    for ours, theirs in zip((y, dx, gradients["W"], gradients["b"]), expected, strict=True):
        assert ours.dtype == dtype
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("reuse", [False, True])
def test_an_empty_batch(backend, passes, reuse) -> None:
    layer = Conv2d(2, 3, 3, padding=1, activation="relu").initialize(backend)
    context = Context(backend, training=True, reuse=reuse)
    y, dx, gradients = passes(layer, np.zeros((0, 2, 5, 5)), np.zeros((0, 3, 5, 5)), context)
    assert (y.shape, dx.shape) == ((0, 3, 5, 5), (0, 2, 5, 5))
    assert not gradients["W"].any()
    assert not gradients["b"].any()


def test_reused_memory_changes_nothing(backend, numbers, passes) -> None:
    """Batches of other sizes before it leave nothing in the borders, the columns or the gradients."""
    layer = Conv2d(2, 3, 3, stride=2, padding=1, activation="tanh").initialize(backend, dtype="float64")
    reusing = Context(backend, training=True, reuse=True)
    for N in (4, 2, 5):
        x, dy = numbers((N, 2, 6, 7)), numbers((N, 3, 3, 4))
        fresh, reused = passes(layer, x, dy), passes(layer, x, dy, reusing)
        for one, other in zip((*fresh[:2], *fresh[2].values()), (*reused[:2], *reused[2].values()), strict=True):
            np.testing.assert_array_equal(one, other)


def test_backward_parameters_gives_the_same_gradients(backend, numbers, passes) -> None:
    layer = Conv2d(2, 3, 3, activation="relu").initialize(backend)
    x, dy = numbers((2, 2, 5, 5)).astype(np.float32), numbers((2, 3, 3, 3)).astype(np.float32)
    _, _, gradients = passes(layer, x, dy)
    context = Context(backend, training=True)
    layer.forward(backend.asarray(x), context)
    assert layer.backward_parameters(backend.asarray(dy), context) is None
    for name, gradient in gradients.items():
        np.testing.assert_array_equal(backend.to_numpy(layer.gradients[name]), gradient)


@pytest.mark.parametrize("make", [lambda: Conv2d(2, 3, 3, 2, 1, "tanh"), lambda: Conv2d(2, 2, 2, padding="same")])
def test_check_gradients(backend, numbers, make) -> None:
    layer = make().initialize(backend, seed=1, dtype="float64")
    checks = xpnet.check_gradients(layer, numbers((2, 2, 5, 4)), samples=40)
    assert [check.name for check in checks] == ["input", "W", "b"]
    assert max(check.error for check in checks) <= 1e-6


def test_check_gradients_of_a_whole_network(reference, numbers) -> None:
    layers = xpnet.Reshape([1, 8, 8]), Conv2d(1, 3, 3, activation="tanh"), xpnet.MaxPool2d(2), xpnet.AvgPool2d(2, 1)
    model = xpnet.Sequential(*layers, xpnet.Flatten(), xpnet.Linear(12, 3)).initialize(reference, seed=1)
    checks = xpnet.check_gradients(model, numbers((2, 8, 8)), samples=40)
    assert max(check.error for check in checks) <= 1e-6


def test_it_declares_kernels_and_a_bias() -> None:
    declared = Conv2d(3, 8, 5).parameter_specs()
    assert {name: (item.shape, item.fan_in, item.fan_out) for name, item in declared.items()} == {
        "W": ((5, 5, 3, 8), 75, 200),
        "b": ((8,), 75, 200),
    }


def test_default_weights_and_biases_reach_one_over_the_root_of_fan_in(cpu) -> None:
    layer = Conv2d(4, 500, 5).initialize(cpu)
    for view in layer.parameters.values():
        assert 0.95 / math.sqrt(100) < abs(view).max() <= 1 / math.sqrt(100)


def test_initialisers_of_ones_own(backend) -> None:
    layer = Conv2d(1, 2, 2, weights=Constant(2.0), biases=Constant(-1.0)).initialize(backend)
    y = layer(backend.asarray([[[[1.0, 10.0], [100.0, 1000.0]]]]))
    assert backend.to_numpy(y).tolist() == [[[[2221.0]], [[2221.0]]]]


@pytest.mark.parametrize(
    ("layer", "image", "expected"),
    [
        (Conv2d(1, 8, 5), (1, 28, 28), (8, 24, 24)),
        (Conv2d(1, 8, 5, padding="same"), (1, 28, 27), (8, 28, 27)),
        (Conv2d(1, 8, 4, padding="same"), (1, 28, 27), (8, 28, 27)),
        (Conv2d(3, 8, 3, stride=2, padding=1), (3, 32, 31), (8, 16, 16)),
        (Conv2d(3, 8, 3, padding=1), (3, 1, 1), (8, 1, 1)),
    ],
)
def test_output_shape(layer, image, expected) -> None:
    assert layer.output_shape(image) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 3, 3), "in_channels must be a whole number of at least 1, not 0"),
        ((3, 2.5, 3), "out_channels must be a whole number of at least 1, not 2.5"),
        ((3, 2, (3, 3)), r"kernel_size must be a whole number of at least 1, not \(3, 3\)"),
        ((3, 2, 3, 0), "stride must be a whole number of at least 1, not 0"),
        ((3, 2, 3, 1, -1), 'padding must be a whole number of at least 0 or "same", not -1'),
        ((3, 2, 3, 1, False), 'padding must be a whole number of at least 0 or "same", not False'),
        ((3, 2, 3, 1, 0.0), 'padding must be a whole number of at least 0 or "same", not 0.0'),
        ((3, 2, 3, 1, "valid"), """padding must be a whole number of at least 0 or "same", not 'valid'"""),
        ((3, 2, 3, 2, "same"), 'padding "same" needs stride 1, not 2: give the padding as a number'),
        ((3, 2, 3, 1, 0, "rleu"), "unknown activation 'rleu' .did you mean 'relu'"),
    ],
)
def test_arguments_that_cannot_work(arguments, message) -> None:
    with pytest.raises(xpnet.ConfigurationError, match=message):
        Conv2d(*arguments)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((5, 28, 28), r"\(1, height, width\), not \(28, 28\); put a Reshape\(\[1, 28, 28\]\) in front of it$"),
        ((5, 28, 28, 1), r"\(1, height, width\), not \(28, 28, 1\); the channels come first$"),
        ((5, 3, 28, 28), r"\(1, height, width\), not \(3, 28, 28\)$"),
        ((5, 784), r"\(1, height, width\), not \(784,\)$"),
        ((5, 1, 28, 0), r"\(1, height, width\), not \(1, 28, 0\)$"),
        ((5, 1, 4, 2), "needs images of at least 5 x 5 including padding, not 6 x 4: use a smaller kernel"),
    ],
)
def test_an_input_that_does_not_fit(backend, shape, message) -> None:
    layer = Conv2d(1, 2, 5, padding=1).initialize(backend)
    context = Context(backend, training=True)
    with pytest.raises(xpnet.ShapeError, match=r"^Conv2d\(1, 2, 5\) .*" + message):
        layer.forward(backend.asarray(np.zeros(shape), "float32"), context)
    with pytest.raises(xpnet.CallOrderError):
        layer.backward(backend.asarray(np.zeros((5, 2, 3, 3)), "float32"), context)


def test_the_input_and_earlier_outputs_stay(backend, numbers) -> None:
    layer = Conv2d(1, 2, 3, padding=1).initialize(backend)
    x = backend.asarray(numbers((2, 1, 4, 4)).astype(np.float32))
    before, first = np.array(backend.to_numpy(x)), layer(x)
    kept = np.array(backend.to_numpy(first))
    layer(x + 1.0)
    np.testing.assert_array_equal(backend.to_numpy(x), before)
    np.testing.assert_array_equal(backend.to_numpy(first), kept)
