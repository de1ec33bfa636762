"""``xpnet doctor``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import xpnet as library

CHECKS = ["system", "packages", "kernels", "cuda", "mnist"]


def checks_of(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in result["checks"]}


def test_what_it_finds(xpnet: Any) -> None:
    result = xpnet("doctor", "--json").result
    checks = checks_of(result)
    assert list(checks) == CHECKS
    assert result["version"] == library.__version__
    problem = library.cuda_problem()
    assert result["device"] == ("cpu" if problem else "cuda")
    assert checks["cuda"] == {"name": "cuda", "ok": problem is None, "note": problem or "a test kernel ran"}
    assert checks["system"]["ok"]
    assert checks["packages"]["note"].startswith("numpy ")
    assert checks["kernels"]["ok"], checks["kernels"]["note"]


def test_missing_data_are_named_with_what_mends_it(xpnet: Any) -> None:
    check = checks_of(xpnet("doctor", "--json").result)["mnist"]
    assert not check["ok"]
    assert check["note"].startswith("mnist was not found")
    assert "XPNET_DATA_DIR" in check["note"]


def test_data_that_are_there(xpnet: Any, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XPNET_DATA_DIR", str(data_dir))
    assert checks_of(xpnet("doctor", "--json").result)["mnist"] == {"name": "mnist", "ok": True, "note": "found"}


def test_a_line_for_each_check(xpnet: Any) -> None:
    outcome = xpnet("doctor")
    assert outcome.status == 0
    first, *lines = outcome.out.splitlines()
    assert first.startswith(f"xpnet {library.__version__}; --device auto is ")
    assert [line.split()[1] for line in lines] == CHECKS
    assert {line.split()[0] for line in lines} <= {"ok", "--"}


def test_a_check_that_fails_is_a_finding(xpnet: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("the kernel is broken")

    monkeypatch.setattr(library.ops, "softmax_cross_entropy", broken)
    outcome = xpnet("doctor", "--json")
    assert outcome.status == 0
    assert checks_of(outcome.result)["kernels"] == {
        "name": "kernels",
        "ok": False,
        "note": "RuntimeError: the kernel is broken",
    }
