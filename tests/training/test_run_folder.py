"""xpnet.training.run_folder and runs: what a run leaves on disk, and how it goes on from there."""

from __future__ import annotations

import json
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
from xpnet.checkpoint import Checkpoint
from xpnet.configuration import Recipe, recipe_from_table
from xpnet.data import Dataset
from xpnet.errors import (
    ConfigurationError,
    Error,
    FileFormatError,
    MissingFileError,
    NonFiniteError,
    RunFolderError,
    ShapeError,
)
from xpnet.training import Callback, create_run_folder, finite_or_null, load_model, resume, train

WALL_CLOCK = {"training_seconds", "metrics_length", "seconds", "samples_per_second", "run_dir"}
FILES = ["best.safetensors", "config.toml", "last.safetensors", "metrics.jsonl"]

Go = Callable[..., dict[str, Any]]


@pytest.fixture
def start(small_recipe: Recipe, small_data: Dataset) -> Go:
    """``start(folder, backend, …)``: train the small recipe there."""

    def go(folder: Path, backend: Backend, recipe: Recipe = small_recipe, **options: Any) -> dict[str, Any]:
        return train(recipe, small_data, backend, seed=3, out=folder, **options)

    return go


@pytest.fixture
def go_on(small_data: Dataset) -> Go:
    """``go_on(folder, backend, …)``: resume the run there."""

    def go(folder: Path, backend: Backend, **options: Any) -> dict[str, Any]:
        return resume(folder, backend, lambda name: small_data, **options)

    return go


