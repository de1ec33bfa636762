"""xpnet.training.summary: a run with a validation part; its test figures are measured once, of its best checkpoint."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import xpnet
from xpnet import checkpoint
from xpnet.backends import Backend
from xpnet.configuration import Recipe
from xpnet.data import Dataset, split_validation
from xpnet.errors import ConfigurationError
from xpnet.training import load_model

Go = Callable[..., dict[str, Any]]


@pytest.fixture
def recipe(small_recipe: Recipe) -> Recipe:
    """24 of the 30 samples, three steps an epoch; the best evaluation is not the last."""
    return small_recipe.with_options(validation_fraction=0.2, epochs=30, learning_rate=0.5)


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_the_figures_of_a_run(backend: Backend, start: Go, recipe: Recipe, small_data: Dataset, tmp_path: Path) -> None:
    summary = start(tmp_path, backend, recipe)
    *history, tested = records(tmp_path)
    evaluations = [record for record in history if record["event"] == "evaluation"]
    assert not any("test" in key for record in history for key in record)
    assert [record["step"] for record in evaluations] == list(range(3, 91, 3))
    accuracies = [record["validation_accuracy"] for record in evaluations]
    best_step = evaluations[accuracies.index(max(accuracies))]["step"]
    assert best_step < 90
    _, validation = split_validation(small_data.train, 0.2, seed=3)
    last, best = (load_model(tmp_path / f"{name}.safetensors", backend) for name in ("last", "best"))
    for key, figure in zip(("validation_loss", "validation_accuracy"), xpnet.evaluate(last, validation), strict=False):
        assert summary[key] == evaluations[-1][key] == figure
    assert summary["best_validation_accuracy"] == max(accuracies) == xpnet.evaluate(best, validation).accuracy
    outcome = xpnet.evaluate(best, small_data.test)
    assert outcome != xpnet.evaluate(last, small_data.test)
    assert tested == {"event": "test", "step": best_step, "test_loss": outcome.loss, "test_accuracy": outcome.accuracy}
    assert (summary["test_loss"], summary["test_accuracy"]) == outcome[:2]
    assert "best_test_accuracy" not in summary
    assert summary["epochs"] == 30


def test_without_validation_the_last_weights_are_measured_once(
    backend: Backend, start: Go, go_on: Go, recipe: Recipe, small_data: Dataset, tmp_path: Path
) -> None:
    recipe = recipe.with_options(validation_fraction=0.0, epochs=5)
    summary = start(tmp_path / "whole", backend, recipe)
    assert not any("validation" in key or key.startswith("best") for key in summary)
    assert not (tmp_path / "whole" / "best.safetensors").exists()
    *history, tested = records(tmp_path / "whole")
    assert not any(part in key for record in history for key in record for part in ("test", "validation"))
    outcome = xpnet.evaluate(load_model(tmp_path / "whole" / "last.safetensors", backend), small_data.test)
    assert tested == {"event": "test", "step": 20, "test_loss": outcome.loss, "test_accuracy": outcome.accuracy}
    assert (summary["test_loss"], summary["test_accuracy"], summary["steps"]) == (*outcome[:2], 20)
    assert start(tmp_path / "parts", backend, recipe, stop_after_epoch=2)["test_loss"] is None
    go_on(tmp_path / "parts", backend)
    last = [checkpoint.load(tmp_path / run / "last.safetensors").tensors for run in ("whole", "parts")]
    assert all(last[0][name].tobytes() == last[1][name].tobytes() for name in last[0])
    assert records(tmp_path / "parts")[-1] == tested


def test_the_weights_are_those_of_a_run_that_validates_on_the_test_set(
    cpu: Backend, start: Go, recipe: Recipe, tmp_path: Path
) -> None:
    """Evaluating changes no bit, so a run without validation trains the published systems' networks."""
    for name, option in {"none": {"validation_fraction": 0.0}, "test": {"validate_on_test": True}}.items():
        start(tmp_path / name, cpu, recipe.with_options(epochs=3, **option))
    last = [checkpoint.load(tmp_path / run / "last.safetensors").tensors for run in ("none", "test")]
    assert all(last[0][name].tobytes() == last[1][name].tobytes() for name in last[0])


