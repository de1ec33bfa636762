"""``xpnet parity``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import xpnet_kernels.cpu

import xpnet as library
from xpnet.backends import by_name

DIGITS = ("parity", "--recipe", "digits", "--steps", 2)


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A column of dW times 1.001, in the layer with 512 inputs."""
    right = xpnet_kernels.cpu.linear_backward

    def wrong(dy, x, y, W, activation, dW, db, dz, dx):
        right(dy, x, y, W, activation, dW, db, dz, dx)
        if W.shape[0] == 512:
            dW[:, 4] *= 1.001

    monkeypatch.setattr(xpnet_kernels.cpu, "linear_backward", wrong)


def test_the_figures_as_json(xpnet: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "cuda_problem", lambda: "none here")
    outcome = xpnet(*DIGITS, "--seed", 3, "--json")
    assert outcome.status == 0
    assert outcome.err == "backends: float64, cpu-reference, cpu   recipe: digits   data: digits\n"
    result = outcome.result
    keys = ["recipe", "data", "seed", "backends", "steps", "rows", "drift", "first_divergence"]
    assert list(result) == keys
    assert [result[key] for key in ("recipe", "data", "seed", "steps")] == ["digits", "digits", 3, 2]
    assert result["first_divergence"] is None
    assert [drift["backend"] for drift in result["drift"]] == ["cpu-reference", "cpu"]
    parts = {(row["layer"], row["quantity"]) for row in result["rows"] if row["backend"] == "cpu"}
    assert {("data", "batch"), ("0 Flatten", "forward"), ("2 Linear", "input gradient"), ("loss", "gradient")} < parts
    assert all(row["agrees"] and row["ulps"] <= row["bound"] for row in result["rows"])
    library_rows = library.parity.compare_recipe(
        library.load_recipe("digits"),
        library.data.load("digits"),
        list(map(library.backend, result["backends"])),
        steps=2,
        seed=3,
    ).to_table()["rows"]
    assert result["rows"] == library_rows


def test_cuda_joins_where_it_works(xpnet: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "cuda_problem", lambda: None)
    monkeypatch.setattr(by_name, "cuda_problem", lambda number=None: "asked for")
    assert xpnet(*DIGITS).complaint == "xpnet parity: device 'cuda' cannot be used: asked for"


def test_the_printed_table(xpnet: Any) -> None:
    outcome = xpnet(*DIGITS, "--backends", "cpu-reference, cpu")
    assert outcome.status == 0
    lines = outcome.out.splitlines()
    assert lines[0].split() == ["backend", "layer", "quantity", "array", "ulps", "bound", "relative", "verdict"]
    assert all(line.startswith("cpu ") and line.endswith("  ok") for line in lines[1:-2])
    assert lines[-2].startswith("cpu, trained independently: relative distance of the parameters from cpu-reference's ")
    assert lines[-1] == "cpu-reference, cpu agree in 2 steps"


def test_a_planted_bug_is_named(xpnet: Any, planted: None) -> None:
    outcome = xpnet(*DIGITS, "--backends", "float64,cpu-reference,cpu")
    assert outcome.status == 1
    (wrong,) = (line for line in outcome.out.splitlines() if line.endswith("DIVERGES"))
    assert wrong.split()[:5] == ["cpu", "2", "Linear", "gradient", "W"]
    last = outcome.out.splitlines()[-1]
    assert last.startswith("first divergence: layer 2 Linear, gradient (W), on cpu at step 1: ")
    first = xpnet(*DIGITS, "--backends", "float64,cpu", "--json")
    assert first.status == 1
    assert first.result["first_divergence"]["layer"] == "2 Linear"
    assert first.result["steps"] == 1


def test_it_starts_from_a_runs_weights(xpnet: Any, tmp_path: Path) -> None:
    run = ("train", "--recipe", "digits", "--epochs", 1, "--device", "cpu-reference", "--out", tmp_path / "run")
    assert xpnet(*run).status == 0
    checkpoint = tmp_path / "run" / "best.safetensors"
    trained = xpnet("parity", "--checkpoint", checkpoint, "--steps", 1, "--backends", "float64,cpu", "--json")
    assert (trained.status, trained.result["recipe"]) == (0, "digits")
    fresh = xpnet("parity", "--recipe", "digits", "--steps", 1, "--backends", "float64,cpu", "--json")
    assert trained.result["rows"] != fresh.result["rows"]


def test_wrong_options_are_refused_in_one_sentence(xpnet: Any, tmp_path: Path) -> None:
    assert "at least two backends of different names, not 'cpu'" in told(xpnet(*DIGITS, "--backends", "cpu"))
    assert "unknown device 'gpu'" in xpnet(*DIGITS, "--backends", "cpu,gpu").complaint
    assert "steps must be" in told(xpnet(*DIGITS[:-1], 0, "--backends", "cpu,float64"))
    assert "unknown recipe" in xpnet("parity", "--recipe", "none", "--backends", "cpu,float64").complaint
    assert "there is no checkpoint" in xpnet("parity", "--checkpoint", tmp_path / "none").complaint
    model = library.Sequential(library.Linear(2, 2)).initialize(library.backend("cpu"))
    library.save_model(model, tmp_path / "model.safetensors")
    complaint = xpnet("parity", "--checkpoint", tmp_path / "model.safetensors").complaint
    assert "does not say by which recipe it was trained" in complaint
    with pytest.raises(SystemExit):
        xpnet("parity", "--recipe", "digits", "--checkpoint", "x")


def told(outcome: Any) -> str:
    """The complaint of a command that had begun: a line on what it does stands before."""
    assert (outcome.status, outcome.out) == (2, "")
    return outcome.err.splitlines()[-1]
