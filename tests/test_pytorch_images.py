"""Against PyTorch: convolutions and pooling, forward, backward and over ten steps, in float64."""

from __future__ import annotations

import numpy as np
import pytest

import xpnet
from xpnet import AvgPool2d, Context, Conv2d, Flatten, Linear, MaxPool2d, Reshape, Sequential, SoftmaxCrossEntropy

torch = pytest.importorskip("torch", reason="PyTorch is not installed; 'make test-peers' compares with it")
pytestmark = pytest.mark.torch


def in_pytorchs_order(array: np.ndarray) -> np.ndarray:
    """Kernels as (out, in, height, width), matrices as (out, in)."""
    return array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T


def pair(backend, layer, shape):
    """Both sides' output and input gradient for the same random arrays, and both layers."""
    draws = np.random.default_rng(0)
    layer.initialize(backend, seed=3, dtype="float64")
    x = np.round(draws.standard_normal(shape), 1)  # some values twice: a window's largest may stand in it twice
    dy = draws.standard_normal((shape[0], *layer.output_shape(shape[1:])))
    context = Context(backend, training=True)
    y = layer.forward(backend.asarray(x), context)
    dx = layer.backward(backend.asarray(dy), context)
    return torch.from_numpy(x).requires_grad_(), torch.from_numpy(dy), backend.to_numpy(y), backend.to_numpy(dx)


def assert_close(ours: np.ndarray, theirs) -> None:
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize(
    ("size", "stride", "padding"), [(3, 1, 0), (5, 2, 1), (3, 1, "same"), (4, 1, "same"), (2, 3, 2), (1, 1, 0)]
)
@pytest.mark.parametrize("channels", [(1, 4), (3, 8)])
def test_convolution(backend, channels, size, stride, padding) -> None:
    layer = Conv2d(*channels, size, stride, padding)
    x, dy, y, dx = pair(backend, layer, (4, channels[0], 11, 10))
    weight, bias = (
        torch.from_numpy(in_pytorchs_order(np.array(backend.to_numpy(view)))).requires_grad_()
        for view in layer.parameters.values()
    )
    theirs = torch.nn.functional.conv2d(x, weight, bias, stride, padding)
    theirs.backward(dy)
    assert_close(y, theirs)
    assert_close(dx, x.grad)
    for gradient, other in zip(layer.gradients.values(), (weight.grad, bias.grad), strict=True):
        assert_close(in_pytorchs_order(backend.to_numpy(gradient)), other)


@pytest.mark.parametrize(("size", "stride"), [(2, None), (3, None), (3, 2), (3, 1), (2, 3)])
@pytest.mark.parametrize("kind", [MaxPool2d, AvgPool2d])
def test_pooling(backend, kind, size, stride) -> None:
    x, dy, y, dx = pair(backend, kind(size, stride), (4, 3, 11, 10))
    theirs = getattr(torch.nn, kind.__name__)(size, stride)(x)
    theirs.backward(dy)
    assert_close(y, theirs)
    assert_close(dx, x.grad)


def test_ten_whole_steps(backend) -> None:
    layers = Conv2d(1, 6, 5, activation="relu"), MaxPool2d(2), Conv2d(6, 8, 3, 2, 1, "relu"), AvgPool2d(2), Flatten()
    model = Sequential(Reshape((1, 28, 28)), *layers, Linear(72, 10)).initialize(backend, seed=0, dtype="float64")
    twin = torch.nn.Sequential(
        torch.nn.Conv2d(1, 6, 5), torch.nn.ReLU(), torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(6, 8, 3, 2, 1), torch.nn.ReLU(), torch.nn.AvgPool2d(2),
        torch.nn.Flatten(), torch.nn.Linear(72, 10),
    ).double()  # fmt: skip
    with torch.no_grad():
        for parameter, view in zip(twin.parameters(), model.parameters.values(), strict=True):
            parameter.copy_(torch.from_numpy(in_pytorchs_order(np.array(backend.to_numpy(view)))))
    ours, theirs = xpnet.Adam(), torch.optim.Adam(twin.parameters())
    ours.initialize(model)
    start = np.array(backend.to_numpy(model.vectors.parameters.vector))
    loss, context, draws = SoftmaxCrossEntropy(), Context(backend, training=True, reuse=True), np.random.default_rng(0)
    for step in range(10):
        x, labels = draws.random((16, 28, 28)), draws.integers(10, size=16)
        result = loss.forward(model.forward(backend.asarray(x), context), backend.asarray(labels), context)
        model.backward_parameters(result.gradient, context)
        ours.update(step)

        theirs.zero_grad()
        value = torch.nn.functional.cross_entropy(twin(torch.from_numpy(x[:, np.newaxis])), torch.from_numpy(labels))
        value.backward()
        theirs.step()
        assert float(result.loss) == pytest.approx(value.item(), abs=1e-9)
    for parameter, view in zip(twin.parameters(), model.parameters.values(), strict=True):
        np.testing.assert_allclose(
            in_pytorchs_order(backend.to_numpy(view)), parameter.detach().numpy(), rtol=0, atol=1e-9
        )
    assert abs(backend.to_numpy(model.vectors.parameters.vector) - start).max() > 1e-3


@pytest.mark.parametrize(("size", "stride", "padding"), [(3, 1, 0), (5, 2, 1), (3, 1, "same"), (2, 3, 2)])
def test_flops_are_counted_as_pytorch_counts_them(size, stride, padding) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    model = Sequential(Conv2d(3, 8, size, stride, padding), Conv2d(8, 4, 2), Flatten())
    features = model.output_shape((3, 11, 10))[0]
    twin = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, size, stride, padding), torch.nn.Conv2d(8, 4, 2), torch.nn.Flatten(),
        torch.nn.Linear(features, 10), torch.nn.ReLU(),
    )  # fmt: skip
    with FlopCounterMode(display=False) as counter:
        twin(torch.zeros(1, 3, 11, 10))
    model = Sequential(*model.layers, Linear(features, 10, "relu"))
    assert model.flops((3, 11, 10)) == counter.get_total_flops()
