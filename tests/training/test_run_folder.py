"""xpnet.training.run_folder: what a run keeps on disk, in which order, and what becomes of it when something fails."""

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
from xpnet.checkpoint import Checkpoint
from xpnet.configuration import Recipe, recipe_from_table
from xpnet.errors import Error, FileFormatError, MissingFileError, NonFiniteError, RunFolderError
from xpnet.training import create_run_folder, finite_or_null

Go = Callable[..., dict[str, Any]]
History = Callable[[Path], list[dict[str, Any]]]
SameRun = Callable[[Path, Path], None]


def test_what_a_checkpoint_records(
    cpu: Backend, start: Go, small_recipe: Recipe, tmp_path: Path, history_of: History
) -> None:
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
    best = [r for r in history_of(tmp_path) if r.get("validation_accuracy") == saved.metadata["best_accuracy"]]
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


def test_a_crash_between_best_and_last(
    cpu: Backend, start: Go, go_on: Go, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, assert_same_run: SameRun
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
    backend: Backend, start: Go, small_recipe: Recipe, tmp_path: Path, history_of: History
) -> None:
    """The loss of that step was finite; what stays is the state before it, and the history."""
    recipe = small_recipe.with_options(optimizer="sgd", learning_rate=1e39, batch_size=100, epochs=1)
    message = r"a parameter is not finite after step 1, with the learning rate 1e\+39.*last\.safetensors, of step 0"
    with pytest.raises(NonFiniteError, match=message):
        start(tmp_path, backend, recipe)
    assert not (tmp_path / "best.safetensors").exists()
    saved = checkpoint.load(tmp_path / "last.safetensors")
    assert saved.metadata["step"] == 0
    assert all(np.isfinite(array).all() for array in saved.tensors.values())
    assert [(record["event"], record["step"]) for record in history_of(tmp_path)] == [("batch", 1)]


def test_the_configuration_tells_how_the_run_went_on(cpu: Backend, start: Go, go_on: Go, tmp_path: Path) -> None:
    start(tmp_path, cpu)
    go_on(tmp_path, xpnet.backend("cpu-reference"), epochs=6)
    table = tomllib.loads((tmp_path / "config.toml").read_text())
    assert table["training"]["epochs"] == 6
    assert table["run"] == {"seed": 3, "device": "cpu-reference"}
    assert recipe_from_table(table) == recipe_from_table(
        checkpoint.load(tmp_path / "last.safetensors").metadata["recipe"]
    )


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
    with pytest.raises(RunFolderError, match="full is not empty: name another --out, or continue with --resume full"):
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
        (cut, "last.safetensors", FileFormatError, "FILE is damaged or not a safetensors file"),
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


@pytest.mark.parametrize(
    "line",
    [
        *(b"", b"3", b"[]", b"{}", b"[" * 5000, b'{"event": "party"}', b'{"event": ["batch"]}'),
        *(b'{"event": "diagnosis", "kind": "x"}', b'{"event": "batch", "loss": [1]}'),
        b'{"event": "batch", "x": "' + b"x" * 70_000 + b'"}',
    ],
)
def test_a_history_with_a_line_that_is_no_record_is_refused_and_left_alone(
    cpu: Backend, start: Go, go_on: Go, tmp_path: Path, line: bytes
) -> None:
    start(tmp_path, cpu, stop_after_epoch=2)
    metrics = tmp_path / "metrics.jsonl"
    first, *rest = metrics.read_bytes().splitlines()
    content = b"\n".join([line, *rest, first, b""]).ljust(metrics.stat().st_size, b"x") + b"half a li"
    metrics.write_bytes(content)
    with pytest.raises(FileFormatError, match=r"metrics\.jsonl is damaged: .*line 1"):
        go_on(tmp_path, cpu)
    assert metrics.read_bytes() == content


@pytest.mark.parametrize("length", ["5", -1, 0.5, None, [], 2**62])
def test_a_length_of_the_history_that_cannot_be(
    cpu: Backend, start: Go, go_on: Go, tmp_path: Path, length: object
) -> None:
    start(tmp_path, cpu, stop_after_epoch=2)
    saved = checkpoint.load(tmp_path / "last.safetensors")
    saved.metadata["metrics_length"] = length
    checkpoint.save(tmp_path / "last.safetensors", saved)
    with pytest.raises(FileFormatError, match=r"metrics_length is .*, not a number of bytes|is shorter than"):
        go_on(tmp_path, cpu)


def test_a_checkpoint_whose_recipe_is_no_table(cpu: Backend, start: Go, go_on: Go, tmp_path: Path) -> None:
    start(tmp_path, cpu, stop_after_epoch=2)
    saved = checkpoint.load(tmp_path / "last.safetensors")
    saved.metadata["recipe"] = True
    checkpoint.save(tmp_path / "last.safetensors", saved)
    with pytest.raises(Error, match="a recipe must be a table, not True"):
        go_on(tmp_path, cpu)
