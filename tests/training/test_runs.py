"""xpnet.training.runs: a run from beginning to end, and how it goes on with the same bits."""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpnet
from xpnet import checkpoint
from xpnet.backends import Backend
from xpnet.configuration import Recipe, recipe_from_table
from xpnet.data import Dataset
from xpnet.errors import ConfigurationError, Error, FileFormatError, ShapeError
from xpnet.training import Callback, load_model, resume, train

FILES = ["best.safetensors", "config.toml", "last.safetensors", "metrics.jsonl"]
CLOCK = {"seconds", "samples_per_second", "run_dir"}

Go = Callable[..., dict[str, Any]]
Content = Callable[[Path], tuple[dict[str, Any], dict[str, Any]]]
History = Callable[[Path], list[dict[str, Any]]]
SameRun = Callable[[Path, Path], None]


class Crash(Callback):
    """Raises at the first evaluation after so many steps: before the folder hears of it."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_evaluation(self, trainer: Any, record: dict[str, Any], improved: bool) -> None:
        if trainer.step >= self.step:
            raise InterruptedError("power failure")


class CrashAfter(Callback):
    """Raises instead of saving after the given step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_checkpoint(self, trainer: Any) -> None:
        if trainer.step == self.step:
            raise InterruptedError("power failure")


class Interrupt(Callback):
    """Control-C at the first report, or at the first checkpoint, after so many steps."""

    def __init__(self, moment: str, step: int) -> None:
        self.moment, self.step = moment, step

    def on_batch(self, trainer: Any, record: dict[str, Any]) -> None:
        self.interrupt("batch", trainer.step)

    def on_checkpoint(self, trainer: Any) -> None:
        self.interrupt("checkpoint", trainer.step)

    def interrupt(self, moment: str, step: int) -> None:
        if (moment, step) == (self.moment, self.step):
            raise KeyboardInterrupt


def test_the_files_of_a_run(
    backend: Backend, start: Go, small_recipe: Recipe, small_data: Dataset, tmp_path: Path, history_of: History
) -> None:
    summary = start(tmp_path / "run", backend)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == FILES
    table = tomllib.loads((tmp_path / "run" / "config.toml").read_text())
    assert table.pop("run") == {"seed": 3, "device": backend.name}
    assert recipe_from_table(table) == small_recipe
    evaluations = [record for record in history_of(tmp_path / "run") if record["event"] == "evaluation"]
    assert [record["step"] for record in evaluations] == [4, 8, 12, 16]
    best = max(record["validation_accuracy"] for record in evaluations)
    expected = {
        "recipe": "small",
        "data": "small",
        "device": backend.name,
        "epochs": 4,
        "steps": 16,
        "train_loss": evaluations[-1]["train_loss"],
        "test_loss": evaluations[-1]["validation_loss"],
        "test_accuracy": evaluations[-1]["validation_accuracy"],
        "best_test_accuracy": best,
        "run_dir": str(tmp_path / "run"),
        "diagnoses": [],
    }
    assert {key: summary[key] for key in expected} == expected
    assert summary.keys() - expected.keys() == {"seconds", "samples_per_second"}
    for name, accuracy in (("last", summary["test_accuracy"]), ("best", best)):
        model = load_model(tmp_path / "run" / f"{name}.safetensors", backend)
        assert xpnet.evaluate(model, small_data.test).accuracy == accuracy


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("sampler", ["shuffled", "with-replacement"])
def test_stopped_and_resumed_equals_uninterrupted(
    cpu: Backend,
    start: Go,
    go_on: Go,
    small_recipe: Recipe,
    tmp_path: Path,
    optimizer: str,
    sampler: str,
    assert_same_run: SameRun,
) -> None:
    recipe = replace(small_recipe.with_options(optimizer=optimizer, learning_rate=0.03), sampler=sampler)
    whole = start(tmp_path / "whole", cpu, recipe)
    stopped = start(tmp_path / "parts", cpu, recipe, stop_after_epoch=2)
    assert (stopped["epochs"], stopped["steps"]) == (2, 8)
    resumed = go_on(tmp_path / "parts", cpu)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    assert {k: v for k, v in resumed.items() if k not in CLOCK} == {k: v for k, v in whole.items() if k not in CLOCK}
    assert resumed["seconds"] >= stopped["seconds"]


def test_a_stopped_and_resumed_run_is_the_same_on_every_backend(
    backend: Backend, start: Go, go_on: Go, tmp_path: Path, assert_same_run: SameRun
) -> None:
    start(tmp_path / "whole", backend)
    start(tmp_path / "parts", backend, stop_after_epoch=1)
    go_on(tmp_path / "parts", backend, stop_after_epoch=3)
    go_on(tmp_path / "parts", backend)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_a_run_goes_on_on_another_backend(backend: Backend, start: Go, go_on: Go, tmp_path: Path) -> None:
    start(tmp_path / "whole", xpnet.backend("cpu-reference"))
    start(tmp_path / "parts", backend, stop_after_epoch=2)
    summary = go_on(tmp_path / "parts", xpnet.backend("cpu-reference"))
    assert (summary["device"], summary["epochs"]) == ("cpu-reference", 4)
    one, other = (checkpoint.load(tmp_path / name / "last.safetensors").tensors for name in ("whole", "parts"))
    for name, array in one.items():
        np.testing.assert_allclose(other[name], array, rtol=0, atol=1e-5)


