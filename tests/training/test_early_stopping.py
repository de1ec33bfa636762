"""xpnet.training.early_stopping: when a run ends, against a list of figures; and that a resumed one ends there too."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpnet
from xpnet import EarlyStopping, Linear, Sequential, SoftmaxCrossEntropy, Trainer
from xpnet.backends import Backend
from xpnet.configuration import Recipe
from xpnet.errors import ConfigurationError
from xpnet.training import Callback

Go = Callable[..., dict[str, Any]]


class Stand:
    """A trainer, as far as early stopping looks at one."""

    def __init__(self, history: list[dict[str, Any]]) -> None:
        self.history = history
        self.stopped = False

    def stop(self) -> None:
        self.stopped = True


def evaluation(accuracy: float | None = None, loss: float | None = 1.0) -> dict[str, Any]:
    return {"event": "evaluation", "validation_accuracy": accuracy, "validation_loss": loss}


def ends_after(early: EarlyStopping, records: list[dict[str, Any]]) -> int | None:
    """The number of evaluations after which the trainer is stopped."""
    trainer = Stand([])
    early.on_fit_begin(trainer)
    for count, record in enumerate(records, start=1):
        early.on_evaluation(trainer, record, improved=False)
        if trainer.stopped:
            return count
    return None


RISING = [0.5, 0.6, 0.55, 0.6, 0.7, 0.65, 0.7, 0.69]


@pytest.mark.parametrize(
    ("options", "accuracies", "expected"),
    [
        ({"patience": 1}, RISING, 3),
        ({"patience": 2}, RISING, 4),  # 0.6 again is no better
        ({"patience": 3}, RISING, 8),  # 0.7 at the fifth, then three in vain
        ({"patience": 4}, RISING, None),
        ({"patience": 2, "min_delta": 0.15}, RISING, 3),  # 0.6 and 0.55 do not exceed 0.5 by more than 0.15
        ({"patience": 4, "min_delta": 0.15}, RISING, None),  # 0.7 does, though it comes in small steps
        ({"patience": 1}, [0.1 * n for n in range(10)], None),
        ({"patience": 2}, [0.0, 0.0, 0.0], 3),  # the first is a best, be it ever so bad
    ],
)
def test_accuracies(options: dict[str, Any], accuracies: list[float], expected: int | None) -> None:
    assert ends_after(EarlyStopping(**options), [evaluation(accuracy) for accuracy in accuracies]) == expected


@pytest.mark.parametrize("missing", [None, math.inf, math.nan])
def test_losses_are_better_when_they_are_smaller(missing: float | None) -> None:
    losses = [2.0, 1.0, missing, 1.0, 0.9, 0.95, 0.8, 0.81, 0.82]
    records = [evaluation(None, loss) for loss in losses]
    assert ends_after(EarlyStopping(2, monitor="loss"), records) == 4
    assert ends_after(EarlyStopping(3, monitor="loss"), records) is None
    assert ends_after(EarlyStopping(2, 0.3, "loss"), records) == 4


def test_what_was_waited_for_is_read_off_the_history() -> None:
    """Cut anywhere, the history and what follows end the run at the same evaluation."""
    records = [evaluation(accuracy) for accuracy in RISING]
    for cut in range(8):
        trainer = Stand([{"event": "batch", "loss": 1.0}, *records[:cut]])
        early = EarlyStopping(3)
        early.on_fit_begin(trainer)
        for count, record in enumerate(records[cut:], start=cut + 1):
            early.on_evaluation(trainer, record, improved=False)
            assert trainer.stopped is early.is_over is (count == 8)


def samples(y: list[int]) -> tuple[np.ndarray, np.ndarray]:
    return np.ones((len(y), 2)), np.array(y)


def trainer(backend: Backend, early: EarlyStopping, loss: Any = None) -> Trainer:
    model = Sequential(Linear(2, 3 if loss is None else 1)).initialize(backend)
    return Trainer(model, loss or SoftmaxCrossEntropy(), xpnet.SGD(0.0), callbacks=[early])


def test_a_trainer_stops_with_a_checkpoint(backend: Backend) -> None:
    """A model that does not learn: the first evaluation is the best, two more are waited for."""
    saved = []

    class Note(Callback):
        def on_checkpoint(self, trainer: Any) -> None:
            saved.append(trainer.step)

    run = trainer(backend, EarlyStopping(2))
    run.callbacks.append(Note())
    run.fit(samples([0, 1, 2, 0]), validation=samples([1]), epochs=10, batch_size=2)
    assert (run.step, saved) == (6, [2, 4, 6])


def test_without_a_validation_set(cpu: Backend) -> None:
    with pytest.raises(ConfigurationError, match=r"early stopping needs a validation set: give fit one"):
        trainer(cpu, EarlyStopping(1)).fit(samples([0, 1]), epochs=3)


def test_a_loss_that_calls_nothing_right_has_no_accuracy(cpu: Backend) -> None:
    data = np.ones((4, 2)), np.ones(4)
    run = trainer(cpu, EarlyStopping(1), xpnet.MeanSquaredError())
    with pytest.raises(ConfigurationError, match="which this loss does not define: set monitor to 'loss'"):
        run.fit(data, validation=data, epochs=3)
    run = trainer(cpu, EarlyStopping(1, monitor="loss"), xpnet.MeanSquaredError())
    run.fit(data, validation=data, epochs=5)
    assert run.step == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patience": 0}, "patience must be a whole number of at least 1, not 0"),
        ({"patience": 1, "min_delta": -0.1}, "min_delta must be a number of at least 0.0, not -0.1"),
        ({"patience": 1, "monitor": "acuracy"}, "unknown monitor 'acuracy' (did you mean 'accuracy'?)"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        EarlyStopping(**options)
    assert str(error.value).startswith(message)


class CrashAt(Callback):
    """Raises instead of saving after the given step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_checkpoint(self, trainer: Any) -> None:
        if trainer.step == self.step:
            raise InterruptedError("power failure")


