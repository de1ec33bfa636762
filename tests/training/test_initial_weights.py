"""xpnet.training.initial_weights: a run that starts from the weights of a file, by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpnet
from xpnet import BatchNorm, Linear, Sequential, checkpoint
from xpnet.backends import Backend
from xpnet.configuration import Recipe
from xpnet.data import Dataset
from xpnet.errors import ConfigurationError, DTypeError, Error, ShapeError
from xpnet.layers.state import Unmatched
from xpnet.training import load_weights
from xpnet.training.initial_weights import ReportUnmatched


@pytest.fixture
def file(cpu: Backend, tmp_path: Path) -> Path:
    """A trained network: running statistics that are not the initial ones."""
    model = Sequential(Linear(4, 6, "tanh"), BatchNorm(6), Linear(6, 3)).initialize(cpu, seed=8)
    model.buffers["1.running_mean"][...] = np.arange(6)
    xpnet.save_model(model, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def test_parameters_and_buffers_of_the_same_names(backend: Backend, file: Path) -> None:
    model = Sequential(Linear(4, 6), BatchNorm(6), Linear(6, 3)).initialize(backend)
    unmatched = load_weights(model, file)
    assert unmatched == ([], [])
    assert ReportUnmatched(unmatched, file).message is None
    saved = checkpoint.load(file).tensors
    for kind, vector in (("parameters", model.parameters), ("buffers", model.buffers)):
        for name, view in vector.items():
            np.testing.assert_array_equal(backend.to_numpy(view), saved[f"{kind}/{name}"])


def test_part_of_the_names(cpu: Backend, file: Path) -> None:
    model = Sequential(Linear(4, 6), BatchNorm(6), Linear(6, 3), Linear(3, 2)).initialize(cpu, seed=1)
    before = np.array(model.parameters["3.W"])
    assert load_weights(model, file) == (["3.W", "3.b"], [])
    np.testing.assert_array_equal(model.parameters["3.W"], before)
    smaller = Sequential(Linear(4, 6)).initialize(cpu)
    left_over = ["1.beta", "1.gamma", "2.W", "2.b", "1.running_mean", "1.running_variance"]
    assert load_weights(smaller, file) == ([], left_over)


def test_a_message_lists_twenty_names_at_most() -> None:
    names = [f"{place}.W" for place in range(22)]
    listed = ", ".join(names[:20])
    assert ReportUnmatched(Unmatched(names, names[:2]), "a.safetensors").message == (
        f"a.safetensors lacks {listed} and 2 more, which keep their initial values; the model lacks 0.W, 1.W of "
        "a.safetensors"
    )


@pytest.mark.parametrize(
    ("layers", "error", "message"),
    [
        (
            [Linear(4, 5)],
            ShapeError,
            r"model\.safetensors: the state does not match this model: 0\.W has shape \(4, 6\), not \(4, 5\)",
        ),
        (
            [Linear(4, 6), BatchNorm(6), Linear(6, 4)],
            ShapeError,
            r"2\.W has shape \(6, 3\), not \(6, 4\); 2\.b has shape \(3,\), not \(4,\)",
        ),
        (
            [xpnet.Flatten(), xpnet.Flatten(), xpnet.Flatten(), Linear(4, 6)],
            ConfigurationError,
            r"none of the model's names: it holds .*; the model needs 3\.W, 3\.b",
        ),
    ],
)
def test_what_does_not_fit_changes_nothing(
    cpu: Backend, file: Path, layers: list[Any], error: type[Error], message: str
) -> None:
    model = Sequential(*layers).initialize(cpu)
    before = [vector.vector.tobytes() for vector in model.vectors]
    with pytest.raises(error, match=message):
        load_weights(model, file)
    assert [vector.vector.tobytes() for vector in model.vectors] == before


def test_integers_are_no_weights(cpu: Backend, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "x", checkpoint.Checkpoint({"parameters/0.b": np.zeros(6, np.int32)}, {}))
    with pytest.raises(DTypeError, match=r"x: 0\.b has dtype int32"):
        load_weights(Sequential(Linear(4, 6)).initialize(cpu), tmp_path / "x")


def test_a_run_begins_with_them_and_says_what_did_not_meet(
    cpu: Backend, small_recipe: Recipe, small_data: Dataset, file: Path, tmp_path: Path
) -> None:
    """With a learning rate of 0 the run's weights are those of the file where it has them, else the initial ones."""
    recipe = small_recipe.with_options(optimizer="sgd", learning_rate=0.0)  # Linear(4, 6), Linear(6, 3)
    wider = Sequential(Linear(4, 6), xpnet.ReLU(), Linear(6, 3)).initialize(cpu, seed=5)
    xpnet.save_model(wider, tmp_path / "wider.safetensors")
    summary = xpnet.train(recipe, small_data, cpu, seed=3, out=tmp_path / "run", weights=tmp_path / "wider.safetensors")
    trained = xpnet.load_model(tmp_path / "run" / "last.safetensors", cpu).parameters
    initial = recipe.build_model().initialize(cpu, seed=3).parameters
    np.testing.assert_array_equal(trained["0.W"], wider.parameters["0.W"])
    np.testing.assert_array_equal(trained["1.W"], initial["1.W"])
    name = str(tmp_path / "wider.safetensors")
    expected = f"{name} lacks 1.W, 1.b, which keep their initial values; the model lacks 2.W, 2.b of {name}"
    assert summary["diagnoses"][0] == expected
    first = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert (first["kind"], first["step"], first["message"]) == ("initial weights", 0, expected)
    assert xpnet.resume(tmp_path / "run", cpu, lambda name: small_data, epochs=5)["diagnoses"][0] == expected
