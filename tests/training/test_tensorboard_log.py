"""xpnet.training.tensorboard_log: the curves as TensorBoard's own reader sees them."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpnet
from xpnet import Linear, Sequential, SoftmaxCrossEntropy, TensorBoardLog, Trainer
from xpnet.backends import Backend
from xpnet.configuration import Recipe
from xpnet.data import Dataset
from xpnet.errors import ConfigurationError, RunFolderError
from xpnet.training import Callback

needs_tensorboard = pytest.mark.skipif(
    importlib.util.find_spec("tensorboard") is None,
    reason="tensorboard is not installed: pip install 'xpnet[tensorboard]'",
)

Go = Callable[..., dict[str, Any]]
Curves = dict[str, list[tuple[int, float]]]


def curves(folder: Path) -> Curves:
    """(step, value) of every point that TensorBoard shows, by the curve's name."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def of_history(history: list[dict[str, Any]], event: str, key: str) -> list[tuple[int, float]]:
    return [(record["step"], float(np.float32(record[key]))) for record in history if record["event"] == event]


def trainer(backend: Backend, folder: Path) -> Trainer:
    model = Sequential(Linear(4, 3)).initialize(backend)
    return Trainer(model, SoftmaxCrossEntropy(), xpnet.SGD(0.1), callbacks=[TensorBoardLog(folder)])


@needs_tensorboard
def test_the_curves_are_those_of_the_history(backend: Backend, small_data: Dataset, tmp_path: Path) -> None:
    history = trainer(backend, tmp_path / "log").fit(
        small_data.train, validation=small_data.test, epochs=3, batch_size=8
    )
    shown = curves(tmp_path / "log")
    assert shown == {
        "loss/batch": of_history(history, "batch", "loss"),
        "loss/train": of_history(history, "evaluation", "train_loss"),
        "accuracy/train": of_history(history, "evaluation", "train_accuracy"),
        "loss/validation": of_history(history, "evaluation", "validation_loss"),
        "accuracy/validation": of_history(history, "evaluation", "validation_accuracy"),
    }
    assert [step for step, _ in shown["loss/batch"]] == [1, 5, 9]
    assert [step for step, _ in shown["loss/train"]] == [4, 8, 12]


@needs_tensorboard
def test_evaluations_can_be_watched_while_the_run_goes_on(cpu: Backend, small_data: Dataset, tmp_path: Path) -> None:
    seen = []

    class Look(Callback):
        def on_checkpoint(self, trainer: Any) -> None:
            seen.append(len(curves(tmp_path)["loss/train"]))

    run = trainer(cpu, tmp_path)
    run.callbacks.append(Look())
    run.fit(small_data.train, epochs=3)
    assert seen == [1, 2, 3]


class CrashAt(Callback):
    """Raises instead of saving after the given step; callbacks before it have heard of the evaluation."""

    def on_checkpoint(self, trainer: Any) -> None:
        if trainer.step == 12:
            raise InterruptedError("power failure")


class Spoil(Callback):
    """Makes the points of the run that will crash recognisable."""

    def on_evaluation(self, trainer: Any, record: dict[str, Any], improved: bool) -> None:
        if trainer.step == 12:
            record["train_loss"] = 77.0


@needs_tensorboard
def test_what_a_run_that_crashed_had_after_its_checkpoint_is_forgotten(
    cpu: Backend, start: Go, go_on: Go, small_recipe: Recipe, tmp_path: Path
) -> None:
    recipe = replace(small_recipe, logs=["tensorboard"])
    start(tmp_path / "whole", cpu, recipe)
    with pytest.raises(InterruptedError):
        start(tmp_path / "parts", cpu, recipe, callbacks=[Spoil(), CrashAt()])
    log = tmp_path / "parts" / "tensorboard"
    assert curves(log)["loss/train"][-1] == (12, 77.0)
    (first,) = log.iterdir()
    first.rename(log / "events.out.tfevents.0000000001.first")  # by their names, which have seconds, they are read
    go_on(tmp_path / "parts", cpu)
    assert curves(log) == curves(tmp_path / "whole" / "tensorboard")


@needs_tensorboard
def test_a_disk_that_refuses(cpu: Backend, small_data: Dataset, tmp_path: Path) -> None:
    (tmp_path / "log").write_text("in the way")
    with pytest.raises(RunFolderError, match=r"cannot write the log in .*log: (File exists|Not a directory)"):
        trainer(cpu, tmp_path / "log").fit(small_data.train, epochs=1)


def without_tensorboard(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "tensorboard"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)


def test_without_the_package(
    cpu: Backend, start: Go, small_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says what to install, before there is a folder; a recipe that asks for nothing needs nothing."""
    without_tensorboard(monkeypatch)
    message = r"a log for TensorBoard needs the package tensorboard: run pip install 'xpnet\[tensorboard\]'"
    with pytest.raises(ConfigurationError, match=message):
        TensorBoardLog(tmp_path)
    with pytest.raises(ConfigurationError, match=message):
        start(tmp_path / "run", cpu, replace(small_recipe, logs=["csv", "tensorboard"]))
    assert not (tmp_path / "run").exists()
    start(tmp_path / "run", cpu)


def test_a_resumed_run_says_so_before_it_goes_on(
    cpu: Backend, start: Go, go_on: Go, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_tensorboard(monkeypatch)
    start(tmp_path, cpu, stop_after_epoch=1)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ConfigurationError, match="needs the package tensorboard"):
        go_on(tmp_path, cpu, logs=["tensorboard"])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
