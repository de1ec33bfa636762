"""``make gpu`` where there is no GPU, and its bookkeeping where there is one."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from xpnet.backends import cuda_problem

SCRIPT = Path(__file__).parents[2] / "bench" / "gpu.py"


@pytest.fixture
def gpu() -> Any:
    specification = importlib.util.spec_from_file_location("bench_gpu", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def refusal(**environment: str) -> str:
    done = subprocess.run(
        [sys.executable, str(SCRIPT)], env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (3, "")
    (line,) = done.stderr.splitlines()
    return line


@pytest.mark.skipif(cuda_problem() is None, reason="there is a GPU here")
def test_it_refuses_with_the_doctors_reason():
    assert refusal() == f"make gpu needs a GPU that xpnet can use: {cuda_problem()}"


@pytest.mark.skipif(cuda_problem() is None, reason="there is a GPU here")
def test_carried_wheels_are_imported(tmp_path):
    with zipfile.ZipFile(tmp_path / "cupy-14-py3-none-any.whl", "w") as wheel:
        wheel.writestr("cupy/__init__.py", "raise ImportError('carried here')")
    assert "CuPy is installed but cannot be imported (carried here)" in refusal(WHEELS=str(tmp_path))


def test_everything_is_run_and_reported(gpu, monkeypatch, tmp_path):
    scripts = tmp_path / "bench"
    scripts.mkdir()
    (scripts / "good.py").write_text("import sys; print(sys.argv[1:])")
    (scripts / "bad.py").write_text("raise SystemExit('it broke')")
    monkeypatch.setattr(gpu, "ROOT", tmp_path)
    monkeypatch.setattr(gpu, "TESTS", ("gpu_tests", [sys.executable, "-c", "print('7 passed', flush=True)"]))
    monkeypatch.setattr(gpu, "BENCHMARKS", {"good": ["--turns", "3"], "bad": []})
    out = tmp_path / "new" / "results"
    assert gpu._run(out, dict(os.environ)) == 1
    assert (out / "gpu_tests.txt").read_text() == "7 passed\n"
    report = (out / "gpu.txt").read_text()
    assert f"['--device', 'cuda', '--json', '{out / 'good_cuda.json'}', '--turns', '3']" in report
    assert "it broke" in report
    assert report.endswith("failed: bad\n")


def test_parts_by_name(gpu, monkeypatch, tmp_path, capsys):
    scripts = tmp_path / "bench"
    scripts.mkdir()
    for name in ("one", "two"):
        (scripts / f"{name}.py").write_text(f"print('this is {name}')")
    monkeypatch.setattr(gpu, "ROOT", tmp_path)
    monkeypatch.setattr(gpu, "BENCHMARKS", {"one": [], "two": []})
    assert gpu._run(tmp_path / "out", dict(os.environ), ["two"]) == 0
    assert (tmp_path / "out" / "gpu_two.txt").read_text() == "== two\nthis is two\n\nfailed: nothing\n"
    assert gpu.main(["three"]) == 2
    assert capsys.readouterr().err == "there is no part three: there are gpu_tests, one, two\n"


def test_a_command_out_of_time_is_ended_and_its_output_kept(gpu):
    command = [sys.executable, "-c", "import time; print('begun', flush=True); time.sleep(60)"]
    text, status = gpu._output(command, dict(os.environ), 1)
    assert (text, status) == ("begun\n\nout of time\n", 1)
