"""A run saved when format 1 was new, after step 4 of 9, within its second epoch: it is read, and goes on, for ever.

The values were written down on the day it was saved.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpnet
from xpnet import checkpoint
from xpnet.backends import Backend
from xpnet.configuration import recipe_from_table
from xpnet.data import Dataset
from xpnet.format_1 import fingerprint, upgrade
from xpnet.training import evaluate, load_model, resume, train

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
    assert upgrade({"recipe": recipe}) == {"recipe": recipe, "upgraded_from": 1}


# Runs as format 1 wrote them: pixels were divided outside the model, and some keys had other names.

RESCALE = {"type": "Rescale"}
DENSE = [
    {"type": "Flatten"},
    {"type": "Linear", "inputs": 36, "outputs": 8, "activation": "tanh"},
    {"type": "Linear", "inputs": 8, "outputs": 3},
]
CONVOLUTIONS = [
    {"type": "Reshape", "shape": [1, 6, 6]},
    {"type": "Conv2d", "in_channels": 1, "out_channels": 2, "kernel_size": 3, "padding": "same"},
    {"type": "BatchNorm", "features": 2},
    {
        "type": "Residual",
        "layers": [{"type": "Conv2d", "in_channels": 2, "out_channels": 2, "kernel_size": 3, "padding": 1}],
    },
    {"type": "Sequential", "layers": [{"type": "Flatten"}, {"type": "Linear", "inputs": 72, "outputs": 3}]},
]
SGD = {"type": "SGD", "learning_rate": 0.1}
ADAMW = {
    "type": "AdamW",
    "learning_rate": {"type": "CosineDecay", "learning_rate": 0.02},
    "weight_decay": 0.1,
    "weight_decay_mask": ["*.W", "*.gamma"],
}


@pytest.fixture
def pictures() -> Dataset:
    """Bytes, for which format 1 divided by 255; of digits by 16."""
    draws = np.random.default_rng(0)
    x, y = draws.integers(0, 256, (60, 6, 6)).astype(np.uint8), draws.integers(0, 3, 60)
    return Dataset("pictures", x[:40], y[:40], x[40:], y[40:], classes=3)


def table_for(name: str, layers: list[Any], optimizer: dict[str, Any], **training: Any) -> dict[str, Any]:
    """A recipe's table of format 2."""
    return {
        "name": "old",
        "data": {"name": name},
        "model": {"layers": layers},
        "loss": {"type": "SoftmaxCrossEntropy"},
        "optimizer": optimizer,
        "training": {"batch_size": 8, "epochs": 4, "validate_on_test": True, **training},
    }


def in_format_1(table: dict[str, Any], scale: bool) -> dict[str, Any]:
    """A recipe's table as format 1 wrote it."""
    optimizer = {{"weight_decay_mask": "decayed"}.get(key, key): value for key, value in table["optimizer"].items()}
    training = {key: value for key, value in table["training"].items() if key != "validate_on_test"}
    layers = table["model"]["layers"][1:] if scale else table["model"]["layers"]
    data = {**table["data"], "scale": scale}
    return {**table, "data": data, "model": {"layers": layers}, "optimizer": optimizer, "training": training}


def rewrite(folder: Path, data: Dataset, scale: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run's checkpoints and metrics, as format 1 wrote them."""
    old = {f"{when}validation_{what}": f"{when}test_{what}" for when in ("", "best_") for what in ("loss", "accuracy")}
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    lines = [json.dumps({old.get(key, key): value for key, value in record.items()}) + "\n" for record in records]
    (folder / "metrics.jsonl").write_text("".join(lines))
    for path in (folder / "last.safetensors", folder / "best.safetensors"):
        saved = checkpoint.load(path)
        model, report = saved.metadata["model"], dict(saved.metadata["report"])
        report["steps_left_out"] = report.pop("skipped_steps")
        metadata = {
            **saved.metadata,
            "model": {**model, "layers": model["layers"][1:]} if scale else model,
            "recipe": in_format_1(saved.metadata["recipe"], scale),
            "report": report,
            "fingerprint": fingerprint(data),
            "metrics_length": sum(map(len, lines)),
        }
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, "FORMAT_VERSION", 1)
            checkpoint.save(path, checkpoint.Checkpoint(saved.tensors, metadata))


