"""A small recipe to change, and the recipes that come with xpnet."""

from __future__ import annotations

from typing import Any

import pytest

from xpnet.configuration import Table

RECIPES = [
    "book-pretrained",
    "book-two-layer",
    "book-two-layer-raw",
    "digits",
    "fashion",
    "keras-sigmoid",
    "mnist-best",
    "mnist-conv",
    "naive-dense",
    "torch-mlp",
]


@pytest.fixture
def table() -> Table:
    """A small, whole recipe."""
    return {
        "name": "mine",
        "data": {"name": "digits"},
        "model": {"layers": [{"type": "Flatten"}, {"type": "Linear", "inputs": 64, "outputs": 10}]},
        "loss": {"type": "SoftmaxCrossEntropy"},
        "optimizer": {"type": "SGD", "learning_rate": 0.5},
        "training": {"batch_size": 7, "epochs": 3},
    }


def put(table: Table, path: str, value: object) -> Table:
    """``table`` with ``value`` at a dotted path; None deletes what is there."""
    *parents, last = path.split(".")
    place: Any = table
    for part in parents:
        place = place[int(part)] if isinstance(place, list) else place[part]
    if value is None:
        del place[last]
    else:
        place[int(last) if isinstance(place, list) else last] = value
    return table
