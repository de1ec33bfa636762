"""xpnet.schedules: values by the equations, states, and what cannot work."""

from __future__ import annotations

import math

import pytest

from xpnet import (
    ConfigurationError,
    ConstantRate,
    CosineDecay,
    ExponentialDecay,
    LinearDecay,
    OneCycle,
    ReduceOnPlateau,
    StepDecay,
    Warmup,
)
from xpnet.schedules import Schedule, as_schedule

TOTAL = 20


def one_cycle(t: int) -> float:
    peak = 0.25 * TOTAL - 1
    if t <= peak:
        return 0.2 + 0.8 * (1 - math.cos(math.pi * t / peak)) / 2
    return 0.002 + 0.998 * (1 + math.cos(math.pi * (t - peak) / (TOTAL - 1 - peak))) / 2


CASES = {
    "constant": (ConstantRate(0.5), lambda t: 0.5),
    "step": (StepDecay(0.5, 3, 0.1), lambda t: 0.5 * 0.1 ** (t // 3)),
    "exponential": (ExponentialDecay(0.5, 0.1, 3), lambda t: 0.5 * 0.1 ** (t / 3)),
    "linear": (LinearDecay(0.5, 0.1), lambda t: 0.5 - 0.4 * t / TOTAL),
    "linear, shorter": (LinearDecay(0.5, 0.1, 8), lambda t: max(0.1, 0.5 - 0.4 * t / 8)),
    "cosine": (CosineDecay(0.5, 0.1), lambda t: 0.1 + 0.2 * (1 + math.cos(math.pi * t / TOTAL))),
    "cosine, shorter": (CosineDecay(0.5, 0, 8), lambda t: 0.25 * (1 + math.cos(math.pi * t / 8)) if t < 8 else 0.0),
    "one-cycle": (OneCycle(1.0, 0.25, 5.0, 100.0), one_cycle),
    "warm-up": (Warmup(0.5, 4, 0.2), lambda t: 0.5 * min(1.0, 0.2 + 0.2 * t)),
    "warm-up, linear": (
        Warmup(LinearDecay(0.5), 4, 0.0),
        lambda t: 0.125 * t if t < 4 else 0.5 - 0.5 * (t - 4) / (TOTAL - 4),
    ),
}
SPANNING = ["linear", "cosine", "one-cycle", "warm-up, linear"]


@pytest.mark.parametrize("name", CASES)
def test_every_step_is_the_equation(name) -> None:
    schedule, expected = CASES[name]
    for step in range(TOTAL):
        assert schedule(step, TOTAL) == pytest.approx(expected(step), rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("name", CASES)
def test_which_schedules_need_the_number_of_steps(name) -> None:
    schedule, _ = CASES[name]
    assert schedule.spans_the_run == (name in SPANNING)
    assert dict(schedule.state) == {}
    if name in SPANNING:
        with pytest.raises(ConfigurationError, match=r"without steps spans the run, .*: give steps"):
            schedule(3)
    else:
        assert schedule(3) == schedule(3, TOTAL)


@pytest.mark.parametrize("schedule", [LinearDecay(0.5, 0.25), CosineDecay(0.5, 0.25), OneCycle(0.5, 0.25, 2.0, 1.0)])
def test_past_the_end_the_last_rate_stays(schedule) -> None:
    assert schedule(TOTAL, TOTAL) == schedule(10 * TOTAL, TOTAL) == pytest.approx(0.25)


@pytest.mark.parametrize("total", [1, 2, 3])
def test_a_cycle_of_very_few_steps(total) -> None:
    assert [OneCycle(1.0)(step, total) for step in range(total)][-1] == pytest.approx(4e-6)


def test_a_plateau_of_the_loss_lowers_the_rate() -> None:
    schedule = ReduceOnPlateau(1.0, factor=0.5, patience=2, threshold=0.1, minimum=0.2)
    assert [rate_after(schedule, loss) for loss in (4.0, 3.7, 3.61, 3.5)] == [1.0, 1.0, 1.0, 1.0]  # 3.6 would be lower
    assert [rate_after(schedule, loss) for loss in (3.4, 3.3, math.nan)] == [1.0, 1.0, 0.5]
    assert [rate_after(schedule, 9.0) for _ in range(6)] == [0.5, 0.5, 0.25, 0.25, 0.25, 0.2]


def rate_after(schedule: Schedule, loss: float) -> float:
    schedule.observe(loss)
    return schedule(0)


@pytest.mark.parametrize("warm_up", [False, True])
def test_the_state_of_a_plateau_is_restored(warm_up) -> None:
    def make() -> Schedule:
        plateau = ReduceOnPlateau(1.0, factor=0.5, patience=1)
        return Warmup(plateau, 2) if warm_up else plateau

    first, second = make(), make()
    for loss in (3.0, 3.0, 3.0, 2.0, 2.0):
        first.observe(loss)
    second.restore(first.state)
    assert dict(second.state) == dict(first.state) == {"rate": 0.5, "best_loss": 2.0, "waited": 1}
    for each in (first, second):
        each.observe(2.5)
        assert each(7) == 0.25
    first.reset()
    assert dict(first.state) == dict(make().state)


def test_a_schedule_of_ones_own() -> None:
    class Inverse(Schedule):
        """η / (1 + t)."""

        def __call__(self, step: int, total_steps: int | None = None) -> float:
            """The rate."""
            return 1 / (1 + step)

    own = Inverse()
    assert as_schedule(own) is own
    assert Warmup(own, 1)(2) == 0.5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: as_schedule("fast"), "learning_rate must be a number of at least 0.0, not 'fast'"),
        (lambda: StepDecay(-1.0, 3), "learning_rate must be a number of at least 0.0, not -1.0"),
        (lambda: StepDecay(1.0, 0), "every must be a whole number of at least 1, not 0"),
        (lambda: ExponentialDecay(1.0, -0.1), "factor must be a number of at least 0.0, not -0.1"),
        (lambda: CosineDecay(1.0, steps=2.5), "steps must be a whole number of at least 1, not 2.5"),
        (lambda: LinearDecay(1.0, math.nan), "final must be a number of at least 0.0, not nan"),
        (lambda: OneCycle(1.0, rise=1.0), "rise must be a number of at least 0.0 and below 1.0, not 1.0"),
        (lambda: OneCycle(1.0, divisor=0.5), "divisor must be a number of at least 1.0, not 0.5"),
        (lambda: ReduceOnPlateau(1.0, factor=1.0), "factor must be a number of at least 0.0 and below 1.0, not 1.0"),
        (lambda: ReduceOnPlateau(1.0, patience=0), "patience must be a whole number of at least 1, not 0"),
        (lambda: Warmup(1.0, 3, start=1.5), "start must be at most 1, not 1.5"),
        (lambda: Warmup(None, 3), "learning_rate must be a number of at least 0.0, not None"),
        (
            lambda: Warmup(CosineDecay(1.0), 5)(0, 5),
            "a warm-up of 5 steps in a run of 5 leaves none for the schedule after it: shorten it",
        ),
    ],
)
def test_settings_out_of_range_are_refused(make, message) -> None:
    with pytest.raises(ConfigurationError) as error:
        make()
    assert str(error.value) == message
