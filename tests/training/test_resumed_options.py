"""A run with every option of its steps, stopped and resumed: the same bits; more epochs, where they would be others."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

import xpnet
from xpnet import checkpoint
from xpnet.configuration import Recipe, recipe_from_table
from xpnet.errors import ConfigurationError, FileFormatError
from xpnet.training.snapshots import capture, restore

COSINE = {"type": "Warmup", "steps": 3, "learning_rate": {"type": "CosineDecay", "learning_rate": 0.05}}
PLATEAU = {"type": "ReduceOnPlateau", "learning_rate": 0.5, "factor": 0.5, "patience": 1, "threshold": 0.2}
OPTIMIZERS = {
    "AdamW, cosine, clipped": {"type": "AdamW", "learning_rate": COSINE, "clip_norm": 0.5, "weight_decay": 0.1},
    "RMSProp, one cycle, partly frozen": {
        "type": "RMSProp",
        "learning_rate": {"type": "OneCycle", "learning_rate": 0.05},
        "frozen": ["0.b"],
        "learning_rate_factors": {"1.*": 0.5, "*.b": 2.0, "*": 1.1},
    },
    "Nesterov, on plateaus, decaying": {
        "type": "Nesterov",
        "learning_rate": PLATEAU,
        "weight_decay": 0.01,
        "clip_value": 0.1,
    },
    "AdaGrad": {"type": "AdaGrad", "learning_rate": 0.1},
    "Lion, linear": {"type": "Lion", "learning_rate": {"type": "LinearDecay", "learning_rate": 0.01}},
}
WALL_CLOCK = ("training_seconds",)


def with_options(recipe: Recipe, optimizer: dict[str, Any], **training: Any) -> Recipe:
    table = deepcopy(recipe.to_table())
    table["optimizer"] = optimizer
    table["training"] |= training
    return recipe_from_table(table)


def content_of(path: Path) -> tuple[dict[str, bytes], dict[str, Any]]:
    saved = checkpoint.load(path)
    metadata = {key: value for key, value in saved.metadata.items() if key not in (*WALL_CLOCK, "metrics_length")}
    return {name: array.tobytes() for name, array in saved.tensors.items()}, metadata


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_stopped_and_resumed_equals_uninterrupted(backend, small_recipe, small_data, tmp_path, name) -> None:
    recipe = with_options(small_recipe, OPTIMIZERS[name], epochs=8, micro_batch_size=3, ema_decay=0.8)
    xpnet.train(recipe, small_data, backend, seed=3, out=tmp_path / "whole")
    xpnet.train(recipe, small_data, backend, seed=3, out=tmp_path / "parts", stop_after_epoch=3)
    xpnet.resume(tmp_path / "parts", backend, lambda name: small_data, stop_after_epoch=5)
    xpnet.resume(tmp_path / "parts", backend, lambda name: small_data)
    for file in ("last.safetensors", "best.safetensors"):
        assert content_of(tmp_path / "whole" / file) == content_of(tmp_path / "parts" / file)


def test_the_recipe_on_plateaus_meets_one(cpu, small_recipe, small_data, tmp_path) -> None:
    recipe = with_options(small_recipe, OPTIMIZERS["Nesterov, on plateaus, decaying"], epochs=8, ema_decay=0.8)
    xpnet.train(recipe, small_data, cpu, seed=3, out=tmp_path / "run")
    assert checkpoint.load(tmp_path / "run" / "last.safetensors").metadata["schedule"]["rate"] < 0.5


def test_what_is_saved_and_loaded_is_the_average(backend, small_recipe, small_data, tmp_path) -> None:
    recipe = with_options(small_recipe, OPTIMIZERS["AdaGrad"], ema_decay=0.8)
    summary = xpnet.train(recipe, small_data, backend, out=tmp_path / "run")
    names = [f"{layer}.{part}" for layer in (0, 1) for part in "Wb"]
    assert sorted(checkpoint.load(tmp_path / "run" / "last.safetensors").tensors) == sorted(
        f"{prefix}/{name}" for prefix in ("parameters", "optimizer/weights", "optimizer/squares") for name in names
    )
    model = xpnet.load_model(tmp_path / "run" / "last.safetensors", backend)
    assert xpnet.evaluate(model, small_data.test).loss == summary["test_loss"]


@pytest.mark.parametrize("name", ["AdamW, cosine, clipped", "RMSProp, one cycle, partly frozen", "Lion, linear"])
def test_more_epochs_are_refused_where_the_rates_depend_on_them(cpu, small_recipe, small_data, tmp_path, name) -> None:
    recipe = with_options(small_recipe, OPTIMIZERS[name])
    xpnet.train(recipe, small_data, cpu, out=tmp_path / "run", stop_after_epoch=2)
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    with pytest.raises(ConfigurationError, match=r"over the 16 steps .*: 24 steps take a new run"):
        xpnet.resume(tmp_path / "run", cpu, lambda name: small_data, epochs=6)
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before
    assert xpnet.resume(tmp_path / "run", cpu, lambda name: small_data, epochs=4)["steps"] == 16


@pytest.mark.parametrize("name", ["Nesterov, on plateaus, decaying", "AdaGrad"])
def test_more_epochs_go_on_where_the_rates_do_not_depend_on_them(cpu, small_recipe, small_data, tmp_path, name) -> None:
    recipe = with_options(small_recipe, OPTIMIZERS[name], epochs=6)
    xpnet.train(recipe, small_data, cpu, out=tmp_path / "whole")
    xpnet.train(recipe.with_options(epochs=4), small_data, cpu, out=tmp_path / "parts")
    xpnet.resume(tmp_path / "parts", cpu, lambda name: small_data, epochs=6)
    assert content_of(tmp_path / "whole" / "last.safetensors") == content_of(tmp_path / "parts" / "last.safetensors")


def test_a_trainer_that_goes_on_under_other_numbers(cpu, small_data) -> None:
    model = xpnet.Sequential(xpnet.Linear(4, 3)).initialize(cpu)
    trainer = xpnet.Trainer(model, xpnet.SoftmaxCrossEntropy(), xpnet.SGD(xpnet.CosineDecay(0.1)))
    trainer.fit(small_data.train, epochs=2, batch_size=8)
    with pytest.raises(ConfigurationError, match="over the 8 steps"):
        trainer.fit(small_data.train, epochs=3, batch_size=8)
    assert trainer.step == 8


@pytest.mark.parametrize(
    ("ours", "theirs", "message"),
    [
        (0.1, xpnet.CosineDecay(0.1), r"its state is {'total_steps': None}, that of ConstantRate has \[\]"),
        (
            xpnet.ReduceOnPlateau(0.1),
            0.1,
            r"its state is {}, that of ReduceOnPlateau has \['best_loss', ",
        ),
    ],
)
def test_a_checkpoint_of_another_schedule(cpu, small_data, ours, theirs, message) -> None:
    def trainer(rate: Any, **options: Any) -> xpnet.Trainer:
        model = xpnet.Sequential(xpnet.Linear(4, 3)).initialize(cpu)
        return xpnet.Trainer(model, xpnet.SoftmaxCrossEntropy(), xpnet.SGD(rate), **options)

    with pytest.raises(FileFormatError, match=message):
        restore(trainer(ours), capture(trainer(theirs), {}), "FILE")
    with pytest.raises(FileFormatError, match=r"FILE holds the tensors .*'optimizer/weights/0.W'.*; the model needs"):
        restore(trainer(ours), capture(trainer(ours, ema_decay=0.9), {}), "FILE")
