"""The layer sizes of a network, from the names and shapes of its weights."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from xpnet.book_pickle import sigmoid_network_shapes
from xpnet.errors import FileFormatError, ShapeError


def network(*sizes: int) -> dict[str, np.ndarray]:
    names = {}
    for layer, (inputs, outputs) in enumerate(pairwise(sizes), start=1):
        names[f"W{layer}"], names[f"b{layer}"] = np.zeros((inputs, outputs)), np.zeros(outputs)
    return names


@pytest.mark.parametrize("sizes", [(3, 2), (784, 50, 100, 10), tuple(range(2, 15))])
def test_layer_sizes(sizes: tuple[int, ...]) -> None:
    assert sigmoid_network_shapes(network(*sizes)) == list(sizes)
    assert sigmoid_network_shapes(dict(reversed(network(*sizes).items()))) == list(sizes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"W2": None}, "missing: b1, W2|unexpected: b2"),
        ({"b2": None}, "missing: b2; unexpected: none"),
        ({"W1": None}, "missing: W1"),
        ({"W4": np.zeros((4, 4)), "b4": np.zeros(4)}, "missing: W3, b3; unexpected: W4, b4"),
        ({"gamma": np.zeros(3)}, "missing: none; unexpected: gamma"),
        ({"W": np.zeros(3)}, "missing: W3, b3; unexpected: W"),
        ({"W01": np.zeros(3)}, "unexpected: W01"),
    ],
)
def test_names_with_gaps_are_named(change: dict[str, Any], message: str) -> None:
    weights = {name: array for name, array in {**network(4, 3, 2), **change}.items() if array is not None}
    with pytest.raises(FileFormatError, match=message):
        sigmoid_network_shapes(weights)


def test_no_weights_at_all() -> None:
    with pytest.raises(FileFormatError, match="missing: W1, b1"):
        sigmoid_network_shapes({})


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("W1", (), r"W1 has shape \(\); expected \(inputs, outputs\)"),
        ("W1", (4, 3, 1), r"W1 has shape \(4, 3, 1\)"),
        ("W2", (5, 2), r"W2 has shape \(5, 2\); expected 3 rows, as W1 has columns"),
        ("b2", (3,), r"b2 has shape \(3,\); expected \(2,\), as W2 is \(3, 2\)"),
        ("b1", (1, 3), r"b1 has shape \(1, 3\)"),
        ("b1", (), r"b1 has shape \(\)"),
    ],
)
def test_shapes_that_do_not_chain_are_named(name: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        sigmoid_network_shapes({**network(4, 3, 2), name: np.zeros(shape)})
