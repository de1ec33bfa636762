"""Against PyTorch: the same network, data and initial weights give the same numbers, step after step."""

from __future__ import annotations

import math

import numpy as np
import pytest

import xpnet
from xpnet import Adam, Context, Linear, Momentum, Sequential, SoftmaxCrossEntropy, ops

torch = pytest.importorskip("torch", reason="PyTorch is not installed; 'make test-peers' compares with it")
pytestmark = pytest.mark.torch

STEPS, BATCH = 10, 32
OPTIMIZERS = {
    "sgd": (lambda: xpnet.SGD(0.1), lambda weights: torch.optim.SGD(weights, lr=0.1)),
    "momentum": (lambda: Momentum(0.05), lambda weights: torch.optim.SGD(weights, lr=0.05, momentum=0.9)),
    "adam": (Adam, torch.optim.Adam),
}


def our_model(backend, dtype: str) -> Sequential:
    layers = Linear(784, 500, "relu"), Linear(500, 500, "relu"), Linear(500, 10)
    return Sequential(*layers).initialize(backend, seed=0, dtype=dtype)


def their_model(model: Sequential) -> torch.nn.Sequential:
    """The same network with the same weights; PyTorch keeps its matrices transposed."""
    twin = torch.nn.Sequential(
        torch.nn.Linear(784, 500),
        torch.nn.ReLU(),
        torch.nn.Linear(500, 500),
        torch.nn.ReLU(),
        torch.nn.Linear(500, 10),
    ).to(getattr(torch, model.dtype))
    with torch.no_grad():
        for parameter, view in zip(twin.parameters(), on_host(model, model.parameters), strict=True):
            parameter.copy_(torch.from_numpy(view.T))
    return twin


def on_host(model: Sequential, views) -> list[np.ndarray]:
    return [np.array(model.backend.to_numpy(view)) for view in views.values()]


def largest_difference(model: Sequential, twin: torch.nn.Sequential) -> float:
    pairs = zip(on_host(model, model.parameters), twin.parameters(), strict=True)
    return max(abs(ours - theirs.detach().numpy().T).max() for ours, theirs in pairs)


def batches(dtype: str):
    draws = np.random.default_rng(0)
    for _ in range(STEPS):
        yield draws.random((BATCH, 784)).astype(dtype), draws.integers(10, size=BATCH)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_ten_whole_steps_in_float64(backend, name) -> None:
    model = our_model(backend, "float64")
    twin, start = their_model(model), np.array(backend.to_numpy(model.vectors.parameters.vector))
    ours, theirs = OPTIMIZERS[name][0](), OPTIMIZERS[name][1](twin.parameters())
    ours.initialize(model)
    loss, context = SoftmaxCrossEntropy(), Context(backend, training=True, reuse=True)
    for step, (x, labels) in enumerate(batches("float64")):
        logits = model.forward(backend.asarray(x), context)
        result = loss.forward(logits, backend.asarray(labels), context)
        model.backward_parameters(result.gradient, context)
        ours.update(step)

        theirs.zero_grad()
        value = torch.nn.functional.cross_entropy(twin(torch.from_numpy(x)), torch.from_numpy(labels))
        value.backward()
        theirs.step()
        assert float(result.loss) == pytest.approx(value.item(), abs=1e-9)
    assert largest_difference(model, twin) <= 1e-9
    assert abs(backend.to_numpy(model.vectors.parameters.vector) - start).max() > 1e-3


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_ten_updates_from_identical_gradients_in_float32(backend, name) -> None:
    model = our_model(backend, "float32")
    twin = their_model(model)
    ours, theirs = OPTIMIZERS[name][0](), OPTIMIZERS[name][1](twin.parameters())
    ours.initialize(model)
    draws = np.random.default_rng(0)
    for step in range(STEPS):
        for view, parameter in zip(model.gradients.values(), twin.parameters(), strict=True):
            gradient = (0.01 * draws.standard_normal(view.shape, np.float32)).astype(np.float32)
            view[...] = backend.asarray(gradient)
            parameter.grad = torch.from_numpy(gradient.T.copy())
        ours.update(step)
        theirs.step()
    largest = max(abs(weights).max() for weights in on_host(model, model.parameters))
    assert largest_difference(model, twin) <= 1e-6 * largest


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float64", 1e-14)])
@pytest.mark.parametrize("kind", ["indices", "probabilities"])
def test_softmax_cross_entropy(backend, kind, dtype, tolerance) -> None:
    draws = np.random.default_rng(1)
    logits = (4 * draws.standard_normal((50, 37))).astype(dtype)
    labels = draws.integers(37, size=50)
    if kind == "probabilities":
        labels = draws.dirichlet(np.ones(37), size=50).astype(dtype)
    result = ops.softmax_cross_entropy(backend, backend.asarray(logits), backend.asarray(labels))

    theirs = torch.from_numpy(logits).requires_grad_()
    losses = torch.nn.functional.cross_entropy(theirs, torch.from_numpy(labels), reduction="none")
    losses.mean().backward()
    close = {"rtol": 10 * tolerance, "atol": tolerance}
    np.testing.assert_allclose(backend.to_numpy(result.losses), losses.detach().numpy(), **close)
    np.testing.assert_allclose(backend.to_numpy(result.gradient), theirs.grad.numpy(), **close)
    assert float(result.loss) == pytest.approx(losses.mean().item(), rel=10 * tolerance)


@pytest.mark.parametrize(("inputs", "outputs"), [(784, 500), (500, 10), (3, 4000)])
def test_the_default_initial_weights_have_pytorchs_distribution(cpu, inputs, outputs) -> None:
    torch.manual_seed(0)
    ours = Linear(inputs, outputs).initialize(cpu).parameters
    theirs = torch.nn.Linear(inputs, outputs)
    bound = 1 / math.sqrt(inputs)
    for mine, other in ((ours["W"], theirs.weight), (ours["b"], theirs.bias)):
        for values in (mine.reshape(-1), other.detach().numpy().reshape(-1)):
            # A draw reaches a fraction 1 - 20 / n of the bound but once in e^20; float32 may round up to the bound.
            assert (1 - 20 / values.size) * bound <= abs(values).max() <= bound * (1 + 1e-7)
            assert values.std() == pytest.approx(bound / math.sqrt(3), rel=4 / math.sqrt(values.size))


def test_adam_has_pytorchs_defaults() -> None:
    theirs = torch.optim.Adam([torch.zeros(1)]).defaults
    ours = Adam()
    assert (ours.learning_rate, (ours.beta1, ours.beta2), ours.epsilon) == (
        theirs["lr"],
        theirs["betas"],
        theirs["eps"],
    )
    assert xpnet.SGD().learning_rate == torch.optim.SGD([torch.zeros(1)]).defaults["lr"]
