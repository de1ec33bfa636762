"""Optimizers against PyTorch's: trajectories in float64, single updates in float32, groups, clipping."""

from __future__ import annotations

import numpy as np
import pytest

import xpnet
from xpnet import AdaGrad, Adam, AdamW, Momentum, Nesterov, RMSProp

torch = pytest.importorskip("torch", reason="PyTorch is not installed; 'make test-peers' compares with it")
pytestmark = pytest.mark.torch

STEPS = 10
ALL = {"weight_decay_mask": "*"}  # what PyTorch decays when it decays at all
CASES = {
    "sgd-decay": (
        lambda: xpnet.SGD(0.1, weight_decay=0.1, **ALL),
        lambda w: torch.optim.SGD(w, lr=0.1, weight_decay=0.1),
    ),
    "momentum-decay": (
        lambda: Momentum(0.05, 0.8, weight_decay=0.1, **ALL),
        lambda w: torch.optim.SGD(w, lr=0.05, momentum=0.8, weight_decay=0.1),
    ),
    "nesterov": (lambda: Nesterov(0.05), lambda w: torch.optim.SGD(w, lr=0.05, momentum=0.9, nesterov=True)),
    "nesterov-decay": (
        lambda: Nesterov(0.05, weight_decay=0.1, **ALL),
        lambda w: torch.optim.SGD(w, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.1),
    ),
    "adagrad": (AdaGrad, torch.optim.Adagrad),
    "adagrad-decay": (
        lambda: AdaGrad(0.1, 1e-3, weight_decay=0.1, **ALL),
        lambda w: torch.optim.Adagrad(w, lr=0.1, eps=1e-3, weight_decay=0.1),
    ),
    "rmsprop": (RMSProp, torch.optim.RMSprop),
    "rmsprop-decay": (
        lambda: RMSProp(0.02, 0.9, 1e-3, weight_decay=0.1, **ALL),
        lambda w: torch.optim.RMSprop(w, lr=0.02, alpha=0.9, eps=1e-3, weight_decay=0.1),
    ),
    "adam-decay": (lambda: Adam(weight_decay=0.1, **ALL), lambda w: torch.optim.Adam(w, weight_decay=0.1)),
    "adamw": (lambda: AdamW(**ALL), torch.optim.AdamW),
    "adamw-much": (
        lambda: AdamW(0.1, 0.8, 0.99, 1e-6, weight_decay=0.5, **ALL),
        lambda w: torch.optim.AdamW(w, lr=0.1, betas=(0.8, 0.99), eps=1e-6, weight_decay=0.5),
    ),
}


def our_model(backend, dtype: str) -> xpnet.Sequential:
    return xpnet.Sequential(xpnet.Linear(30, 20), xpnet.Linear(20, 5)).initialize(backend, seed=1, dtype=dtype)


def their_weights(model) -> dict[str, torch.Tensor]:
    """The same parameters, as leaves."""
    host = model.backend.to_numpy
    return {name: torch.from_numpy(np.array(host(view))).requires_grad_() for name, view in model.parameters.items()}


def set_gradients(model, weights, step: int, scale: float = 1.0) -> None:
    draws = np.random.default_rng(step)
    for name, view in model.gradients.items():
        gradient = (scale * draws.standard_normal(view.shape)).astype(model.dtype)
        view[...] = model.backend.asarray(gradient)
        weights[name].grad = torch.from_numpy(gradient)


def largest_difference(model, weights) -> float:
    host = model.backend.to_numpy
    return max(abs(host(view) - weights[name].detach().numpy()).max() for name, view in model.parameters.items())


@pytest.mark.parametrize(("dtype", "steps", "tolerance"), [("float64", STEPS, 1e-9), ("float32", 1, 1e-6)])
@pytest.mark.parametrize("name", CASES)
def test_the_same_gradients_give_the_same_updates(backend, name, dtype, steps, tolerance) -> None:
    model = our_model(backend, dtype)
    weights = their_weights(model)
    ours, theirs = CASES[name][0](), CASES[name][1](weights.values())
    ours.initialize(model)
    before = np.array(backend.to_numpy(model.parameters.vector))
    for step in range(steps):
        set_gradients(model, weights, step)
        ours.update(step)
        theirs.step()
    assert largest_difference(model, weights) <= tolerance
    assert abs(backend.to_numpy(model.parameters.vector) - before).max() > 5e-4


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("coupled", [True, False])
def test_parameter_groups(backend, dtype, coupled) -> None:
    """Matrices decay, biases do not; the second layer learns at half the rate; the first bias is frozen."""
    kind, peer = (Adam, torch.optim.Adam) if coupled else (AdamW, torch.optim.AdamW)
    model = our_model(backend, dtype)
    weights = their_weights(model)
    ours = kind(0.01, weight_decay=0.3, frozen="0.b", learning_rate_factors={"1.*": 0.5})
    ours.initialize(model)
    groups = [
        {"params": [weights["0.W"]], "lr": 0.01, "weight_decay": 0.3},
        {"params": [weights["1.W"]], "lr": 0.005, "weight_decay": 0.3},
        {"params": [weights["1.b"]], "lr": 0.005, "weight_decay": 0.0},
    ]
    theirs = peer(groups)
    for step in range(STEPS if dtype == "float64" else 1):
        set_gradients(model, weights, step)
        ours.update(step)
        theirs.step()
    assert largest_difference(model, weights) <= (1e-9 if dtype == "float64" else 1e-6)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("option", ["clip_norm", "clip_value"])
def test_clipping(backend, dtype, scale, option) -> None:
    """Before the decay is added, and without what is frozen."""
    model = our_model(backend, dtype)
    weights = their_weights(model)
    ours = Momentum(0.1, weight_decay=0.1, frozen="1.b", **{option: 1.5}, **ALL)
    ours.initialize(model)
    trained = [weight for name, weight in weights.items() if name != "1.b"]
    theirs = torch.optim.SGD(trained, lr=0.1, momentum=0.9, weight_decay=0.1)
    for step in range(STEPS if dtype == "float64" else 1):
        set_gradients(model, weights, step, scale)
        ours.update(step)
        clip = torch.nn.utils.clip_grad_norm_ if option == "clip_norm" else torch.nn.utils.clip_grad_value_
        clip(trained, 1.5)
        theirs.step()
    assert largest_difference(model, weights) <= (1e-9 if dtype == "float64" else 1e-6)


@pytest.mark.parametrize(
    ("ours", "theirs", "names"),
    [
        (AdaGrad(), torch.optim.Adagrad, {"lr": "learning_rate", "eps": "epsilon"}),
        (RMSProp(), torch.optim.RMSprop, {"lr": "learning_rate", "eps": "epsilon", "alpha": "alpha"}),
        (AdamW(), torch.optim.AdamW, {"lr": "learning_rate", "eps": "epsilon", "weight_decay": "weight_decay"}),
        (Nesterov(), torch.optim.SGD, {"lr": "learning_rate", "weight_decay": "weight_decay"}),
    ],
)
def test_defaults_are_pytorchs(ours, theirs, names) -> None:
    defaults = theirs([torch.zeros(1)]).defaults
    assert {name: getattr(ours, own) for name, own in names.items()} == {name: defaults[name] for name in names}
