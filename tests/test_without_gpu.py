"""A machine without a GPU pays nothing for CUDA: no import, no warning, and the same bits with CuPy as without."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from typing import Any

import pytest

import xpnet

WITHOUT_GPU = pytest.mark.skipif(xpnet.cuda_problem() is None, reason="there is a GPU here")
WITH_CUPY = pytest.mark.skipif(importlib.util.find_spec("cupy") is None, reason="CuPy is not installed")

TRAIN = """
import hashlib, json, sys, tempfile
if {hidden}:
    sys.meta_path.insert(0, type("Hidden", (), {{"find_spec": staticmethod(
        lambda name, path=None, target=None: exec("raise ModuleNotFoundError(name)") if name == "cupy" else None)}}))
    import importlib.util
    found = importlib.util.find_spec
    importlib.util.find_spec = lambda name, package=None: None if name == "cupy" else found(name, package)
import xpnet
backend = xpnet.backend({device!r})
recipe = xpnet.load_recipe("digits").with_options(epochs=1)
with tempfile.TemporaryDirectory() as folder:
    run = xpnet.train(recipe, xpnet.data.load("digits"), backend, out=folder + "/run")
    model = xpnet.load_model(folder + "/run/last.safetensors", backend)
weights = hashlib.sha256(model.vectors.parameters.vector.tobytes()).hexdigest()
result = {{"device": run["device"], "weights": weights, "loss": run["test_loss"], "cupy": "cupy" in sys.modules}}
print(json.dumps(result))
"""


def trained(device: str, hidden: bool = False) -> dict[str, Any]:
    """What a process of its own says, in which every warning is an error."""
    command = [sys.executable, "-W", "error", "-c", TRAIN.format(device=device, hidden=hidden)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_training_on_the_cpu_never_imports_cupy() -> None:
    result = trained("cpu")
    assert (result["device"], result["cupy"]) == ("cpu", False)


@WITHOUT_GPU
@pytest.mark.cuda_compile
def test_auto_is_the_cpu_to_the_bit() -> None:
    """With CuPy and without a driver (``make test-cuda-compile``), too."""
    chosen, asked = trained("auto"), trained("cpu", hidden=True)
    assert chosen | {"cupy": False} == asked
    assert chosen["cupy"] == (importlib.util.find_spec("cupy") is not None)


@WITHOUT_GPU
@WITH_CUPY
@pytest.mark.cuda_compile
def test_the_doctor_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    from xpnet.cli import main

    assert main(["doctor", "--json"]) == 0
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
    assert not checks["cuda"]["ok"]
    assert checks["cuda"]["note"] == "no NVIDIA driver was found: install one, or use --device cpu"
