"""A disk that fails at any one moment: a clear error, no litter, and the run goes on with the same bits."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import xpnet
from xpnet import checkpoint
from xpnet.backends import Backend
from xpnet.configuration import Recipe
from xpnet.errors import ConfigurationError, RunFolderError
from xpnet.training import Callback

Go = Callable[..., dict[str, Any]]
SameRun = Callable[[Path, Path], None]
FILES = {"best.safetensors", "config.toml", "last.safetensors", "metrics.jsonl"}


class Disk:
    """Counts the flushes and renames, and fails the one with the number ``full_at``; nothing is flushed in earnest."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.requests = 0
        self.full_at: int | None = None
        monkeypatch.setattr(os, "fsync", self.row_mask(lambda descriptor: None))
        monkeypatch.setattr(os, "replace", self.row_mask(os.replace))

    def row_mask(self, request: Callable[..., None]) -> Callable[..., None]:
        def count(*arguments: Any) -> None:
            self.requests += 1
            if self.requests == self.full_at:
                raise OSError(errno.ENOSPC, "No space left on device")
            request(*arguments)

        return count


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


@pytest.fixture
def often_saved(small_recipe: Recipe) -> Recipe:
    return replace(small_recipe, epochs=2, evaluate_every=3, checkpoint_every=2)


@pytest.fixture
def often_saved_and_tested(often_saved: Recipe) -> Recipe:
    """With a table beside the history, and a look at the test set at the end."""
    return often_saved.with_options(validation_fraction=0.2, logs=["csv"])


@pytest.mark.parametrize("name", ["often_saved", "often_saved_and_tested"])
def test_a_disk_that_is_full_at_any_one_moment(
    start: Go,
    go_on: Go,
    name: str,
    request: pytest.FixtureRequest,
    disk: Disk,
    tmp_path: Path,
    assert_same_run: SameRun,
) -> None:
    """Every flush and every rename of a whole run, one after the other."""
    recipe = request.getfixturevalue(name)
    backend = xpnet.backend("cpu-reference")  # a compiler's cache of its own goes to the disk too
    start(tmp_path / "whole", backend, recipe)
    requests = disk.requests
    assert requests > 20
    for number in range(1, requests + 1):
        folder = tmp_path / f"full-at-{number}"
        disk.requests, disk.full_at = 0, number
        with pytest.raises(RunFolderError, match=rf"cannot write {folder}/.*: No space left on device"):
            start(folder, backend, recipe)
        assert {path.name for path in folder.iterdir()} <= {*FILES, "metrics.csv"}
        if (folder / "last.safetensors").exists():
            with contextlib.suppress(ConfigurationError):  # it is complete
                go_on(folder, backend)
        else:
            start(folder, backend, recipe)
        assert_same_run(tmp_path / "whole", folder)


class LimitFiles(Callback):
    """From the given step on no file may grow beyond so many bytes: a system's own way to fail a write half-way."""

    def __init__(self, step: int, limit: Callable[[], int]) -> None:
        self.step, self.limit = step, limit

    def on_checkpoint(self, trainer: Any) -> None:
        import resource

        if trainer.step == self.step:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.limit(), resource.RLIM_INFINITY))


@pytest.fixture
def unlimited() -> Iterator[None]:
    yield
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@pytest.mark.usefixtures("unlimited")
@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are POSIX")
@pytest.mark.parametrize("file", ["last.safetensors", "metrics.jsonl"])
def test_a_write_that_fails_half_way(
    cpu: Backend, start: Go, go_on: Go, tmp_path: Path, assert_same_run: SameRun, file: str
) -> None:
    import resource

    start(tmp_path / "whole", cpu)
    run = tmp_path / "run"

    def limit() -> int:
        return (run / "metrics.jsonl").stat().st_size + 7 if file == "metrics.jsonl" else 1500

    message = (
        rf"cannot write {run}/{file}: File too large; the last checkpoint is intact: fix that, then --resume {run}"
    )
    with pytest.raises(RunFolderError, match=message):
        start(run, cpu, callbacks=[LimitFiles(8, limit)])
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert {path.name for path in run.iterdir()} <= FILES
    saved = checkpoint.load(run / "last.safetensors")
    assert saved.metadata["step"] == 4
    assert (run / "metrics.jsonl").read_bytes().endswith(b"}\n")
    go_on(run, cpu)
    assert_same_run(tmp_path / "whole", run)


class TakeAway(Callback):
    """Does something to the folder after the given step."""

    def __init__(self, step: int, act: Callable[[], object]) -> None:
        self.step, self.act = step, act

    def on_evaluation(self, trainer: Any, record: dict[str, Any], improved: bool) -> None:
        if trainer.step == self.step:
            self.act()


def test_a_folder_removed_while_training(cpu: Backend, start: Go, tmp_path: Path) -> None:
    run = tmp_path / "run"
    message = r"run, or \.lock in it, was removed during the run: the run cannot be saved there"
    with pytest.raises(RunFolderError, match=message):
        start(run, cpu, callbacks=[TakeAway(8, lambda: shutil.rmtree(run))])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_removed_and_made_anew_for_another_run_is_left_to_it(
    cpu: Backend, start: Go, small_recipe: Recipe, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    content = {}
    recipe = small_recipe.with_options(logs=["csv"])

    def make_anew() -> None:
        shutil.rmtree(run)
        start(run, cpu, recipe.with_options(epochs=1))
        content.update({path.name: path.read_bytes() for path in run.iterdir()})

    with pytest.raises(RunFolderError, match="was removed during the run"):
        start(run, cpu, recipe, callbacks=[TakeAway(8, make_anew)])
    assert {path.name: path.read_bytes() for path in run.iterdir()} == content


def test_two_runs_in_one_folder(cpu: Backend, start: Go, go_on: Go, tmp_path: Path, assert_same_run: SameRun) -> None:
    """Whoever comes second is refused, fresh or resumed, and does no harm."""
    refused = []

    def come_second() -> None:
        for intrude in (start, go_on):
            with pytest.raises(RunFolderError, match=f"in use by process {os.getpid()} on"):
                intrude(tmp_path / "run", cpu)
            refused.append(intrude)

    start(tmp_path / "whole", cpu)
    start(tmp_path / "run", cpu, callbacks=[TakeAway(8, come_second)])
    assert len(refused) == 2
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def test_what_a_killed_process_left_is_swept_out(
    cpu: Backend, start: Go, go_on: Go, tmp_path: Path, assert_same_run: SameRun
) -> None:
    start(tmp_path / "whole", cpu)
    run = tmp_path / "run"
    run.mkdir()
    left = [
        ".lock",
        ".last.safetensors.4711.tmp",
        ".best.safetensors.4711.tmp",
        ".config.toml.4711.tmp",
        ".metrics.csv.4711.tmp",
    ]
    for name in left:
        (run / name).write_text("half")
    start(run, cpu, stop_after_epoch=1)
    assert {path.name for path in run.iterdir()} == FILES
    for name in [*left, ".notes.4711.tmp"]:
        (run / name).write_text("half")
    go_on(run, cpu)
    assert {path.name for path in run.iterdir()} == {*FILES, ".notes.4711.tmp"}  # that one is the user's
    assert_same_run(tmp_path / "whole", run)