@pytest.fixture
def stopping(small_recipe: Recipe) -> Recipe:
    """Three steps an epoch on 24 of the 30 samples, evaluated every second; it stops early, long before its end."""
    recipe = replace(small_recipe.with_options(validation_fraction=0.2, epochs=100, patience=4), evaluate_every=2)
    return replace(recipe, checkpoint_every=1)


def test_a_run_stops_early_and_says_so(cpu: Backend, start: Go, go_on: Go, stopping: Recipe, tmp_path: Path) -> None:
    summary = start(tmp_path, cpu, stopping)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    accuracies = [line["validation_accuracy"] for line in lines if line["event"] == "evaluation"]
    assert summary["stopped_early"] is True
    assert summary["steps"] == 2 * len(accuracies) < 300
    best = accuracies.index(max(accuracies))
    assert len(accuracies) - 1 - best == 4
    assert summary["best_validation_accuracy"] == accuracies[best] > accuracies[0]
    message = r"complete: it stopped early, after 4 evaluations .* give --patience with more than 4$"
    for options in ({}, {"epochs": 200}, {"patience": 4}):
        with pytest.raises(ConfigurationError, match=message):
            go_on(tmp_path, cpu, **options)
    assert go_on(tmp_path, cpu, patience=5)["steps"] >= summary["steps"] + 2


def test_more_patience_later_is_as_much_from_the_start(
    cpu: Backend, start: Go, go_on: Go, stopping: Recipe, tmp_path: Path, history_of: Any
) -> None:
    start(tmp_path / "whole", cpu, stopping.with_options(patience=6))
    start(tmp_path / "parts", cpu, stopping)
    go_on(tmp_path / "parts", cpu, patience=6)
    assert history_of(tmp_path / "whole") == history_of(tmp_path / "parts")


@pytest.mark.parametrize("back", range(1, 11))
def test_a_run_that_crashed_stops_at_the_same_evaluation(
    cpu: Backend,
    start: Go,
    go_on: Go,
    stopping: Recipe,
    tmp_path: Path,
    assert_same_run: Callable[[Path, Path], None],
    back: int,
) -> None:
    """Crashed at any of the last ten steps: while it waits, and where it would have stopped."""
    whole = start(tmp_path / "whole", cpu, stopping)
    with pytest.raises(InterruptedError):
        start(tmp_path / "parts", cpu, stopping, callbacks=[CrashAt(whole["steps"] - back + 1)])
    resumed = go_on(tmp_path / "parts", cpu)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    assert (resumed["test_accuracy"], resumed["stopped_early"]) == (whole["test_accuracy"], True)


def test_on_every_backend(
    backend: Backend, start: Go, go_on: Go, stopping: Recipe, tmp_path: Path, assert_same_run: Any
) -> None:
    whole = start(tmp_path / "whole", backend, stopping)
    start(tmp_path / "parts", backend, stopping, stop_after_epoch=1)
    go_on(tmp_path / "parts", backend, stop_after_epoch=whole["epochs"])
    go_on(tmp_path / "parts", backend)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
