"""``xpnet doctor``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

import xpnet as library
from xpnet.backends import by_name

CHECKS = ["system", "packages", "kernels", "cuda", "mnist"]


TWO_GPUS = {"cuda:0": "NVIDIA H200, 140 GiB", "cuda:1": "NVIDIA L4, 22 GiB"}


def checks_of(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in result["checks"]}


def test_the_checks_of_this_machine(xpnet: Any) -> None:
    result = xpnet("doctor", "--json").result
    checks = checks_of(result)
    assert list(checks) == CHECKS
    assert result["version"] == library.__version__
    problem = library.cuda_problem()
    assert result["device"] == ("cpu" if problem else "cuda")
    assert checks["cuda"]["ok"] == (problem is None)
    assert problem is None or checks["cuda"]["note"] == problem
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


@pytest.mark.parametrize(
    "problem", ["CuPy is not installed: pip install it", "no NVIDIA driver was found: install one"]
)
def test_why_cuda_cannot_be_used(xpnet: Any, monkeypatch: pytest.MonkeyPatch, problem: str) -> None:
    monkeypatch.setattr(by_name, "cuda_problem", lambda number=None: problem)
    monkeypatch.setattr(library, "cuda_problem", lambda: problem)
    result = xpnet("doctor", "--json").result
    assert (result["device"], checks_of(result)["cuda"]) == ("cpu", {"name": "cuda", "ok": False, "note": problem})


@pytest.mark.parametrize(("installed", "ok"), [(True, True), (False, False)])
def test_cuda_works_with_and_without_its_kernels(
    xpnet: Any, monkeypatch: pytest.MonkeyPatch, installed: bool, ok: bool
) -> None:
    """A stand-in for the GPU: the CPU, under its name."""
    cpu = library.backend("cpu" if installed else "cpu-reference")
    monkeypatch.setattr(by_name, "cuda_problem", lambda number=None: None)
    monkeypatch.setattr(library, "cuda_problem", lambda: None)
    monkeypatch.setattr(by_name, "cupy_backend", lambda number=None: dataclasses.replace(cpu, name="cuda"))
    monkeypatch.setattr(library.backends, "cuda_devices", lambda: TWO_GPUS)
    result = xpnet("doctor", "--json").result
    check = checks_of(result)["cuda"]
    assert (result["device"], check["ok"]) == ("cuda", ok)
    compiled = "cuda:0 is NVIDIA H200, 140 GiB; cuda:1 is NVIDIA L4, 22 GiB; fused kernels compile"
    assert (compiled if ok else "numba-cuda is missing") in check["note"]


def test_cuda_kernels_with_wrong_numbers(xpnet: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = library.backend("cpu")

    class Off:
        def softmax_cross_entropy(self, *arguments: Any, gradient: Any, **keywords: Any) -> None:
            cpu.kernels.softmax_cross_entropy(*arguments, gradient=gradient, **keywords)
            gradient += 1e-3

    off = dataclasses.replace(cpu, name="cuda", kernels=Off())
    monkeypatch.setattr(library, "cuda_problem", lambda: None)
    monkeypatch.setattr(by_name, "cuda_problem", lambda number=None: None)
    monkeypatch.setattr(by_name, "cupy_backend", lambda number=None: off)
    monkeypatch.setattr(library.backends, "cuda_devices", lambda: TWO_GPUS)
    checks = checks_of(xpnet("doctor", "--json").result)
    assert checks["kernels"]["ok"]
    assert not checks["cuda"]["ok"]
    assert "differs from plain NumPy by 1e-03" in checks["cuda"]["note"]


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
