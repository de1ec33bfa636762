"""``xpnet export``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import xpnet as library


@pytest.fixture
def model() -> library.Sequential:
    """Saved as model.safetensors."""
    model = library.Sequential(library.Flatten(), library.Linear(64, 8, "relu"), library.Linear(8, 10))
    library.save_model(model.initialize(library.backend("cpu-reference"), seed=3), "model.safetensors")
    return model


def test_to_pytorch(xpnet: Any, model: library.Sequential) -> None:
    outcome = xpnet("export", "model.safetensors", "--pytorch", "out.safetensors", "--json")
    assert outcome.result == {
        "file": "model.safetensors",
        "module": "model = torch.nn.Sequential(\n    torch.nn.Flatten(),\n    torch.nn.Linear(64, 8),\n"
        "    torch.nn.ReLU(),\n    torch.nn.Linear(8, 10),\n)",
        "pytorch": "out.safetensors",
    }
    np.testing.assert_array_equal(load_file("out.safetensors")["3.weight"], model.parameters["2.W"].T)
    told = xpnet("export", "model.safetensors", "--pytorch", "out.safetensors").out.splitlines()
    assert (told[0], told[1]) == ("out.safetensors   for PyTorch:", "model = torch.nn.Sequential(")
    assert told[-1] == "model.load_state_dict(safetensors.torch.load_file('out.safetensors'))"


def test_to_onnx(xpnet: Any, model: library.Sequential) -> None:
    evaluator = pytest.importorskip("onnx.reference", reason="onnx is not installed").ReferenceEvaluator
    outcome = xpnet("export", "model.safetensors", "--onnx", "a.onnx")
    assert outcome.out == "a.onnx   input float32 (N, 64)\n"
    result = xpnet("export", "model.safetensors", "--onnx", "b.onnx", "--input-shape", "8,8", "--json").result
    assert result == {"file": "model.safetensors", "onnx": "b.onnx", "input_shape": [8, 8], "input_dtype": "float32"}
    x = np.random.default_rng(0).random((3, 8, 8), np.float32)
    for path, rows in (("a.onnx", x.reshape(3, 64)), ("b.onnx", x)):
        np.testing.assert_allclose(evaluator(path).run(None, {"input": rows})[0], model.predict(x), atol=1e-5)


def test_the_input_shape_tells_batch_norms_and_indices(xpnet: Any) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed")
    model = library.Sequential(library.Embedding(9, 3), library.BatchNorm(5), library.Flatten(), library.Linear(15, 2))
    library.save_model(model.initialize(library.backend("cpu-reference")), "model.safetensors")
    options = ("--pytorch", "out.safetensors", "--onnx", "out.onnx", "--input-shape", "5")
    told = xpnet("export", "model.safetensors", *options).out.splitlines()
    assert told[0] == "out.onnx   input int64 (N, 5)"
    assert "    torch.nn.BatchNorm1d(5, eps=1e-05, momentum=0.1)," in told
    complaint = xpnet("export", "model.safetensors", *options[:2]).complaint
    assert complaint.startswith("xpnet export: BatchNorm is BatchNorm1d, BatchNorm2d or BatchNorm3d in PyTorch")


def test_a_runs_folder_means_its_best_checkpoint(xpnet: Any) -> None:
    xpnet("train", "--recipe", "digits", "--device", "cpu-reference", "--epochs", 1, "--out", "run")
    result = xpnet("export", "run", "--pytorch", "out.safetensors", "--json").result
    assert result["file"] == "run/best.safetensors"
    assert sorted(load_file("out.safetensors")) == ["2.bias", "2.weight", "4.bias", "4.weight"]


def test_what_cannot_be_exported(xpnet: Any, model: library.Sequential) -> None:
    Path("empty").mkdir()
    before = Path("model.safetensors").read_bytes()
    cases = {
        ("model.safetensors",): "nothing to write: give --pytorch OUT.safetensors, --onnx OUT.onnx, or both",
        ("model.safetensors", "--pytorch", "../" + Path.cwd().name + "/model.safetensors"): (
            "the export would overwrite model.safetensors: give another name"
        ),
        ("model.safetensors", "--pytorch", "out.pt"): "out.pt would be a safetensors file",
        ("empty", "--pytorch", "out.safetensors"): "empty is a folder without best.safetensors",
        ("none.safetensors", "--pytorch", "out.safetensors"): "there is no checkpoint none.safetensors",
    }
    for arguments, message in cases.items():
        assert xpnet("export", *arguments).complaint.startswith(f"xpnet export: {message}")
    assert Path("model.safetensors").read_bytes() == before
    assert not Path("out.safetensors").exists()
    with pytest.raises(SystemExit):
        xpnet("export", "model.safetensors", "--onnx", "out.onnx", "--input-shape", "8x8")
