"""Schedules against torch.optim.lr_scheduler, step by step."""

from __future__ import annotations

import numpy as np
import pytest

from xpnet import (
    CosineDecay,
    ExponentialDecay,
    LinearDecay,
    OneCycle,
    ReduceOnPlateau,
    StepDecay,
    Warmup,
)

torch = pytest.importorskip("torch", reason="PyTorch is not installed; 'make test-peers' compares with it")
pytestmark = pytest.mark.torch

TOTAL = 40


def chained(optimizer):
    return torch.optim.lr_scheduler.SequentialLR(
        optimizer,
        [
            torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.25, total_iters=8),
            torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=TOTAL - 8),
        ],
        milestones=[8],
    )


schedulers = torch.optim.lr_scheduler
CASES = {
    "step": (StepDecay(0.1, 7), lambda o: schedulers.StepLR(o, 7)),
    "exponential": (ExponentialDecay(0.1, 0.9), lambda o: schedulers.ExponentialLR(o, 0.9)),
    "linear": (
        LinearDecay(0.1, 0.02),
        lambda o: schedulers.LinearLR(o, start_factor=1.0, end_factor=0.2, total_iters=TOTAL),
    ),
    "linear to 0": (LinearDecay(0.1), lambda o: schedulers.PolynomialLR(o, total_iters=TOTAL, power=1.0)),
    "cosine": (CosineDecay(0.1, 0.01), lambda o: schedulers.CosineAnnealingLR(o, T_max=TOTAL, eta_min=0.01)),
    "warm-up": (Warmup(0.1, 8), lambda o: schedulers.LinearLR(o, total_iters=8)),
    "warm-up, cosine": (Warmup(CosineDecay(0.1), 8, start=0.25), chained),
    "one-cycle": (OneCycle(0.1), lambda o: schedulers.OneCycleLR(o, 0.1, total_steps=TOTAL, cycle_momentum=False)),
    "one-cycle, other": (
        OneCycle(0.1, rise=0.6, divisor=5.0, final_divisor=50.0),
        lambda o: schedulers.OneCycleLR(
            o, 0.1, total_steps=TOTAL, pct_start=0.6, div_factor=5.0, final_div_factor=50.0, cycle_momentum=False
        ),
    ),
}


@pytest.mark.filterwarnings("ignore:The epoch parameter")  # SequentialLR's own, in PyTorch
@pytest.mark.parametrize("name", CASES)
def test_the_rates_are_pytorchs(name) -> None:
    ours, make = CASES[name]
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    theirs, rates = make(optimizer), []
    for step in range(TOTAL):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step < TOTAL - 1:
            theirs.step()
    np.testing.assert_allclose([ours(step, TOTAL) for step in range(TOTAL)], rates, rtol=1e-12, atol=1e-16)
    assert len({round(rate, 12) for rate in rates}) > 3


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("minimum", [0.0, 0.02])
def test_a_plateau_is_where_pytorch_sees_one(seed, minimum) -> None:
    ours = ReduceOnPlateau(0.1, factor=0.5, patience=2, threshold=0.01, minimum=minimum)
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    theirs = schedulers.ReduceLROnPlateau(optimizer, factor=0.5, patience=2, threshold=0.01, min_lr=minimum)
    losses = 1 + np.exp(-np.arange(60) / 8) + 0.02 * np.random.default_rng(seed).standard_normal(60)
    losses[20] = np.nan
    rates = set()
    for step, loss in enumerate(losses):
        ours.observe(float(loss))
        theirs.step(float(loss))
        assert ours(step) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        rates.add(ours(step))
    assert len(rates) > 2
