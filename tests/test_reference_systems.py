"""The published systems and our own on the official MNIST: the beginning of each, short enough to run every time.

The whole runs, over several seeds, are ``bench/reference_systems.py``.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import xpnet
from xpnet.backends import Backend
from xpnet.data import Dataset
from xpnet.registry import describe
from xpnet.training import train


@pytest.fixture(scope="module")
def mnist(data_dir: Path) -> Dataset:
    return xpnet.data.load("mnist", data_dir)


@pytest.fixture(scope="module")
def weights(data_dir: Path) -> Path:
    path = data_dir / "weights" / "sample_weight.pkl"
    if not path.is_file():
        pytest.skip("XPNET_DATA_DIR has no weights/sample_weight.pkl")
    return path


def first_epoch(name: str, mnist: Dataset, backend: Backend, folder: Path, **changes: Any) -> dict[str, Any]:
    recipe = replace(xpnet.load_recipe(name), **(changes or {"epochs": 1}))
    return train(recipe, mnist, backend, seed=0, out=folder)


@pytest.mark.parametrize("batch_size", [1000, 1])
def test_the_books_weights(weights: Path, mnist: Dataset, cpu: Backend, batch_size: int) -> None:
    model = xpnet.load_model(weights, cpu)
    assert xpnet.evaluate(model, mnist.test, batch_size=batch_size).accuracy == 0.9352


def test_the_books_weights_are_those_of_its_recipe(weights: Path, cpu: Backend) -> None:
    recipe = xpnet.load_recipe("book-pretrained")
    assert recipe.weights == weights.name
    assert describe(xpnet.load_model(weights, cpu)) == describe(recipe.build_model())


def test_raw_pixels_kill_the_books_two_layer_network(mnist: Dataset, cpu: Backend, tmp_path: Path) -> None:
    """Published at 0.1136 after 6,000 steps; it is dead long before, and the run says why."""
    summary = first_epoch("book-two-layer-raw", mnist, cpu, tmp_path, steps=200, evaluate_every=200)
    assert summary["test_accuracy"] < 0.2
    assert summary["train_loss"] == pytest.approx(math.log(10), abs=0.01)
    causes = [message.split(",")[0].split(" (")[0] for message in summary["diagnoses"]]
    assert causes[:2] == ["inputs reach 255", "all 50 hidden units of layer 1 are dead"]


def test_scaled_pixels_let_it_learn(mnist: Dataset, cpu: Backend, tmp_path: Path) -> None:
    summary = first_epoch("book-two-layer", mnist, cpu, tmp_path, steps=600)
    assert summary["test_accuracy"] > 0.88
    assert summary["diagnoses"] == []


def test_one_epoch_of_keras_sigmoid(mnist: Dataset, cpu: Backend, tmp_path: Path) -> None:
    assert first_epoch("keras-sigmoid", mnist, cpu, tmp_path)["test_accuracy"] > 0.91


def test_one_epoch_of_torch_mlp(mnist: Dataset, cpu: Backend, tmp_path: Path) -> None:
    assert first_epoch("torch-mlp", mnist, cpu, tmp_path)["test_accuracy"] > 0.95


@pytest.mark.parametrize("name", ["mnist-best", "mnist-conv"])
def test_a_hundred_steps_of_our_own_recipes(mnist: Dataset, cpu: Backend, tmp_path: Path, name: str) -> None:
    summary = first_epoch(name, mnist, cpu, tmp_path, epochs=None, steps=100)
    assert summary["test_accuracy"] > 0.9
    assert summary["diagnoses"] == []


def test_the_published_losses_of_naive_dense(mnist: Dataset, cpu: Backend, tmp_path: Path) -> None:
    """Every 100 batches of the first epoch: 5.14, 2.23, 2.19, 2.07, 2.26; the first depends on the weights drawn."""
    first_epoch("naive-dense", mnist, cpu, tmp_path)
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    losses = {record["step"] - 1: record["loss"] for record in records if record["event"] == "batch"}
    assert list(losses) == [0, 100, 200, 300, 400]
    assert 4.4 <= losses.pop(0) <= 5.6
    assert list(losses.values()) == pytest.approx([2.23, 2.19, 2.07, 2.26], abs=0.1)
