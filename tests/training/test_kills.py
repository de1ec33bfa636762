"""A training process that is killed again and again comes to the same end, bit for bit, as one that is left alone.

``make guarantees`` kills two hundred times, the test-suite eight.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import xpnet

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL and SIGSTOP are POSIX")

FILES = ["best.safetensors", "config.toml", "last.safetensors", "metrics.csv", "metrics.jsonl"]
LONGEST = 0.8  # seconds that a process is left alone: more than it takes to start


class Run:
    """A run of the digits in processes of its own, saved every third step."""

    def __init__(self, folder: Path, recipe: Path, device: str) -> None:
        self.folder = folder
        self.command = [sys.executable, "-m", "xpnet", "train", "--device", device]
        self.fresh = ["--recipe", str(recipe), "--seed", "5", "--out", str(folder)]

    def go_on(self) -> subprocess.Popen[str]:
        """Start it, or resume it where there is something to resume."""
        saved = (self.folder / "last.safetensors").exists()
        arguments = ["--resume", str(self.folder)] if saved else self.fresh
        command = [*self.command, *arguments]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def configuration(self) -> dict[str, Any]:
        return tomllib.loads((self.folder / "config.toml").read_text())

    def temporary_files(self) -> set[str]:
        """What is there while a file is being written."""
        return {name for name in os.listdir(self.folder) if name.endswith(".tmp")} if self.folder.is_dir() else set()


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Three epochs, with evaluations and checkpoints that fall within them; running statistics, masks, an average.

    A table of figures beside the history, and a look at the test set after the last checkpoint.
    """
    import tomli_w

    digits = xpnet.load_recipe("digits").with_options(validation_fraction=0.1, logs=["csv"])
    *before, last = digits.layers
    layers = [*before, {"type": "BatchNorm", "features": 512}, {"type": "Dropout", "rate": 0.1}, last]
    digits = replace(digits, layers=layers, ema_decay=0.9, epochs=3, evaluate_every=20, checkpoint_every=3)
    digits = replace(digits, name="killed")
    path = tmp_path / "killed.toml"
    path.write_text(tomli_w.dumps(digits.to_table()))
    return path


def kill_at_random(process: subprocess.Popen[str], draw: random.Random) -> None:
    """At any moment between its start and its end."""
    time.sleep(draw.uniform(0.0, LONGEST))
    process.kill()


def kill_amid_a_save(run: Run, process: subprocess.Popen[str], draw: random.Random) -> None:
    """In one of the next saves, at any moment of it; the process stands still while we make sure that it is one."""
    left_before, saves = run.temporary_files(), draw.randrange(8)
    while process.poll() is None:
        if run.temporary_files() <= left_before:
            time.sleep(0.0002)
            continue
        time.sleep(draw.uniform(0.0, 0.008))
        process.send_signal(signal.SIGSTOP)
        if not run.temporary_files() <= left_before:
            saves -= 1
            if saves < 0:
                process.kill()
                return
        process.send_signal(signal.SIGCONT)


def end_of(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Its status, and what it complained of: a run killed between its last save and its end is complete."""
    _, said = process.communicate()
    complaint = "".join(line for line in said.splitlines() if line.startswith(("xpnet train: ", "Traceback")))
    return (0, "") if "is complete" in complaint else (process.returncode, complaint)


def kill_again_and_again(
    kills: int, tmp_path: Path, recipe: Path, device: str, assert_same_run: Callable[[Path, Path], None]
) -> None:
    """Run after run, each in the end held against the undisturbed one, until there were ``kills``."""
    undisturbed = Run(tmp_path / "undisturbed", recipe, device)
    assert end_of(undisturbed.go_on()) == (0, "")
    draw = random.Random()
    killed = amid_a_save = runs = 0
    while killed < kills:
        runs += 1
        run = Run(tmp_path / f"run-{runs}", recipe, device)
        ended = False
        while not ended:
            left_before = run.temporary_files()
            process = run.go_on()
            if killed == kills:
                assert end_of(process) == (0, "")
                break
            if killed % 3:
                kill_amid_a_save(run, process, draw)
            else:
                kill_at_random(process, draw)
            status, complaint = end_of(process)
            assert complaint == ""
            assert status in (0, -signal.SIGKILL)
            ended = status == 0
            killed += not ended
            amid_a_save += not run.temporary_files() <= left_before
        assert sorted(path.name for path in run.folder.iterdir()) == FILES
        assert_same_run(undisturbed.folder, run.folder)
        assert run.configuration() == undisturbed.configuration()
    print(f"{killed} kills on {device}, {amid_a_save} amid a save, in {runs} runs")
    assert amid_a_save >= kills // 3


def test_a_few_kills(tmp_path: Path, recipe: Path, assert_same_run: Callable[[Path, Path], None]) -> None:
    kill_again_and_again(8, tmp_path, recipe, "cpu-reference", assert_same_run)


@pytest.mark.guarantees
@pytest.mark.parametrize("device", ["cpu-reference", "cpu"])
def test_two_hundred_kills(
    tmp_path: Path, recipe: Path, device: str, assert_same_run: Callable[[Path, Path], None]
) -> None:
    kill_again_and_again(100, tmp_path, recipe, device, assert_same_run)
