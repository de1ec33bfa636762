"""xpnet.training.intervals: when a run is saved, against a count of all its steps."""

from __future__ import annotations

import pytest

from xpnet.training.intervals import Intervals


@pytest.mark.parametrize("per_epoch", [1, 4, 5])
@pytest.mark.parametrize("evaluate_every", [None, 1, 3, 5, 100])
@pytest.mark.parametrize("checkpoint_every", [None, 1, 4, 5, 100])
@pytest.mark.parametrize("length", [{"epochs": 3}, {"steps": 13}, {"epochs": 4, "stop_after_epoch": 2}], ids=str)
def test_checkpoints_are_at_evaluations_ends_of_epochs_and_every_so_many_steps(
    per_epoch: int, evaluate_every: int | None, checkpoint_every: int | None, length: dict[str, int]
) -> None:
    total = length.get("steps", length.get("epochs", 0) * per_epoch)
    stop = min(total, length.get("stop_after_epoch", total) * per_epoch)
    evaluated = {step for step in range(1, stop + 1) if step % (evaluate_every or per_epoch) == 0 or step == total}
    by_step = {step for step in range(1, stop + 1) if checkpoint_every and step % checkpoint_every == 0}
    ends = {step for step in range(1, stop + 1) if step % per_epoch == 0}
    intervals = Intervals.of(per_epoch, evaluate_every=evaluate_every, checkpoint_every=checkpoint_every, **length)
    assert (intervals.total_steps, intervals.stop, intervals.steps_per_epoch) == (total, stop, per_epoch)
    expected = evaluated | by_step | ends | {stop}
    for step in range(stop):
        assert intervals.next_checkpoint(step) == min(later for later in expected if later > step)
    assert {step for step in range(1, stop + 1) if intervals.evaluates_after(step)} == evaluated
