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


CONTENDERS = """
import os, time
from timing import Contender, within

def good(case, device):
    return Contender(lambda: None, lambda: {"error": 0.0})

def absent(case, device):
    import a_package_that_is_missing

def broken(case, device):
    raise RuntimeError(f"no {case}")

def wrong(case, device):
    return Contender(lambda: None, lambda: within(error=(2.0, 1.0)))

def killed(case, device):
    os._exit(7)

def killed_later(case, device):
    calls = []
    return Contender(lambda: calls.append(1) or len(calls) < 9 or os._exit(7))

def silent(case, device):
    time.sleep(60)
"""


def test_the_others_are_measured_when_a_contender_fails(monkeypatch, tmp_path):
    import importlib

    (tmp_path / "contenders.py").write_text(CONTENDERS)
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    monkeypatch.syspath_prepend(str(tmp_path))
    timing, contenders = importlib.import_module("timing"), importlib.import_module("contenders")
    monkeypatch.setattr(timing, "PATIENCE", 6)
    names = ("absent", "broken", "wrong", "killed", "killed_later", "silent")
    builds = {name: getattr(contenders, name) for name in names} | {"xpnet": contenders.good}
    row = timing.compare("case", builds, "cpu", turns=1)
    for name in ("timing", "contenders"):
        sys.modules.pop(name)
    assert row.pop("xpnet_us") >= 0
    assert row.pop("broken_failed").startswith("RuntimeError: no case (contenders.py:")
    assert row.pop("wrong_failed").startswith("WrongResult: error is 2, and at most 1 was expected (timing.py:")
    assert row == {
        "case": "case",
        "xpnet_error": 0.0,
        "xpnet_extra_mib": 0.0,
        "absent_absent": "No module named 'a_package_that_is_missing'",
        "killed_failed": "its process died",
        "killed_later_extra_mib": 0.0,
        "killed_later_failed": "its process died",
        "silent_failed": "no answer in 6 s",
    }


@pytest.mark.parametrize(("row", "status"), [({"xpnet_failed": ""}, 1), ({"torch_failed": "", "jax_absent": ""}, 0)])
def test_the_exit_status_tells_of_this_projects_failures(timing, monkeypatch, row, status):
    monkeypatch.setattr(timing, "compare", lambda *arguments: {"case": "a", **row})
    with pytest.raises(SystemExit) as exit:
        timing.main(timing.Benchmark({"cpu": ["a"]}, {"cpu": {}}), [])
    assert exit.value.code == status


def test_no_case_is_begun_that_would_end_too_late(timing, monkeypatch, capsys, tmp_path):
    now = iter(range(0, 1000, 10))  # each look at the clock is 10 seconds later
    monkeypatch.setattr(timing.time, "monotonic", lambda: next(now))
    assert len(run(timing, "--seconds", "30", "--json", str(tmp_path / "rows.json"))) == 1
    assert capsys.readouterr().out.endswith("no time was left for: 784-50-10 adam, 784-50-100-10 sgd\n")
