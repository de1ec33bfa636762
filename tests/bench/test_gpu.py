"""``make gpu`` where there is no GPU, and its bookkeeping where there is one."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from xpnet.backends import cuda_problem

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "bench" / "gpu.py"
WITHOUT_GPU = pytest.mark.skipif(cuda_problem() is None, reason="there is a GPU here")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    yield importlib.import_module("gpu")
    for name in ("gpu", "gpu_environment"):
        sys.modules.pop(name, None)


def refusal(**environment: str) -> str:
    done = subprocess.run(
        [sys.executable, str(SCRIPT)], env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (3, "")
    (line,) = done.stderr.splitlines()
    return line


@WITHOUT_GPU
def test_it_refuses_with_the_doctors_reason():
    assert refusal() == f"make gpu needs a GPU that xpnet can use: {cuda_problem()}"


@WITHOUT_GPU
def test_carried_wheels_are_imported(tmp_path):
    with zipfile.ZipFile(tmp_path / "cupy-14-py3-none-any.whl", "w") as wheel:
        wheel.writestr("cupy/__init__.py", "raise ImportError('carried here')")
    assert "CuPy is installed but cannot be imported (carried here)" in refusal(WHEELS=str(tmp_path))


def test_of_what_is_installed_no_wheel_is_unpacked(gpu, tmp_path):
    for name in ("numpy-1.0-py3-none-any", "a_missing_one-1.0-py3-none-any"):
        with zipfile.ZipFile(tmp_path / f"{name}.whl", "w") as wheel:
            wheel.writestr(f"{name.partition('-')[0]}/__init__.py", "")
    folder = gpu.environment.__globals__["unpacked"](tmp_path, tmp_path / "there")
    assert [path.name for path in folder.iterdir()] == ["a_missing_one"]


def test_the_environment_of_the_parts(gpu, monkeypatch, tmp_path):
    for name in ("CUDA_HOME", "CUDA_PATH", "LD_LIBRARY_PATH", "XPNET_DATA_DIR", "PYTHONPATH"):
        monkeypatch.delenv(name, raising=False)
    toolkit, wheels = tmp_path / "cuda-13", tmp_path / "wheels"
    for path in (toolkit / "bin" / "nvcc", toolkit / "nvvm" / "lib64" / "libnvvm.so.4", wheels / "mnist" / "x"):
        path.parent.mkdir(parents=True)
        path.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(toolkit / "bin"))
    monkeypatch.setenv("WHEELS", str(wheels))
    values = gpu.environment(tmp_path / "scratch")
    assert values["CUDA_HOME"] == str(toolkit)
    assert values["LD_LIBRARY_PATH"] == str(toolkit / "nvvm" / "lib64")
    assert values["XPNET_DATA_DIR"] == str(wheels)
    assert values["XPNET_REQUIRE_CUDA"] == "1"
    assert values["PYTHONPATH"].split(os.pathsep)[:2] == [str(ROOT), str(ROOT / "kernels")]
    (toolkit / "nvvm" / "lib64" / "libnvvm.so.4").rename(tmp_path / "elsewhere")
    assert not {"CUDA_HOME", "LD_LIBRARY_PATH"} & gpu.environment(tmp_path / "scratch").keys()  # a wrapper script, say
    (tmp_path / "elsewhere").rename(toolkit / "nvvm" / "lib64" / "libnvvm.so.4")
    monkeypatch.setenv("CUDA_PATH", str(toolkit))
    monkeypatch.setenv("XPNET_DATA_DIR", "/data")
    values = gpu.environment(tmp_path / "scratch")
    assert "CUDA_HOME" not in values  # two of them that differ are warned of
    assert values["LD_LIBRARY_PATH"] == str(toolkit / "nvvm" / "lib64")
    assert values["XPNET_DATA_DIR"] == "/data"


@WITHOUT_GPU
def test_a_missing_package_is_one_that_can_be_carried(gpu, parts):
    (gpu.ROOT / "bench" / "gpu_probe.py").write_text("import a_package_that_is_missing")
    assert gpu._problem(dict(os.environ)) == (
        "ModuleNotFoundError: No module named 'a_package_that_is_missing'; "
        "'make gpu-wheels' fetches it, where there is a package index"
    )


@pytest.fixture
def parts(gpu, monkeypatch, tmp_path):
    """Two parts in place of the real ones, and a GPU, it seems; what they are, and the folder for results."""
    scripts = tmp_path / "bench"
    scripts.mkdir()
    (scripts / "good.py").write_text("import sys; print('these:', *sys.argv[1:])")
    (scripts / "bad.py").write_text("raise SystemExit('it broke')")
    (scripts / "gpu_probe.py").write_text("print()")
    monkeypatch.setattr(gpu, "ROOT", tmp_path)
    out = tmp_path / "new" / "results"
    monkeypatch.setenv("OUT", str(out))
    chosen = {
        "bad": gpu.Part(["bench/bad.py"], 60),
        "good": gpu.Part(["bench/good.py", "--turns", "3"], 50, "good.json"),
    }
    monkeypatch.setattr(gpu, "PARTS", chosen)
    return chosen, out


def test_everything_is_run_and_reported(gpu, parts, capsys):
    out = parts[1]
    assert gpu.main([]) == 1
    log = (out / "gpu.txt").read_text()
    assert "== bad\nit broke\n-- bad: failed with status 1, " in log
    assert f"these: --turns 3 --json {out / 'good.json'} --seconds 40\n-- good: done, " in log
    assert log.endswith("bad: failed with status 1\ngood: done\n")
    assert capsys.readouterr().out == log


def test_parts_by_name(gpu, parts, capsys):
    assert gpu.main(["good"]) == 0
    assert (parts[1] / "gpu.txt").read_text().endswith("\n\ngood: done\n")
    assert gpu.main(["good,bad"]) == 1
    assert (parts[1] / "gpu.txt").read_text().endswith("\n\nbad: failed with status 1\ngood: done\n")
    with pytest.raises(SystemExit, match="2"):
        gpu.main(["bad", "third"])
    assert "there is no part third: there are bad, good" in capsys.readouterr().err


def test_what_there_was_no_time_for_is_named(gpu, parts):
    assert gpu.main(["--seconds", "5"]) == 1
    assert (parts[1] / "gpu.txt").read_text() == "bad: left out: no time\ngood: left out: no time\n"


def test_a_part_out_of_time_is_ended_with_all_it_started_and_its_output_kept(gpu, parts, tmp_path, monkeypatch):
    child = "import time; print('begun', flush=True); time.sleep(60)"
    parts[0]["bad"] = gpu.Part(
        ["-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}], stdin=subprocess.PIPE)"], 17
    )
    monkeypatch.setattr(gpu, "GRACE", 14)
    assert gpu.main(["bad"]) == 1
    log = (parts[1] / "gpu.txt").read_text()
    assert "== bad\nbegun\n" in log
    assert log.endswith("bad: out of time\n")


def test_each_part_is_there(gpu):
    """The scripts, and the folders with tests."""
    for part in gpu.PARTS.values():
        named = [
            word.removeprefix("--ignore=") for word in part.arguments if word.startswith(("bench/", "tests", "--ig"))
        ]
        assert named
        assert all((ROOT / name).exists() for name in named)


def test_the_first_part_is_right_on_the_cpu():
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / "gpu_first.py"), "--device", "cpu"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "kernels")])},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()[1:]
    assert lines.pop() == f"{len(lines)} of {len(lines)} are right"
    assert all(line.startswith("ok ") for line in lines)


@pytest.mark.cuda_compile
def test_the_first_part_runs_on_the_emulated_device(gpu, monkeypatch, tmp_path):
    monkeypatch.setattr(gpu, "PYTHON", [sys.executable, "-m", "tests.emulated_cuda"])
    monkeypatch.setitem(gpu.PARTS, "first", replace(gpu.PARTS["first"], seconds=400))
    monkeypatch.setenv("OUT", str(tmp_path))
    assert gpu.main(["first"]) == 0
    log = (tmp_path / "gpu.txt").read_text()
    assert log.startswith("== first\nmachine Emulated device, ")
    assert log.endswith("first: done\n")
    assert "FAILED" not in log


def test_the_first_part_runs_every_kernel():
    import xpnet_kernels.cuda

    source = (ROOT / "bench" / "gpu_first.py").read_text()
    assert not [name for name in xpnet_kernels.cuda.__all__ if f'"{name}"' not in source]
