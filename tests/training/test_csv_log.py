"""xpnet.training.csv_log: the table against the history, read by other readers."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpnet
from xpnet import CSVLog, Linear, Sequential, SoftmaxCrossEntropy, Trainer
from xpnet.backends import Backend
from xpnet.configuration import Recipe
from xpnet.data import Dataset
from xpnet.errors import RunFolderError
from xpnet.training import Callback

Go = Callable[..., dict[str, Any]]


def table(path: Path) -> list[dict[str, float | None]]:
    with open(path, encoding="utf-8", newline="") as file:
        return [{key: float(cell) if cell else None for key, cell in row.items()} for row in csv.DictReader(file)]


def evaluations(folder: Path) -> list[dict[str, Any]]:
    """What metrics.jsonl says."""
    records = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [
        {key: value for key, value in record.items() if key != "event"}
        for record in records
        if record["event"] == "evaluation"
    ]


def trainer(backend: Backend, path: Path, loss: Any = None, **options: Any) -> Trainer:
    model = Sequential(Linear(4, 3 if loss is None else 1)).initialize(backend)
    return Trainer(model, loss or SoftmaxCrossEntropy(), xpnet.SGD(0.1), callbacks=[CSVLog(path)], **options)


def test_the_table_has_the_bits_of_the_history(backend: Backend, small_data: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    history = trainer(backend, path).fit(small_data.train, validation=small_data.test, epochs=3)
    expected = [record for record in history if record["event"] == "evaluation"]
    assert table(path) == [{key: value for key, value in record.items() if key != "event"} for record in expected]
    assert path.read_text().splitlines()[0] == (
        "step,epoch,train_loss,train_accuracy,validation_loss,validation_accuracy,best_validation_accuracy,training_seconds"
    )


def test_numpy_reads_it(cpu: Backend, small_data: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    history = trainer(cpu, path).fit(small_data.train, epochs=3)
    read = np.genfromtxt(path, delimiter=",", names=True)
    losses = [record["train_loss"] for record in history if record["event"] == "evaluation"]
    assert read["train_loss"].tolist() == losses
    assert read["step"].tolist() == [1, 2, 3]


def test_what_is_not_finite_is_an_empty_cell(cpu: Backend, tmp_path: Path) -> None:
    data = np.ones((4, 4)), np.ones(4)
    trainer(cpu, tmp_path / "metrics.csv", xpnet.MeanSquaredError()).fit(data, validation=data, epochs=2)
    rows = table(tmp_path / "metrics.csv")
    assert [(row["train_accuracy"], row["best_validation_accuracy"]) for row in rows] == [(None, None)] * 2
    assert None not in [row["validation_loss"] for row in rows]


def test_rows_are_there_as_soon_as_they_are_known(cpu: Backend, small_data: Dataset, tmp_path: Path) -> None:
    path, seen = tmp_path / "metrics.csv", []

    class Look(Callback):
        def on_checkpoint(self, trainer: Any) -> None:
            seen.append(len(table(path)))

    run = trainer(cpu, path)
    run.callbacks.append(Look())
    run.fit(small_data.train, epochs=3)
    assert seen == [1, 2, 3]


def test_another_run_begins_anew_and_a_longer_one_goes_on(cpu: Backend, small_data: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    trainer(cpu, path).fit(small_data.train, epochs=3)
    run = trainer(cpu, path)
    run.fit(small_data.train, epochs=2)
    assert [row["step"] for row in table(path)] == [1, 2]
    run.fit(small_data.train, epochs=4)
    assert [row["step"] for row in table(path)] == [1, 2, 3, 4]


def test_figures_that_come_later_get_a_column(cpu: Backend, small_data: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    run = trainer(cpu, path)
    run.fit(small_data.train, epochs=2)
    run.on_nonfinite = "skip"
    run.fit(small_data.train, validation=small_data.test, epochs=4)
    rows = table(path)
    assert [row["skipped_steps"] for row in rows] == [None, None, 0, 0]
    assert [row["validation_loss"] is None for row in rows] == [True, True, False, False]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]


class CrashAt(Callback):
    """Raises instead of saving after the given step; callbacks before it have heard of the evaluation."""

    def on_checkpoint(self, trainer: Any) -> None:
        if trainer.step == 12:
            raise InterruptedError("power failure")


def test_a_run_that_crashed_has_each_row_once(
    cpu: Backend, start: Go, go_on: Go, small_recipe: Recipe, tmp_path: Path
) -> None:
    recipe = replace(small_recipe, logs=["csv"])
    start(tmp_path / "whole", cpu, recipe)
    with pytest.raises(InterruptedError):
        start(tmp_path / "parts", cpu, recipe, callbacks=[CrashAt()])
    path = tmp_path / "parts" / "metrics.csv"
    assert [row["step"] for row in table(path)] == [4, 8, 12]
    path.write_text(path.read_text() + "16,4,0.1")  # half a row
    go_on(tmp_path / "parts", cpu)
    for folder in ("whole", "parts"):
        assert table(tmp_path / folder / "metrics.csv") == evaluations(tmp_path / folder)
    assert [row["step"] for row in table(path)] == [4, 8, 12, 16]


def test_a_table_that_is_asked_for_later_has_the_whole_history(
    cpu: Backend, start: Go, go_on: Go, tmp_path: Path
) -> None:
    start(tmp_path, cpu, stop_after_epoch=2)
    assert not (tmp_path / "metrics.csv").exists()
    go_on(tmp_path, cpu, logs=["csv"])
    assert table(tmp_path / "metrics.csv") == evaluations(tmp_path)


def test_a_disk_that_refuses(cpu: Backend, small_data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"cannot write .*nowhere/metrics\.csv: No such file or directory"):
        trainer(cpu, tmp_path / "nowhere" / "metrics.csv").fit(small_data.train, epochs=1)

    class TakeAway(Callback):
        def on_checkpoint(self, trainer: Any) -> None:
            (tmp_path / "metrics.csv").unlink()
            (tmp_path / "metrics.csv").mkdir()

    run = trainer(cpu, tmp_path / "metrics.csv")
    run.callbacks.append(TakeAway())
    with pytest.raises(RunFolderError, match=r"cannot write .*metrics\.csv: Is a directory"):
        run.fit(small_data.train, epochs=2)