@pytest.mark.parametrize("step", [1, 5, 6, 9, 15])
def test_a_run_that_ended_after_any_step_goes_on_with_the_same_bits(
    backend: Backend,
    start: Go,
    go_on: Go,
    small_recipe: Recipe,
    tmp_path: Path,
    assert_same_run: SameRun,
    step: int,
) -> None:
    """Mid-epoch too: four steps an epoch, evaluations every third, and what was gathered in the report goes with it."""
    recipe = replace(small_recipe, evaluate_every=3, checkpoint_every=1)
    start(tmp_path / "whole", backend, recipe)
    with pytest.raises(InterruptedError):
        start(tmp_path / "parts", backend, recipe, callbacks=[CrashAfter(step)])
    assert checkpoint.load(tmp_path / "parts" / "last.safetensors").metadata["step"] == step - 1
    go_on(tmp_path / "parts", backend)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_another_backend_goes_on_with_the_same_batches_and_draws(
    backend: Backend, start: Go, go_on: Go, small_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a layer sees in training: its inputs, and the seed and the step that everything drawn depends on."""
    seen: list[tuple[int, int, bytes]] = []
    forward = xpnet.Sequential.forward

    def note(model: Any, x: Any, context: Any) -> Any:
        if context.training:
            seen.append((context.seed, context.step, np.array(model.backend.to_numpy(x)).tobytes()))
        return forward(model, x, context)

    monkeypatch.setattr(xpnet.Sequential, "forward", note)
    start(tmp_path / "whole", xpnet.backend("cpu-reference"))
    whole = seen.copy()
    seen.clear()
    assert [step for _, step, _ in whole] == list(range(16))
    recipe = replace(small_recipe, checkpoint_every=1)
    with pytest.raises(InterruptedError):
        start(tmp_path / "parts", xpnet.backend("cpu-reference"), recipe, callbacks=[CrashAfter(7)])
    assert seen == whole[:7]
    seen.clear()
    go_on(tmp_path / "parts", backend)
    assert seen == whole[6:]


def test_a_complete_run_goes_on_for_more_epochs(
    cpu: Backend, start: Go, go_on: Go, small_recipe: Recipe, tmp_path: Path, history_of: History, content_of: Content
) -> None:
    start(tmp_path / "whole", cpu)
    start(tmp_path / "parts", cpu, small_recipe.with_options(epochs=2))
    with pytest.raises(ConfigurationError, match=r"complete \(2 epochs, 8 steps\): .* give --epochs with more than 2"):
        go_on(tmp_path / "parts", cpu)
    with pytest.raises(ConfigurationError, match="is complete"):
        go_on(tmp_path / "parts", cpu, epochs=2)
    go_on(tmp_path / "parts", cpu, epochs=4)
    assert history_of(tmp_path / "whole") == history_of(tmp_path / "parts")
    assert content_of(tmp_path / "whole" / "last.safetensors") == content_of(tmp_path / "parts" / "last.safetensors")


@pytest.mark.parametrize("after", [b"", b'{"event": "batch", "st', b'{"event": "batch"}\n' * 3])
def test_a_crash_within_an_epoch_loses_nothing_that_was_saved(
    cpu: Backend, start: Go, go_on: Go, small_recipe: Recipe, tmp_path: Path, after: bytes, assert_same_run: SameRun
) -> None:
    """Evaluated every third step of four: the checkpoint lies within an epoch; lines written after it are cut."""
    recipe = replace(small_recipe, evaluate_every=3)
    start(tmp_path / "whole", cpu, recipe)
    with pytest.raises(InterruptedError):
        start(tmp_path / "parts", cpu, recipe, callbacks=[Crash(9)])
    assert checkpoint.load(tmp_path / "parts" / "last.safetensors").metadata["step"] == 8
    shutil.copytree(tmp_path / "parts", tmp_path / "later")
    with open(tmp_path / "parts" / "metrics.jsonl", "ab") as file:
        file.write(after)
    go_on(tmp_path / "parts", cpu)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    with pytest.raises(InterruptedError):
        go_on(tmp_path / "later", cpu, callbacks=[Crash(15)])
    assert checkpoint.load(tmp_path / "later" / "last.safetensors").metadata["step"] == 12
    go_on(tmp_path / "later", cpu)
    assert_same_run(tmp_path / "whole", tmp_path / "later")


@pytest.mark.parametrize(("moment", "step"), [("batch", 1), ("checkpoint", 4)])
def test_a_run_interrupted_before_its_first_checkpoint_goes_on(
    backend: Backend, start: Go, go_on: Go, tmp_path: Path, moment: str, step: int, assert_same_run: SameRun
) -> None:
    start(tmp_path / "whole", backend)
    with pytest.raises(KeyboardInterrupt):
        start(tmp_path / "parts", backend, callbacks=[Interrupt(moment, step)])
    assert checkpoint.load(tmp_path / "parts" / "last.safetensors").metadata["step"] == 0
    go_on(tmp_path / "parts", backend)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_the_history_of_a_run_that_failed_is_kept(
    cpu: Backend, start: Go, go_on: Go, tmp_path: Path, history_of: History, assert_same_run: SameRun
) -> None:
    start(tmp_path / "whole", cpu)
    with pytest.raises(KeyboardInterrupt):
        start(tmp_path / "parts", cpu, callbacks=[Interrupt("checkpoint", 8)])
    kept = history_of(tmp_path / "parts")
    assert kept == history_of(tmp_path / "whole")[: len(kept)]
    assert (kept[-1]["event"], kept[-1]["step"]) == ("evaluation", 8)
    assert checkpoint.load(tmp_path / "parts" / "last.safetensors").metadata["step"] == 4
    go_on(tmp_path / "parts", cpu)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize("changed", ["x_train", "y_train"])
def test_other_data_of_the_same_length_are_refused(
    cpu: Backend, start: Go, small_data: Dataset, tmp_path: Path, changed: str
) -> None:
    start(tmp_path, cpu, stop_after_epoch=1)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    other = replace(small_data, **{changed: getattr(small_data, changed)[::-1].copy()})
    with pytest.raises(ConfigurationError, match=r"small is not what the run in .* was trained on: name the same data"):
        resume(tmp_path, cpu, lambda name: other)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_same_data_elsewhere_are_taken_and_remembered(
    cpu: Backend, start: Go, small_data: Dataset, tmp_path: Path
) -> None:
    asked_for = []

    def load(name: str) -> Dataset:
        asked_for.append(name)
        return small_data

    start(tmp_path, cpu, stop_after_epoch=1)
    resume(tmp_path, cpu, load, data="elsewhere", stop_after_epoch=2)
    resume(tmp_path, cpu, load)
    assert asked_for == ["elsewhere", "elsewhere"]
    assert tomllib.loads((tmp_path / "config.toml").read_text())["data"]["name"] == "elsewhere"


@pytest.mark.parametrize(("sampler", "rows"), [("shuffled", 120), ("with-replacement", 128)])
def test_the_speed_counts_the_rows_that_were_trained_on(
    cpu: Backend, start: Go, go_on: Go, small_recipe: Recipe, tmp_path: Path, sampler: str, rows: int
) -> None:
    """Thirty samples in batches of eight, four times; with replacement the last batch is full too."""
    start(tmp_path, cpu, replace(small_recipe, sampler=sampler), stop_after_epoch=3)
    summary = go_on(tmp_path, cpu)
    metadata = checkpoint.load(tmp_path / "last.safetensors").metadata
    assert metadata["samples_seen"] == rows
    assert summary["samples_per_second"] == round(rows / metadata["training_seconds"], 1)


@pytest.mark.parametrize("seed", [np.int64(3), np.uint8(3)])
def test_a_seed_may_be_any_integer(
    cpu: Backend, small_recipe: Recipe, small_data: Dataset, tmp_path: Path, seed: Any
) -> None:
    train(small_recipe, small_data, cpu, seed=seed, out=tmp_path)
    assert checkpoint.load(tmp_path / "last.safetensors").metadata["seed"] == 3


def test_a_seed_that_is_no_integer_leaves_no_folder(
    cpu: Backend, small_recipe: Recipe, small_data: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(TypeError):
        train(small_recipe, small_data, cpu, seed=0.9, out=tmp_path / "run")  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"stop_after_epoch": 0}, ConfigurationError),
        ({"recipe": "book-pretrained"}, ConfigurationError),
        ({"recipe": "torch-mlp"}, ShapeError),
    ],
)
def test_what_cannot_be_trained_leaves_no_folder(
    cpu: Backend, start: Go, tmp_path: Path, options: dict[str, Any], error: type[Error]
) -> None:
    if "recipe" in options:
        options = {"recipe": xpnet.load_recipe(options["recipe"])}
    with pytest.raises(error):
        start(tmp_path / "run", cpu, **options)
    assert not (tmp_path / "run").exists()


def test_a_recipe_with_another_number_of_classes(
    cpu: Backend, small_recipe: Recipe, small_data: Dataset, tmp_path: Path
) -> None:
    data = replace(small_data, classes=4)
    with pytest.raises(ShapeError, match=r"the recipe small gives 3 outputs, but small has 4 classes"):
        train(small_recipe, data, cpu, out=tmp_path / "run")


def test_a_model_alone_is_no_run(cpu: Backend, go_on: Go, tmp_path: Path) -> None:
    model = xpnet.Sequential(xpnet.Linear(4, 3)).initialize(cpu)
    xpnet.save_model(model, tmp_path / "last.safetensors")
    with pytest.raises(FileFormatError, match=r"last\.safetensors does not say by which recipe it was trained"):
        go_on(tmp_path, cpu)
