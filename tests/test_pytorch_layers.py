"""Against PyTorch: each layer's outputs, gradients and buffers, each loss with its options, and ten whole steps."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import xpnet
from xpnet import Context, Sequential, ops

torch = pytest.importorskip("torch", reason="PyTorch is not installed; 'make test-peers' compares with it")
pytestmark = pytest.mark.torch

CLOSE = {"rtol": 1e-12, "atol": 1e-12}
IMAGES = (6, 3, 4, 5)

# Ours, theirs, the input's shape.
LAYERS = {
    "batch norm": (lambda: xpnet.BatchNorm(5), lambda: torch.nn.BatchNorm1d(5), (7, 5)),
    "batch norm of images": (
        lambda: xpnet.BatchNorm(3, momentum=0.3, epsilon=1e-3),
        lambda: torch.nn.BatchNorm2d(3, momentum=0.3, eps=1e-3),
        IMAGES,
    ),
    "layer norm": (lambda: xpnet.LayerNorm(5), lambda: torch.nn.LayerNorm(5), (2, 7, 5)),
    "gelu": (xpnet.GELU, lambda: torch.nn.GELU(approximate="tanh"), IMAGES),
    "leaky relu": (lambda: xpnet.LeakyReLU(0.2), lambda: torch.nn.LeakyReLU(0.2), IMAGES),
    "softplus": (xpnet.Softplus, lambda: torch.nn.Softplus(threshold=100), IMAGES),
}
NAMES = {"gamma": "weight", "beta": "bias", "running_mean": "running_mean", "running_variance": "running_var"}


def on_host(backend, array) -> np.ndarray:
    return np.array(backend.to_numpy(array))


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_over_three_batches_and_in_inference(backend, name) -> None:
    ours, theirs, shape = LAYERS[name][0](), LAYERS[name][1]().double(), LAYERS[name][2]
    ours.initialize(backend, dtype="float64")
    draws, context = np.random.default_rng(0), Context(backend, training=True)
    for parameter, view in ours.parameters.items():
        values = draws.standard_normal(view.shape)
        view[...] = backend.asarray(values)
        getattr(theirs, NAMES[parameter]).data.copy_(torch.from_numpy(values))
    for batch in range(3):
        x, dy = 3 * draws.standard_normal(shape) + batch, draws.standard_normal(shape)
        y = ours.forward(backend.asarray(x), context)
        dx = ours.backward(backend.asarray(dy), context)
        their_x = torch.from_numpy(x).requires_grad_()
        theirs.zero_grad()
        their_y = theirs(their_x)
        their_y.backward(torch.from_numpy(dy))
        np.testing.assert_allclose(on_host(backend, y), their_y.detach().numpy(), **CLOSE)
        np.testing.assert_allclose(on_host(backend, dx), their_x.grad.numpy(), **CLOSE)
        for parameter, gradient in ours.gradients.items():
            expected = getattr(theirs, NAMES[parameter]).grad.numpy()
            np.testing.assert_allclose(on_host(backend, gradient), expected, **CLOSE)
        for buffer, view in ours.buffers.items():
            np.testing.assert_allclose(on_host(backend, view), getattr(theirs, NAMES[buffer]).numpy(), **CLOSE)
    theirs.eval()
    x = draws.standard_normal(shape)
    np.testing.assert_allclose(
        on_host(backend, ours(backend.asarray(x))), theirs(torch.from_numpy(x)).detach().numpy(), **CLOSE
    )


def test_batch_norm_of_constant_columns(backend) -> None:
    x, dy = np.full((4, 2), 3.0), np.random.default_rng(0).standard_normal((4, 2))
    ours, context = xpnet.BatchNorm(2).initialize(backend, dtype="float64"), Context(backend, training=True)
    ours.forward(backend.asarray(x), context)
    dx = ours.backward(backend.asarray(dy), context)
    their_x = torch.from_numpy(x).requires_grad_()
    torch.nn.BatchNorm1d(2).double()(their_x).backward(torch.from_numpy(dy))
    np.testing.assert_allclose(on_host(backend, dx), their_x.grad.numpy(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shape", [(9,), (4, 6)])
def test_an_embedding(backend, shape) -> None:
    draws = np.random.default_rng(0)
    W, indices, dy = draws.standard_normal((5, 3)), draws.integers(5, size=shape), draws.standard_normal((*shape, 3))
    ours, context = xpnet.Embedding(5, 3).initialize(backend, dtype="float64"), Context(backend, training=True)
    ours.parameters["W"][...] = backend.asarray(W)
    y = ours.forward(backend.asarray(indices), context)
    ours.backward(backend.asarray(dy), context)
    theirs = torch.nn.Embedding(5, 3, _weight=torch.from_numpy(W))
    their_y = theirs(torch.from_numpy(indices))
    their_y.backward(torch.from_numpy(dy))
    np.testing.assert_array_equal(on_host(backend, y), their_y.detach().numpy())
    np.testing.assert_allclose(on_host(backend, ours.gradients["W"]), theirs.weight.grad.numpy(), **CLOSE)


REDUCTIONS = ["mean", "sum", "none"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(
    ("kind", "smoothing", "weighted", "ignored"),
    [
        options
        for options in itertools.product(["indices", "probabilities"], [0.0, 0.2], [False, True], [None, 3])
        if options[0] == "indices" or options[3] is None
    ],
)
def test_cross_entropy_with_its_options(backend, kind, smoothing, weighted, ignored, reduction, dtype) -> None:
    draws = np.random.default_rng(1)
    logits, labels = (3 * draws.standard_normal((40, 7))).astype(dtype), draws.integers(7, size=40)
    if kind == "probabilities":
        labels = draws.dirichlet(np.ones(7), size=40).astype(dtype)
    weights = draws.random(7).astype(dtype) if weighted else None
    result = ops.softmax_cross_entropy(
        backend,
        backend.asarray(logits),
        backend.asarray(labels),
        label_smoothing=smoothing,
        class_weights=None if weights is None else backend.asarray(weights),
        ignore_index=ignored,
        reduction=reduction,
    )
    theirs = torch.from_numpy(logits).requires_grad_()
    loss = torch.nn.functional.cross_entropy(
        theirs,
        torch.from_numpy(labels),
        label_smoothing=smoothing,
        weight=None if weights is None else torch.from_numpy(weights),
        ignore_index=-100 if ignored is None else ignored,
        reduction=reduction,
    )
    loss.sum().backward()
    tolerance = {"float32": 5e-6, "float64": 1e-13}[dtype]
    close = {"rtol": tolerance, "atol": tolerance}
    ours = result.losses if reduction == "none" else result.loss
    np.testing.assert_allclose(on_host(backend, ours), loss.detach().numpy(), **close)
    np.testing.assert_allclose(on_host(backend, result.gradient), theirs.grad.numpy(), **close)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (ops.mean_squared_error, torch.nn.functional.mse_loss),
        (ops.binary_cross_entropy, torch.nn.functional.binary_cross_entropy_with_logits),
    ],
)
def test_elementwise_losses(backend, ours, theirs, reduction) -> None:
    draws = np.random.default_rng(1)
    outputs, targets = 5 * draws.standard_normal((9, 4)), draws.random((9, 4))
    result = ours(backend, backend.asarray(outputs), backend.asarray(targets), reduction=reduction)
    their_outputs = torch.from_numpy(outputs).requires_grad_()
    loss = theirs(their_outputs, torch.from_numpy(targets), reduction=reduction)
    loss.sum().backward()
    value = result.losses if reduction == "none" else result.loss
    np.testing.assert_allclose(on_host(backend, value), loss.detach().numpy(), **CLOSE)
    np.testing.assert_allclose(on_host(backend, result.gradient), their_outputs.grad.numpy(), **CLOSE)


# A whole network for each loss: ours, theirs with the parameters in the same order, both losses, the targets.


class Shortcut(torch.nn.Sequential):
    """x + f(x)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + super().forward(x)