def test_the_test_set_changes_nothing_but_its_own_figures(
    cpu: Backend, recipe: Recipe, small_data: Dataset, tmp_path: Path, content_of: Any, history_of: Any
) -> None:
    """The same run with other test data: the same bits, but for what the last line says."""
    other = replace(small_data, x_test=1.0 - small_data.x_test)
    for name, data in (("one", small_data), ("other", other)):
        xpnet.train(recipe, data, cpu, seed=3, out=tmp_path / name)
    one, another = (history_of(tmp_path / name) for name in ("one", "other"))
    assert one[:-1] == another[:-1]
    assert one[-1] != another[-1]
    for name in ("last", "best"):
        first, second = (content_of(tmp_path / where / f"{name}.safetensors") for where in ("one", "other"))
        assert first[0] == second[0]
        assert first[1].pop("fingerprint") != second[1].pop("fingerprint")
        assert first[1] == second[1]


def test_it_is_measured_when_the_run_is_complete(
    backend: Backend, start: Go, go_on: Go, recipe: Recipe, tmp_path: Path, assert_same_run: Any
) -> None:
    whole = start(tmp_path / "whole", backend, recipe)
    stopped = start(tmp_path / "parts", backend, recipe, stop_after_epoch=7)
    assert stopped["validation_accuracy"] > 0.0
    assert [stopped[key] for key in ("test_loss", "test_accuracy")] == [None] * 2
    assert records(tmp_path / "parts")[-1]["event"] == "evaluation"
    resumed = go_on(tmp_path / "parts", backend)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    clock = ("seconds", "samples_per_second", "run_dir")
    assert {k: v for k, v in resumed.items() if k not in clock} == {k: v for k, v in whole.items() if k not in clock}


@pytest.mark.parametrize("half_a_line", [b"", b'{"event": "test", "st'])
def test_a_process_that_ended_right_before_it_is_made_good(
    cpu: Backend, start: Go, go_on: Go, recipe: Recipe, tmp_path: Path, assert_same_run: Any, half_a_line: bytes
) -> None:
    """Killed after the last checkpoint of a complete run: the one look at the test set is what is missing."""
    whole = start(tmp_path / "whole", cpu, recipe)
    start(tmp_path / "run", cpu, recipe)
    metrics = tmp_path / "run" / "metrics.jsonl"
    *history, _ = metrics.read_bytes().splitlines(keepends=True)
    metrics.write_bytes(b"".join(history) + half_a_line)
    assert go_on(tmp_path / "run", cpu)["test_accuracy"] == whole["test_accuracy"]
    assert_same_run(tmp_path / "whole", tmp_path / "run")
    with pytest.raises(ConfigurationError, match="is complete"):
        go_on(tmp_path / "run", cpu)


def test_a_run_that_is_trained_on_is_tested_anew(
    cpu: Backend, start: Go, go_on: Go, recipe: Recipe, tmp_path: Path, history_of: Any
) -> None:
    start(tmp_path / "whole", cpu, recipe)
    start(tmp_path / "parts", cpu, recipe.with_options(epochs=2))
    go_on(tmp_path / "parts", cpu, epochs=30)
    assert history_of(tmp_path / "whole") == history_of(tmp_path / "parts")
    assert [record["event"] for record in records(tmp_path / "parts")].count("test") == 1


def test_a_refused_resume_keeps_every_file(cpu: Backend, start: Go, go_on: Go, recipe: Recipe, tmp_path: Path) -> None:
    start(tmp_path, cpu, recipe)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert before["metrics.jsonl"].splitlines()[-1].startswith(b'{"event": "test"')
    with pytest.raises(ConfigurationError, match=r"is complete \(30 epochs, 90 steps\)"):
        go_on(tmp_path, cpu)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_recipe_in_the_checkpoint_has_the_fraction(cpu: Backend, start: Go, recipe: Recipe, tmp_path: Path) -> None:
    start(tmp_path, cpu, recipe, stop_after_epoch=1)
    training = checkpoint.load(tmp_path / "last.safetensors").metadata["recipe"]["training"]
    assert training["validation_fraction"] == 0.2


def test_a_fraction_that_leaves_a_part_empty_leaves_no_folder(
    cpu: Backend, start: Go, recipe: Recipe, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=r"sets 30 of 30 samples aside"):
        start(tmp_path / "run", cpu, recipe.with_options(validation_fraction=0.99))
    assert not (tmp_path / "run").exists()
