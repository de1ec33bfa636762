"""``xpnet import``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

State = dict[str, np.ndarray]


@pytest.fixture
def state() -> State:
    """Of the recipe digits' network, saved as theirs.safetensors; it takes every image for a 3."""
    state = {
        "hidden.weight": np.zeros((512, 64), np.float16),
        "hidden.bias": np.zeros(512, np.float16),
        "output.weight": np.zeros((10, 512), np.float32),
        "output.bias": np.eye(10, dtype=np.float32)[3],
    }
    save_file(state, "theirs.safetensors")
    return state


def test_a_state_dict_becomes_a_checkpoint_that_knows_its_data(xpnet: Any, state: State) -> None:
    outcome = xpnet("import", "theirs.safetensors", "--recipe", "digits", "--out", "model.safetensors")
    assert outcome.status == 0
    assert outcome.out.splitlines() == [
        "1.W          from hidden.weight, converted from float16 to float32",
        "1.b          from hidden.bias, converted from float16 to float32",
        "2.W          from output.weight",
        "2.b          from output.bias",
        "xpnet evaluate model.safetensors",
    ]
    evaluated = xpnet("evaluate", "model.safetensors", "--device", "cpu-reference", "--json")
    assert "data: digits" in evaluated.err
    assert evaluated.result["accuracy"] == pytest.approx(37 / 360)  # the test set has 37 threes


def test_out_and_in_again(xpnet: Any, state: State) -> None:
    xpnet("import", "theirs.safetensors", "--recipe", "digits", "--out", "a.safetensors")
    xpnet("export", "a.safetensors", "--pytorch", "again.safetensors")
    arguments = ("--recipe", "digits", "--out", "b.safetensors", "--names", "2,4", "--json")
    assert xpnet("import", "again.safetensors", *arguments).result == {
        "file": "again.safetensors",
        "out": "b.safetensors",
        "tensors": [
            {"name": ours, "source": theirs, "dtype": "float32"}
            for ours, theirs in (("1.W", "2.weight"), ("1.b", "2.bias"), ("2.W", "4.weight"), ("2.b", "4.bias"))
        ],
    }
    assert Path("a.safetensors").read_bytes() == Path("b.safetensors").read_bytes()


def test_what_cannot_be_imported(xpnet: Any, state: State) -> None:
    before = Path("theirs.safetensors").read_bytes()
    Path("model.pt").write_bytes(before)
    cases = {
        (
            "theirs.safetensors",
            "digits",
            "theirs.safetensors",
        ): "the checkpoint would overwrite theirs.safetensors",
        (
            "theirs.safetensors",
            "torch-mlp",
            "out.safetensors",
        ): "theirs.safetensors: layer 1 (Linear) needs weight (500, "
        "784) and bias (500,); 'hidden' in the file has weight (512, 64) and bias (512,)",
        ("theirs.safetensors", "digit", "out.safetensors"): "unknown recipe 'digit' (did you mean 'digits'?)",
        ("model.pt", "digits", "out.safetensors"): "model.pt is a pickle, which may run any code",
        ("none.npz", "digits", "out.safetensors"): "there is no file none.npz",
        ("theirs.safetensors", "digits", "out.pkl"): "out.pkl would be read as a book's pickle",
    }
    for (file, recipe, out), message in cases.items():
        complaint = xpnet("import", file, "--recipe", recipe, "--out", out).complaint
        assert complaint.startswith(f"xpnet import: {message}"), complaint
    assert Path("theirs.safetensors").read_bytes() == before
    assert not Path("out.safetensors").exists()
