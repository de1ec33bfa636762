"""xpnet.training.watching: layers by their places, and methods that are watched for a while."""

from __future__ import annotations

import pytest

from xpnet.layers import Flatten, Linear, ReLU, Sequential
from xpnet.training.watching import layers_by_place, watched


def test_layers_have_their_places_and_what_they_are_made_of_comes_first():
    inner = Sequential(ReLU(), Linear(3, 3))
    model = Sequential(Flatten(), inner, Linear(3, 2))
    assert list(layers_by_place(model)) == [
        ("0 Flatten", model.layers[0]),
        ("1.0 ReLU", inner.layers[0]),
        ("1.1 Linear", inner.layers[1]),
        ("1 Sequential", inner),
        ("2 Linear", model.layers[2]),
        ("Sequential", model),
    ]


class Adder:
    def add(self, a, b):
        return a + b


def test_a_method_is_watched_until_the_end_whatever_happens():
    seen, owner = [], Adder()

    def watcher(call, *arguments):
        seen.append(arguments)
        return 10 * call(*arguments)

    with watched([(owner, "add", watcher)]):
        assert owner.add(1, 2) == 30
    assert owner.add(1, 2) == 3
    assert seen == [(1, 2)]
    with pytest.raises(TypeError), watched([(owner, "add", watcher)]):
        owner.add(1)
    assert owner.add(1, 2) == 3
    assert not vars(owner)