def networks() -> tuple[Sequential, torch.nn.Sequential]:
    ours = Sequential(
        xpnet.Linear(8, 16),
        xpnet.BatchNorm(16),
        xpnet.GELU(),
        xpnet.Residual(xpnet.Linear(16, 12), xpnet.LeakyReLU(), xpnet.Linear(12, 16)),
        xpnet.LayerNorm(16),
        xpnet.Softplus(),
        xpnet.Linear(16, 4),
    )
    block = Shortcut(torch.nn.Linear(16, 12), torch.nn.LeakyReLU(), torch.nn.Linear(12, 16))
    theirs = torch.nn.Sequential(
        torch.nn.Linear(8, 16),
        torch.nn.BatchNorm1d(16),
        torch.nn.GELU(approximate="tanh"),
        block,
        torch.nn.LayerNorm(16),
        torch.nn.Softplus(threshold=100),
        torch.nn.Linear(16, 4),
    )
    return ours, theirs.double()


TRAJECTORIES = {
    "options": (
        xpnet.SoftmaxCrossEntropy(0.1, class_weights=[1.0, 0.5, 2.0, 1.5], ignore_index=1),
        torch.nn.CrossEntropyLoss(
            torch.tensor([1.0, 0.5, 2.0, 1.5], dtype=torch.float64), label_smoothing=0.1, ignore_index=1
        ),
        lambda draws: draws.integers(4, size=32),
    ),
    "squares": (xpnet.MeanSquaredError(), torch.nn.MSELoss(), lambda draws: draws.standard_normal((32, 4))),
    "binary": (xpnet.BinaryCrossEntropy(), torch.nn.BCEWithLogitsLoss(), lambda draws: draws.random((32, 4))),
}


