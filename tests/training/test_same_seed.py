"""The same seed gives the same bits, process after process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import xpnet
from xpnet.configuration import Recipe

SameRun = Callable[[Path, Path], None]


def train_repeatedly(recipe: Recipe, runs: int, threads: int, folder: Path, assert_same_run: SameRun) -> None:
    """Each in a process of its own, on the CPU with so many threads of OpenBLAS; all held against the first."""
    import tomli_w

    (folder / "recipe.toml").write_text(tomli_w.dumps(recipe.to_table()))
    command = [sys.executable, "-m", "xpnet", "train", "--recipe", str(folder / "recipe.toml"), "--device", "cpu"]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": str(threads)}
    for run in range(runs):
        out = ["--seed", "1", "--out", str(folder / f"run-{run}")]
        subprocess.run([*command, *out], env=environment, capture_output=True, check=True)
        assert_same_run(folder / "run-0", folder / f"run-{run}")


def test_two_runs_on_the_digits(tmp_path: Path, assert_same_run: SameRun) -> None:
    recipe = replace(xpnet.load_recipe("digits"), epochs=2, evaluate_every=30)
    train_repeatedly(recipe, 2, 1, tmp_path, assert_same_run)


@pytest.mark.guarantees
@pytest.mark.usefixtures("data_dir")
@pytest.mark.parametrize("threads", [1, 2])
def test_twenty_runs_of_torch_mlp(tmp_path: Path, threads: int, assert_same_run: SameRun) -> None:
    recipe = replace(xpnet.load_recipe("torch-mlp"), epochs=None, steps=300, evaluate_every=100)
    train_repeatedly(recipe, 20, threads, tmp_path, assert_same_run)
