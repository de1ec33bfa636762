"""xpnet.optimizers.hyperparameters: the table of the steps to come has, to the bit, what each step would be given."""

from __future__ import annotations

import numpy as np
import pytest

import xpnet
from xpnet.optimizers.hyperparameters import AHEAD, Hyperparameters
from xpnet.schedules import CosineDecay, ReduceOnPlateau, Schedule, StepDecay, Warmup


class Listed(Schedule):
    """Rates for the steps of a run, and no others."""

    def __call__(self, step, total_steps=None):
        return [0.5, 0.25, 0.125, 0.0625][step]


def initialized(backend, rate, **options) -> xpnet.Optimizer:
    model = xpnet.Sequential(xpnet.Linear(2, 3), xpnet.Linear(3, 1)).initialize(backend)
    optimizer = xpnet.AdamW(rate, learning_rate_factors={"1.*": 0.3}, **options)
    optimizer.initialize(model)
    return optimizer


@pytest.fixture
def uploads(strict, monkeypatch) -> list[int]:
    """One entry for each copy to the device."""
    seen: list[int] = []
    original = type(strict).asarray

    def asarray(self, value, dtype=None):
        seen.append(1)
        return original(self, value, dtype)

    monkeypatch.setattr(type(strict), "asarray", asarray)
    return seen


@pytest.mark.parametrize(
    "rate", [0.01, StepDecay(0.1, 7, 0.5), Warmup(CosineDecay(0.01), 3)], ids=lambda rate: type(rate).__name__
)
def test_each_row_is_what_update_would_write(strict, uploads, rate) -> None:
    optimizer, twin = initialized(strict, rate), initialized(strict, rate)
    for each in (optimizer, twin):
        each.set_total_steps(3 * AHEAD, 0)
    uploads.clear()
    for step in (0, 1, 2, 500, AHEAD - 1, AHEAD, AHEAD + 5):
        table = optimizer.table(step)
        row = strict.to_numpy(table.table)[step % AHEAD]
        twin.update(step)
        assert row.tobytes() == strict.to_numpy(twin.table(step).hyperparameters).tobytes()
    del uploads[:]
    for step in range(AHEAD + 6, AHEAD + 50):
        optimizer.table(step)
    assert uploads == []


def test_a_constant_rate_is_copied_once(strict, uploads) -> None:
    hyperparameters = Hyperparameters(strict, 1)
    uploads.clear()
    for step in range(0, 5 * AHEAD, 100):
        hyperparameters.table(step, lambda step: [0.1], step + AHEAD)
    assert len(uploads) == 1


def test_a_rate_that_is_changed_during_the_run_counts_from_the_next_step_on(strict) -> None:
    optimizer = initialized(strict, ReduceOnPlateau(1.0, patience=1, factor=0.5))
    optimizer.set_total_steps(100, 0)
    rates = []
    for step in range(6):
        optimizer.schedule.observe(1.0)
        rates.append(float(optimizer.table(step).table[step, 0]))
    assert rates == [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
    optimizer.learning_rate = 0.75
    assert float(optimizer.table(6).table[6, 0]) == 0.75


@pytest.mark.parametrize("total_steps", [4, None])
def test_a_schedule_is_not_asked_for_steps_after_the_run(strict, total_steps) -> None:
    optimizer = initialized(strict, Listed())
    if total_steps is not None:
        optimizer.set_total_steps(total_steps, 0)
    rates = [float(optimizer.table(step).table[step, 0]) for step in range(4)]
    assert rates == [0.5, 0.25, 0.125, 0.0625]
    assert np.isfinite(strict.to_numpy(optimizer.table(3).table)).all()