class Crash(Callback):
    """Raises at the first evaluation after so many steps: before the folder hears of it."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_evaluation(self, trainer: Any, record: dict[str, Any], improved: bool) -> None:
        if trainer.step >= self.step:
            raise InterruptedError("power failure")


def history_of(folder: Path) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if key not in WALL_CLOCK} for record in records]


def content_of(path: Path) -> tuple[dict[str, tuple[str, bytes]], dict[str, Any]]:
    saved = checkpoint.load(path)
    tensors = {name: (str(array.dtype), array.tobytes()) for name, array in saved.tensors.items()}
    return tensors, {key: value for key, value in saved.metadata.items() if key not in WALL_CLOCK}


def assert_same_run(one: Path, other: Path) -> None:
    """Weights, optimizer state, report, best so far and history: equal to the bit, but for wall-clock fields."""
    assert history_of(one) == history_of(other)
    for name in ("last.safetensors", "best.safetensors"):
        assert content_of(one / name) == content_of(other / name)


def test_what_a_run_leaves(
    backend: Backend, start: Go, small_recipe: Recipe, small_data: Dataset, tmp_path: Path
) -> None:
    summary = start(tmp_path / "run", backend)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == FILES
    table = tomllib.loads((tmp_path / "run" / "config.toml").read_text())
    assert table.pop("run") == {"seed": 3, "device": backend.name}
    assert recipe_from_table(table) == small_recipe
    evaluations = [record for record in history_of(tmp_path / "run") if record["event"] == "evaluation"]
    assert [record["step"] for record in evaluations] == [4, 8, 12, 16]
    best = max(record["test_accuracy"] for record in evaluations)
    expected = {
        "recipe": "small",
        "data": "small",
        "device": backend.name,
        "epochs": 4,
        "steps": 16,
        "train_loss": evaluations[-1]["train_loss"],
        "test_loss": evaluations[-1]["test_loss"],
        "test_accuracy": evaluations[-1]["test_accuracy"],
        "best_test_accuracy": best,
        "run_dir": str(tmp_path / "run"),
        "diagnoses": [],
    }
    assert {key: summary[key] for key in expected} == expected
    assert summary.keys() - expected.keys() == {"seconds", "samples_per_second"}
    for name, accuracy in (("last", summary["test_accuracy"]), ("best", best)):
        model = load_model(tmp_path / "run" / f"{name}.safetensors", backend)
        assert xpnet.evaluate(model, small_data.test).accuracy == accuracy


def test_what_a_checkpoint_records(cpu: Backend, start: Go, small_recipe: Recipe, tmp_path: Path) -> None:
    start(tmp_path, cpu)
    saved = checkpoint.load(tmp_path / "last.safetensors")
    names = [f"{layer}.{part}" for layer in (0, 1) for part in "Wb"]
    assert sorted(saved.tensors) == sorted(
        f"{prefix}/{name}" for prefix in ("parameters", "optimizer/m", "optimizer/v") for name in names
    )
    assert recipe_from_table(saved.metadata["recipe"]) == small_recipe
    assert saved.metadata["seed"] == 3
    assert saved.metadata["step"] == 16
    assert saved.metadata["metrics_length"] == (tmp_path / "metrics.jsonl").stat().st_size
    best = [r for r in history_of(tmp_path) if r.get("test_accuracy") == saved.metadata["best_accuracy"]]
    assert saved.metadata["best_step"] == best[0]["step"]
    assert checkpoint.load(tmp_path / "best.safetensors").metadata["step"] == best[0]["step"]


def test_best_is_written_before_last_and_only_for_a_strictly_better_score(
    cpu: Backend, start: Go, small_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    save = checkpoint.save

    def note(path: Path, content: Checkpoint) -> None:
        written.append((path.name, content.metadata["step"]))
        save(path, content)

    monkeypatch.setattr(checkpoint, "save", note)
    start(tmp_path, cpu, small_recipe.with_options(epochs=3, learning_rate=0.0))
    names = ["best.safetensors", "last.safetensors"]
    assert written == [(names[1], 0), (names[0], 4), (names[1], 4), (names[1], 8), (names[1], 12)]


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("sampler", ["shuffled", "with-replacement"])
def test_stopped_and_resumed_equals_uninterrupted(
    cpu: Backend, start: Go, go_on: Go, small_recipe: Recipe, tmp_path: Path, optimizer: str, sampler: str
) -> None:
    recipe = replace(small_recipe.with_options(optimizer=optimizer, learning_rate=0.03), sampler=sampler)
    whole = start(tmp_path / "whole", cpu, recipe)
    stopped = start(tmp_path / "parts", cpu, recipe, stop_after_epoch=2)
    assert (stopped["epochs"], stopped["steps"]) == (2, 8)
    resumed = go_on(tmp_path / "parts", cpu)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    assert {k: v for k, v in resumed.items() if k not in WALL_CLOCK} == {
        k: v for k, v in whole.items() if k not in WALL_CLOCK
    }
    assert resumed["seconds"] >= stopped["seconds"]


def test_on_every_backend_too(backend: Backend, start: Go, go_on: Go, tmp_path: Path) -> None:
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


def test_a_complete_run_goes_on_for_more_epochs(
    cpu: Backend, start: Go, go_on: Go, small_recipe: Recipe, tmp_path: Path
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
    cpu: Backend, start: Go, go_on: Go, small_recipe: Recipe, tmp_path: Path, after: bytes
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


def test_a_crash_between_best_and_last(
    cpu: Backend, start: Go, go_on: Go, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(tmp_path / "whole", cpu)
    save = checkpoint.save

    def fail(path: Path, content: Checkpoint) -> None:
        if path.name == "last.safetensors" and content.metadata["step"] == 8:
            raise RunFolderError("the disk is full")
        save(path, content)

    monkeypatch.setattr(checkpoint, "save", fail)
    with pytest.raises(RunFolderError, match="the disk is full"):
        start(tmp_path / "parts", cpu)
    monkeypatch.undo()
    go_on(tmp_path / "parts", cpu)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_numbers_that_are_not_finite_are_null() -> None:
    record = {"loss": float("nan"), "best": float("-inf"), "step": 3, "kind": "x", "share": 0.5, "none": None}
    assert finite_or_null(record) == {**record, "loss": None, "best": None}


def test_weights_that_explode_in_the_last_step(cpu: Backend, start: Go, small_recipe: Recipe, tmp_path: Path) -> None:
    """Too late for the report to tell: the test loss does, as null; nothing else is said, and the JSON is strict."""
    hidden, last = small_recipe.layers
    recipe = replace(small_recipe, layers=[{**hidden, "activation": "relu"}, last])
    recipe = recipe.with_options(optimizer="sgd", learning_rate=1e38, batch_size=100, epochs=1)
    summary = start(tmp_path, cpu, recipe)
    assert summary["test_loss"] is None
    assert "NaN" not in (tmp_path / "metrics.jsonl").read_text()


def test_parameters_that_overflow_in_the_last_step_are_no_checkpoint(
    backend: Backend, start: Go, small_recipe: Recipe, tmp_path: Path
) -> None:
    """The loss of that step was finite; what stays is the state before it, and the history."""
    recipe = small_recipe.with_options(optimizer="sgd", learning_rate=1e39, batch_size=100, epochs=1)
    with pytest.raises(NonFiniteError, match=r"a parameter is not finite after step 1, with the learning rate 1e\+39"):
        start(tmp_path, backend, recipe)
    assert not (tmp_path / "best.safetensors").exists()
    saved = checkpoint.load(tmp_path / "last.safetensors")
    assert saved.metadata["step"] == 0
    assert all(np.isfinite(array).all() for array in saved.tensors.values())
    assert [(record["event"], record["step"]) for record in history_of(tmp_path)] == [("batch", 1)]


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


@pytest.mark.parametrize(("moment", "step"), [("batch", 1), ("checkpoint", 4)])
def test_a_run_interrupted_before_its_first_checkpoint_goes_on(
    backend: Backend, start: Go, go_on: Go, tmp_path: Path, moment: str, step: int
) -> None:
    start(tmp_path / "whole", backend)
    with pytest.raises(KeyboardInterrupt):
        start(tmp_path / "parts", backend, callbacks=[Interrupt(moment, step)])
    assert checkpoint.load(tmp_path / "parts" / "last.safetensors").metadata["step"] == 0
    go_on(tmp_path / "parts", backend)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_the_history_of_a_run_that_failed_is_kept(cpu: Backend, start: Go, go_on: Go, tmp_path: Path) -> None:
    start(tmp_path / "whole", cpu)
    with pytest.raises(KeyboardInterrupt):
        start(tmp_path / "parts", cpu, callbacks=[Interrupt("checkpoint", 8)])
    kept = history_of(tmp_path / "parts")
    assert kept == history_of(tmp_path / "whole")[: len(kept)]
    assert (kept[-1]["event"], kept[-1]["step"]) == ("evaluation", 8)
    assert checkpoint.load(tmp_path / "parts" / "last.safetensors").metadata["step"] == 4
    go_on(tmp_path / "parts", cpu)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_the_configuration_tells_how_the_run_went_on(cpu: Backend, start: Go, go_on: Go, tmp_path: Path) -> None:
    start(tmp_path, cpu)
    go_on(tmp_path, xpnet.backend("cpu-reference"), epochs=6)
    table = tomllib.loads((tmp_path / "config.toml").read_text())
    assert table["training"]["epochs"] == 6
    assert table["run"] == {"seed": 3, "device": "cpu-reference"}
    assert recipe_from_table(table) == recipe_from_table(
        checkpoint.load(tmp_path / "last.safetensors").metadata["recipe"]
    )


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


def test_the_default_folder_is_the_next_free_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = [create_run_folder(None, "digits") for _ in range(2)]
    shutil.rmtree(made[0])
    (tmp_path / "runs" / "digits-3").write_text("in the way")
    made += [create_run_folder(None, "digits") for _ in range(2)] + [create_run_folder(None, "other")]
    assert [str(path) for path in made] == [
        f"runs/{name}" for name in ("digits-1", "digits-2", "digits-1", "digits-4", "other-1")
    ]
    assert all(path.is_dir() for path in made)


def test_a_named_folder_may_be_new_or_empty(tmp_path: Path) -> None:
    assert create_run_folder(tmp_path, "x") == tmp_path
    assert create_run_folder(tmp_path / "a" / "b", "x").is_dir()


def test_folders_that_will_not_do(cpu: Backend, start: Go, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("full").mkdir()
    Path("full/notes").write_text("mine")
    Path("file").write_text("mine")
    with pytest.raises(RunFolderError, match="full is not empty: name another --out, or go on with --resume full"):
        start(Path("full"), cpu)
    with pytest.raises(RunFolderError, match="cannot make the run folder file: a file of that name is in the way"):
        start(Path("file"), cpu)
    with pytest.raises(RunFolderError, match="cannot make the run folder file/below: Not a directory"):
        start(Path("file/below"), cpu)
    Path("runs").write_text("mine")
    with pytest.raises(RunFolderError, match="cannot make the run folder runs: a file of that name is in the way"):
        start(None, cpu)
    assert sorted(str(path) for path in Path().rglob("*")) == ["file", "full", "full/notes", "runs"]
    assert {path.read_text() for path in (Path("file"), Path("full/notes"), Path("runs"))} == {"mine"}


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


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def spoil(path: Path) -> None:
    path.write_bytes(b"?" + path.read_bytes()[1:])


def garble(path: Path) -> None:
    path.write_bytes(b"\xff" + path.read_bytes()[1:])


@pytest.mark.parametrize(
    ("change", "file", "error", "message"),
    [
        (Path.unlink, "metrics.jsonl", RunFolderError, "cannot read FILE: No such file"),
        (cut, "metrics.jsonl", FileFormatError, "FILE is shorter than last.safetensors recorded: it was changed"),
        (spoil, "metrics.jsonl", FileFormatError, "FILE is damaged: "),
        (garble, "metrics.jsonl", FileFormatError, "FILE is damaged: "),
        (cut, "last.safetensors", FileFormatError, "FILE is damaged or no safetensors file"),
        (Path.unlink, "last.safetensors", MissingFileError, "RUN holds no run to resume: there is no last.safetensors"),
    ],
)
def test_a_damaged_run_is_refused_and_left_alone(
    cpu: Backend,
    start: Go,
    go_on: Go,
    tmp_path: Path,
    change: Callable[[Path], None],
    file: str,
    error: type[Error],
    message: str,
) -> None:
    run = tmp_path / "run"
    start(run, cpu, stop_after_epoch=2)
    change(run / file)
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    with pytest.raises(error) as raised:
        go_on(run, cpu)
    assert str(raised.value).startswith(message.replace("FILE", str(run / file)).replace("RUN", str(run)))
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_a_model_alone_is_no_run(cpu: Backend, go_on: Go, tmp_path: Path) -> None:
    model = xpnet.Sequential(xpnet.Linear(4, 3)).initialize(cpu)
    xpnet.save_model(model, tmp_path / "last.safetensors")
    with pytest.raises(FileFormatError, match=r"last\.safetensors does not say by which recipe it was trained"):
        go_on(tmp_path, cpu)