@pytest.mark.parametrize("name", TRAJECTORIES)
@pytest.mark.parametrize("reuse", [False, True])
def test_ten_whole_steps(backend, name, reuse) -> None:
    model, twin = networks()
    model.initialize(backend, seed=1, dtype="float64")
    for parameter, view in zip(twin.parameters(), model.parameters.values(), strict=True):
        parameter.data.copy_(torch.from_numpy(on_host(backend, view).T))
    start = on_host(backend, model.parameters.vector)
    loss, their_loss, draw = TRAJECTORIES[name]
    optimizer, their_optimizer = xpnet.Adam(0.01), torch.optim.Adam(twin.parameters(), lr=0.01)
    optimizer.initialize(model)
    draws, context = np.random.default_rng(0), Context(backend, training=True, reuse=reuse)
    for step in range(10):
        x, targets = draws.standard_normal((32, 8)), draw(draws)
        result = loss.forward(model.forward(backend.asarray(x), context), backend.asarray(targets), context)
        model.backward_parameters(result.gradient, context)
        optimizer.update(step)
        their_optimizer.zero_grad()
        value = their_loss(twin(torch.from_numpy(x)), torch.from_numpy(targets))
        value.backward()
        their_optimizer.step()
        assert float(result.loss) == pytest.approx(value.item(), abs=1e-9)
    pairs = zip(twin.parameters(), model.parameters.values(), strict=True)
    assert max(abs(theirs.detach().numpy() - on_host(backend, view).T).max() for theirs, view in pairs) <= 1e-9
    assert abs(on_host(backend, model.parameters.vector) - start).max() > 0.05
    for ours, theirs in (("running_mean", twin[1].running_mean), ("running_variance", twin[1].running_var)):
        np.testing.assert_allclose(on_host(backend, model.buffers[f"1.{ours}"]), theirs.numpy(), rtol=0, atol=1e-9)


def test_the_defaults_are_pytorchs() -> None:
    norm, layer_norm = torch.nn.BatchNorm1d(3), torch.nn.LayerNorm(3)
    assert (xpnet.BatchNorm(3).momentum, xpnet.BatchNorm(3).epsilon) == (norm.momentum, norm.eps)
    assert xpnet.LayerNorm(3).epsilon == layer_norm.eps
    assert xpnet.LeakyReLU().negative_slope == torch.nn.LeakyReLU().negative_slope
    assert xpnet.Dropout().rate == torch.nn.Dropout().p


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("bias", [False, True])
def test_a_classifier_of_every_word(backend, bias, reduction) -> None:
    """Their classes are on axis 1."""
    draws = np.random.default_rng(3)
    x, labels = draws.standard_normal((4, 6, 5)), draws.integers(3, size=(4, 6))
    ours = xpnet.Linear(5, 3, "tanh", bias=bias).initialize(backend, dtype="float64")
    theirs = torch.nn.Linear(5, 3, bias=bias).double()
    theirs.weight.data.copy_(torch.from_numpy(on_host(backend, ours.parameters["W"]).T))
    if bias:
        theirs.bias.data.copy_(torch.from_numpy(on_host(backend, ours.parameters["b"])))
    context, loss = Context(backend, training=True), xpnet.SoftmaxCrossEntropy(ignore_index=1, reduction=reduction)
    result = loss.forward(ours.forward(backend.asarray(x), context), backend.asarray(labels), context)
    dx = ours.backward(result.gradient, context)
    their_x = torch.from_numpy(x).requires_grad_()
    outputs = torch.tanh(theirs(their_x)).movedim(-1, 1)
    value = torch.nn.functional.cross_entropy(outputs, torch.from_numpy(labels), ignore_index=1, reduction=reduction)
    value.sum().backward()
    found = result.losses if reduction == "none" else result.loss
    np.testing.assert_allclose(on_host(backend, found), value.detach().numpy(), **CLOSE)
    np.testing.assert_allclose(on_host(backend, dx), their_x.grad.numpy(), **CLOSE)
    np.testing.assert_allclose(on_host(backend, ours.gradients["W"]), theirs.weight.grad.numpy().T, **CLOSE)
