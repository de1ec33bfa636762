"""How benchmarks choose what they measure."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "bench" / "timing.py"


@pytest.fixture
def timing(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    specification = importlib.util.spec_from_file_location("bench_timing", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(sys.modules, "bench_timing", module)  # where its dataclasses look their types up
    specification.loader.exec_module(module)
    monkeypatch.setattr(module, "compare", lambda case, contenders, device, turns: {"case": case, "of": [*contenders]})
    monkeypatch.setattr(module, "machine", lambda device: {})
    return module


def run(timing: ModuleType, *arguments: str) -> list[dict[str, Any]]:
    cases = ["784-50-10 sgd", "784-50-10 adam", "784-50-100-10 sgd"]
    contenders = dict.fromkeys(["limit", "xpnet", "xpnet_fresh", "torch", "torch_compile", "jax"])
    return timing.run(timing.Benchmark({"cpu": cases}, {"cpu": contenders}), [*arguments])


def test_all_cases_and_contenders(timing):
    rows = run(timing)
    assert [row["case"] for row in rows] == ["784-50-10 sgd", "784-50-10 adam", "784-50-100-10 sgd"]
    assert rows[0]["of"] == ["limit", "xpnet", "xpnet_fresh", "torch", "torch_compile", "jax"]


@pytest.mark.parametrize(
    ("option", "chosen"),
    [
        (["--nets", "784-50-10"], [0, 1]),
        (["--nets", "784-50-100-10,784-50-10"], [0, 1, 2]),
        (["--cases", "adam"], [1]),
    ],
)
def test_some_cases(timing, option, chosen):
    assert [row["case"] for row in run(timing, *option)] == [run(timing)[place]["case"] for place in chosen]


@pytest.mark.parametrize(
    ("peers", "chosen"), [("torch-compile,jax", ["torch_compile", "jax"]), ("torch", ["torch"]), ("", [])]
)
def test_some_peers(timing, peers, chosen):
    assert run(timing, "--peers", peers)[0]["of"] == ["limit", "xpnet", "xpnet_fresh", *chosen]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--nets", "784"], "no case has it in its name; there are 784-50-10 sgd, "),
        (["--peers", "torch,jaxx"], "there is no jaxx; there are jax, torch, torch_compile"),
        (["--peers", "limit"], "there is no limit"),
    ],
)
def test_unknown_cases_and_peers_are_refused_with_the_choices(timing, capsys, option, message):
    with pytest.raises(SystemExit):
        run(timing, *option)
    assert message in capsys.readouterr().err


def test_rows_are_written_as_they_come(timing, tmp_path):
    run(timing, "--json", str(tmp_path / "rows.json"), "--nets", "784-50-10")
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["case"] for row in rows] == ["784-50-10 sgd", "784-50-10 adam"]
