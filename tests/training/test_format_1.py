"""A run saved when format 1 was new, after step 4 of 9, within its second epoch: it is read, and goes on, for ever.

The values were written down on the day it was saved.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import xpnet
from xpnet import checkpoint
from xpnet.backends import Backend
from xpnet.configuration import recipe_from_table
from xpnet.data import Dataset
from xpnet.format_1 import upgrade
from xpnet.training import load_model, resume, train

RUN = Path(__file__).with_name("run-v1")
SHAPES = {"0.W": (4, 5), "0.b": (5,), "1.W": (5, 3), "1.b": (3,)}
VALUES = {
    "parameters/0.b": [0.40251624584198, 0.10336629301309586, 0.28191712498664856, -0.1781737506389618, -0.060524005],
    "parameters/1.b": [0.20394332706928253, -0.1993025243282318, 0.3008243441581726],
    "optimizer/m/1.b": [0.0103842094540596, -0.04637259244918823, 0.03598839044570923],
    "optimizer/v/1.b": [0.000199495509150438, 0.0006440128781832755, 0.00023165051243267953],
}
STATE = {
    "seed": 7,
    "step": 4,
    "samples_seen": 13,
    "best_accuracy": 1 / 3,
    "best_step": 3,
    "training_seconds": 0.0018401690031168982,
    "metrics_length": 414,
    "report": {
        "loss_sum": 3.960045337677002,
        "weight": 4.0,
        "count": 4.0,
        "correct": 2.0,
        "first_non_finite_step": -1.0,
        "bad_label_row": -1.0,
        "last_loss": 0.9900113344192505,
        "skipped_steps": 0.0,
    },
    "fingerprint": "d75d2232184b9baf7dda458e307fa701",
}


@pytest.fixture
def data() -> Dataset:
    """What it was trained on."""
    x, y = np.arange(48, dtype=np.float32).reshape(12, 4) / 48, np.arange(12) % 3
    return Dataset("small", x[:9], y[:9], x[9:], y[9:], classes=3)


def test_every_value_is_read() -> None:
    saved = checkpoint.load(RUN / "last.safetensors")
    assert {name: tensor.shape for name, tensor in saved.tensors.items()} == {
        f"{kind}/{name}": shape
        for kind in ("parameters", "optimizer/m", "optimizer/v")
        for name, shape in SHAPES.items()
    }
    for name, values in VALUES.items():
        np.testing.assert_array_equal(saved.tensors[name], np.array(values, np.float32), strict=True)
    assert {name: saved.metadata[name] for name in STATE} == STATE
    recipe = recipe_from_table(saved.metadata["recipe"])
    assert (recipe.checkpoint_every, recipe.validate_on_test) == (2, True)


def test_its_network_answers_as_it_did(backend: Backend) -> None:
    model = load_model(RUN / "last.safetensors", backend)
    answer = model.predict(np.array([[0.0, 0.25, 0.5, 0.75]], np.float32))
    np.testing.assert_allclose(answer, [[0.006636523608, -0.067365606014, 0.390200840346]], rtol=0, atol=1e-6)


def test_it_goes_on_as_if_it_had_never_stopped(backend: Backend, data: Dataset, tmp_path: Path) -> None:
    """To the weights of the same recipe trained today, as near as backends and processors are to each other."""
    shutil.copytree(RUN, tmp_path / "run")
    resumed = resume(tmp_path / "run", backend, lambda name: data)
    recipe = recipe_from_table(checkpoint.load(RUN / "last.safetensors").metadata["recipe"])
    whole = train(recipe, data, xpnet.backend("cpu-reference"), seed=7, out=tmp_path / "whole")
    assert resumed["steps"] == whole["steps"] == 9
    ends = [checkpoint.load(tmp_path / name / "last.safetensors") for name in ("run", "whole")]
    assert ends[0].tensors.keys() == ends[1].tensors.keys()
    for name, tensor in ends[0].tensors.items():
        np.testing.assert_allclose(tensor, ends[1].tensors[name], rtol=0, atol=2e-6)
    assert ends[0].metadata["samples_seen"] == ends[1].metadata["samples_seen"] == 27


def test_its_figures_of_the_test_set_are_called_validation_now(data: Dataset, tmp_path: Path) -> None:
    """The test set chose the best: its history goes on under the names of format 2, in a new log too."""
    shutil.copytree(RUN, tmp_path / "run")
    summary = resume(tmp_path / "run", xpnet.backend("cpu-reference"), lambda name: data, logs=["csv"])
    header, *rows = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    assert header == (
        "step,epoch,train_loss,train_accuracy,validation_loss,validation_accuracy,best_validation_accuracy,"
        "training_seconds"
    )
    assert [row.split(",")[:1] for row in rows] == [["3"], ["6"], ["9"]]
    assert rows[0].split(",")[4:7] == ["1.1094721953074138", "0.3333333333333333", "0.3333333333333333"]
    assert rows[-1].split(",")[4:7] == [str(summary[name]) for name in FIGURES]


FIGURES = ("test_loss", "test_accuracy", "best_test_accuracy")


def test_a_format_1_run_with_a_validation_fraction_keeps_it() -> None:
    recipe = {"name": "x", "training": {"epochs": 1, "validation_fraction": 0.2}}
    assert upgrade({"recipe": recipe}) == {"recipe": recipe}
