"""The definitions are PyTorch's: the same losses, gradients and steps, in float64, where PyTorch is installed."""

from __future__ import annotations

import numpy as np
import pytest
from xpnet_kernels import cpu

torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
pytestmark = pytest.mark.torch

ROWS, CLASSES = 13, 7
RNG = np.random.default_rng(0)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("labels", ["classes", "ignored", "all ignored", "probabilities"])
def test_softmax_cross_entropy(reduction, label_smoothing, weighted, labels):
    logits, weights = RNG.normal(size=(ROWS, CLASSES)) * 3, RNG.random(CLASSES) if weighted else None
    upstream = RNG.normal(size=ROWS) if reduction == "none" else 1.5
    target, ignore_index = RNG.integers(0, CLASSES, ROWS), None
    if labels == "ignored":
        ignore_index = 3
    elif labels == "all ignored":
        ignore_index, target = 3, np.full(ROWS, 3)
    elif labels == "probabilities":
        target = RNG.dirichlet(np.ones(CLASSES), ROWS)

    summary, losses, gradient = np.empty(4), np.empty(ROWS), np.empty((ROWS, CLASSES))
    options = {"reduction": reduction, "label_smoothing": label_smoothing}
    cpu.softmax_cross_entropy(
        logits, target, summary=summary, losses=losses, gradient=gradient, upstream=upstream, class_weights=weights,
        ignore_index=ignore_index, **options,
    )  # fmt: skip
    z = torch.tensor(logits, requires_grad=True)
    loss = torch.nn.functional.cross_entropy(
        z, torch.tensor(target), None if weights is None else torch.tensor(weights),
        ignore_index=-100 if ignore_index is None else ignore_index, **options,
    )  # fmt: skip
    loss.backward(torch.tensor(upstream))
    np.testing.assert_allclose(losses if reduction == "none" else summary[0], loss.detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(gradient, z.grad.numpy(), rtol=1e-11, atol=1e-15)


def steps(optimizer, gradients):
    for g in gradients:
        optimizer.param_groups[0]["params"][0].grad = torch.tensor(g)
        optimizer.step()


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_adam(decay):
    values, gradients = RNG.normal(size=50), RNG.normal(size=(4, 50))
    reference = torch.nn.Parameter(torch.tensor(values))
    steps(torch.optim.AdamW([reference], 1e-2, (0.8, 0.95), 1e-6, weight_decay=decay), gradients)
    m, v = np.zeros(50), np.zeros(50)
    for t, g in enumerate(gradients, 1):
        cpu.adam_update(values, g, m, v, np.array([1e-2, 0.8, 0.95, 1e-6, 1 - 0.8**t, 1 - 0.95**t, decay]))
    np.testing.assert_allclose(values, reference.detach().numpy(), rtol=1e-13)


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum(nesterov):
    values, gradients = RNG.normal(size=50), RNG.normal(size=(4, 50))
    reference = torch.nn.Parameter(torch.tensor(values))
    steps(torch.optim.SGD([reference], 1e-2, 0.9, nesterov=nesterov), gradients)
    velocity = np.zeros(50)
    for g in gradients:
        cpu.momentum_update(values, g, velocity, np.array([1e-2, 0.9, float(nesterov)]))
    np.testing.assert_allclose(values, reference.detach().numpy(), rtol=1e-13)


def test_sgd():
    values, g = RNG.normal(size=(2, 50))
    reference = torch.nn.Parameter(torch.tensor(values))
    steps(torch.optim.SGD([reference], 1e-2), [g])
    cpu.sgd_update(values, g, np.array([1e-2]))
    np.testing.assert_allclose(values, reference.detach().numpy(), rtol=1e-14)