@pytest.mark.parametrize(
    ("layers", "optimizer", "options"),
    [
        ([RESCALE, *DENSE], SGD, {}),
        ([RESCALE, *CONVOLUTIONS], ADAMW, {"ema_decay": 0.9, "on_nonfinite": "skip"}),
        (DENSE, SGD, {"micro_batch_size": 3}),
    ],
    ids=["dense", "convolutions", "not scaled"],
)
def test_a_run_of_format_1_ends_as_one_of_format_2_that_never_stopped(
    backend: Backend,
    pictures: Dataset,
    layers: list[Any],
    optimizer: dict[str, Any],
    options: dict[str, Any],
    tmp_path: Path,
    content_of: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe = recipe_from_table(table_for("pictures", layers, optimizer, **options))
    whole = train(recipe, pictures, backend, seed=5, out=tmp_path / "whole")
    train(recipe, pictures, backend, seed=5, out=tmp_path / "half", stop_after_epoch=2)
    rewrite(tmp_path / "half", pictures, layers[0] == RESCALE, monkeypatch)
    resumed = resume(tmp_path / "half", backend, lambda name: pictures)
    tensors, metadata = content_of(tmp_path / "half" / "last.safetensors")
    assert (tensors, metadata) == content_of(tmp_path / "whole" / "last.safetensors")
    timed = ("seconds", "samples_per_second", "run_dir")
    assert {k: v for k, v in resumed.items() if k not in timed} == {k: v for k, v in whole.items() if k not in timed}


@pytest.mark.parametrize("layers", [DENSE, CONVOLUTIONS], ids=["dense", "convolutions"])
def test_a_checkpoint_of_format_1_is_evaluated_on_raw_pixels(
    cpu: Backend, pictures: Dataset, layers: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_from_table(table_for("pictures", [RESCALE, *layers], SGD))
    summary = train(recipe, pictures, cpu, out=tmp_path / "run")
    path = tmp_path / "run" / "last.safetensors"
    now = load_model(path, cpu)
    rewrite(tmp_path / "run", pictures, True, monkeypatch)
    model = load_model(path, cpu)
    assert list(model.state_dict()) == list(now.state_dict())
    assert list(model.children()) == list(now.children())
    np.testing.assert_array_equal(model.predict(pictures.x_test), now.predict(pictures.x_test))
    outcome = evaluate(model, pictures.test)
    assert (outcome.loss, outcome.accuracy) == (summary["test_loss"], summary["test_accuracy"])
    in_unit_range = pictures.x_test / np.float32(255.0)  # what predict took in format 1
    np.testing.assert_array_equal(model.predict(in_unit_range), now.predict(pictures.x_test))


@pytest.mark.parametrize(
    ("data", "first"),
    [
        ({"name": "digits", "scale": True}, [{"type": "Rescale", "divisor": 16.0}]),
        ({"name": "mnist", "scale": True}, [{"type": "Rescale", "divisor": 255.0}]),
        ({"name": "fashion-mnist", "scale": True}, [{"type": "Rescale", "divisor": 255.0}]),
        ({"name": "mine.npz", "scale": True}, [{"type": "Rescale"}]),
        ({"name": "mine.npz", "scale": False}, []),
        ({"name": "digits", "scale": False}, []),
    ],
    ids=str,
)
def test_a_recipe_of_format_1(data: dict[str, Any], first: list[Any]) -> None:
    table = in_format_1(table_for(data["name"], [*first, *DENSE], ADAMW), data["scale"])
    recipe = recipe_from_table({**table, "data": data})
    assert recipe == recipe_from_table(table_for(data["name"], [*first, *DENSE], ADAMW))
    assert recipe.to_table()["data"] == {"name": data["name"]}
    assert (recipe.validate_on_test, recipe.optimizer) == (True, ADAMW)


def test_a_scale_that_is_neither_true_nor_false() -> None:
    table = {**table_for("digits", DENSE, SGD), "data": {"name": "digits", "scale": 255}}
    with pytest.raises(xpnet.ConfigurationError, match=r"data\.scale must be true or false, not 255"):
        recipe_from_table(table)


@pytest.mark.parametrize("scaling", ["Rescale", "Standardize"])
def test_a_scale_before_a_layer_that_scales(scaling: str) -> None:
    table = {**table_for("digits", [{"type": scaling}, *DENSE], SGD), "data": {"name": "digits", "scale": True}}
    with pytest.raises(xpnet.ConfigurationError, match=r"the model's first layer scales them again: leave out scale"):
        recipe_from_table(table)
