"""Trainings on CUDA's emulated device against the CPU; the batches and masks of resumed runs; commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpnet
from tests.emulated_cuda import recorded
from xpnet import ops
from xpnet.backends import Backend
from xpnet.cli import main
from xpnet.data import Batches, Dataset

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return xpnet.data.load("digits")


def require_same_figures(run: dict[str, Any], expected: dict[str, Any]) -> None:
    """Accuracies within 0.3 points, losses within 2e-5."""
    for figure in ("train", "validation", "test"):
        if expected.get(f"{figure}_accuracy") is not None:
            assert run[f"{figure}_accuracy"] == pytest.approx(expected[f"{figure}_accuracy"], abs=0.003)
            assert run[f"{figure}_loss"] == pytest.approx(expected[f"{figure}_loss"], abs=2e-5)


def test_digits_train_as_on_the_cpu(cpu: Backend, emulated: Backend, tmp_path: Path, digits: Dataset) -> None:
    recipe = xpnet.load_recipe("digits").with_options(epochs=2, batch_size=32)
    expected = xpnet.train(recipe, digits, cpu, out=tmp_path / "cpu")
    with recorded() as record:
        run = xpnet.train(recipe, digits, emulated, out=tmp_path / "cuda")
    require_same_figures(run, expected)
    assert run["test_accuracy"] > 0.85
    assert len(record.synchronizations) < 90  # of reports, evaluations and checkpoints: fewer than one a step


def small_convolutions(recipe: xpnet.Recipe) -> xpnet.Recipe:
    """mnist-conv with a quarter of the channels."""
    table = recipe.to_table()
    channels = {1: 1, 24: 6, 48: 12, 768: 192, 10: 10}
    for layer in table["model"]["layers"]:
        layer |= {
            name: channels[layer[name]]
            for name in ("in_channels", "out_channels", "inputs", "outputs")
            if name in layer
        }
    return xpnet.configuration.recipe_from_table(table)


@pytest.mark.cuda_compile
def test_a_small_mnist_conv_trains_as_on_the_cpu(
    cpu: Backend, emulated: Backend, tmp_path: Path, data_dir: Path
) -> None:
    mnist = xpnet.data.load("mnist", data_dir, download=False)
    data = replace(
        mnist, x_train=mnist.x_train[:1000], y_train=mnist.y_train[:1000], x_test=mnist.x_test[:1000],
        y_test=mnist.y_test[:1000],
    )  # fmt: skip
    recipe = small_convolutions(xpnet.load_recipe("mnist-conv")).with_options(epochs=2, batch_size=20)
    runs = [xpnet.train(recipe, data, backend, out=tmp_path / backend.name) for backend in (cpu, emulated)]
    require_same_figures(runs[1], runs[0])
    assert runs[0]["test_accuracy"] > 0.5


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """The inputs, the labels and the mask of dropout of every step, on the host and in order."""
    arrays: list[np.ndarray] = []
    gather, dropout = Batches.gather, ops.dropout

    def gathered(self: Batches, batch: Any, context: xpnet.Context) -> Any:
        x, y = gather(self, batch, context)
        if context.training:
            arrays.extend(np.array(self.backend.to_numpy(array)) for array in (x, y))
        return x, y

    def dropped(backend: Backend, x: Any, *arguments: Any) -> Any:
        rate, key, step = arguments[:3]
        arrays.append(backend.to_numpy(dropout(backend, backend.xp.ones_like(x), rate, key, step)) != 0)
        return dropout(backend, x, *arguments)

    monkeypatch.setattr(Batches, "gather", gathered)
    monkeypatch.setattr(ops, "dropout", dropped)
    return arrays


def test_a_resumed_run_has_the_same_batches_and_masks(
    cpu: Backend, emulated: Backend, tmp_path: Path, digits: Dataset, seen: list[np.ndarray]
) -> None:
    """Bit for bit, from the CPU to CUDA and back; the figures within rounding."""
    table = xpnet.load_recipe("digits").to_table()
    table["model"]["layers"].insert(-1, {"type": "Dropout", "rate": 0.25})
    recipe = xpnet.configuration.recipe_from_table(table).with_options(epochs=2, batch_size=100)

    def taken() -> list[np.ndarray]:
        arrays = seen.copy()
        seen.clear()
        return arrays

    whole = xpnet.train(recipe, digits, cpu, out=tmp_path / "whole")
    expected = taken()
    for first, second in ((cpu, emulated), (emulated, cpu)):
        folder = tmp_path / f"{first.name}-{second.name}"
        xpnet.train(recipe, digits, first, out=folder, stop_after_epoch=1)
        run = xpnet.resume(folder, second, lambda name: digits)
        ours = taken()
        assert (
            len(ours) == len(expected) == 4 * run["steps"]
        )  # the mask is drawn in the forward and in the backward pass
        for one, other in zip(ours, expected, strict=True):
            np.testing.assert_array_equal(one, other)
        require_same_figures(run, whole)


@pytest.fixture
def command(emulated: Backend, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Runs ``xpnet`` with these arguments; gives its status and what it printed."""

    def run(*arguments: str) -> tuple[int, str]:
        status = main(list(arguments))
        return status, capsys.readouterr().out

    return run


def test_evaluating_a_run_of_the_cpu(command: Any, cpu: Backend, tmp_path: Path, digits: Dataset) -> None:
    run = xpnet.train(xpnet.load_recipe("digits").with_options(epochs=1), digits, cpu, out=tmp_path / "run")
    status, output = command("evaluate", str(tmp_path / "run"), "--device", "cuda", "--json")
    assert status == 0
    assert json.loads(output)["accuracy"] == pytest.approx(run["test_accuracy"], abs=0.003)


def test_parity(command: Any) -> None:
    status, output = command("parity", "--recipe", "digits", "--backends", "float64,cpu,cuda", "--steps", "2")
    assert status == 0
    assert "float64, cpu, cuda agree in 2 steps" in output


def test_the_profile_of_a_step(command: Any) -> None:
    status, output = command("profile", "--recipe", "digits", "--device", "cuda", "--steps", "2")
    assert status == 0
    assert "Linear" in output


def test_the_doctor_lists_the_devices(command: Any) -> None:
    status, output = command("doctor")
    assert status == 0
    assert "cuda" in output
    assert "Emulated device" in output


@pytest.mark.cuda_compile
def test_a_process_of_its_own(tmp_path: Path) -> None:
    path = os.pathsep.join([str(ROOT), str(ROOT / "kernels")])
    arguments = ["train", "--recipe", "digits", "--device", "cuda", "--epochs", "1", "--out", str(tmp_path / "run")]
    run = subprocess.run(
        [sys.executable, "-m", "tests.emulated_cuda", "-m", "xpnet", *arguments],
        env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "run" / "last.safetensors").exists()
