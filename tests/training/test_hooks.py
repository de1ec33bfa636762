"""xpnet.training.hooks: layers by name, and methods that are wrapped for a while."""

from __future__ import annotations

import pytest

from xpnet.layers import Flatten, Linear, ReLU, Sequential
from xpnet.training.hooks import hooked, named_layers


def test_layers_are_named_and_children_come_first():
    inner = Sequential(ReLU(), Linear(3, 3))
    model = Sequential(Flatten(), inner, Linear(3, 2))
    assert list(named_layers(model)) == [
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


def test_a_method_is_hooked_until_the_context_ends():
    seen, owner = [], Adder()

    def hook(call, *arguments):
        seen.append(arguments)
        return 10 * call(*arguments)

    with hooked([(owner, "add", hook)]):
        assert owner.add(1, 2) == 30
    assert owner.add(1, 2) == 3
    assert seen == [(1, 2)]
    with pytest.raises(TypeError), hooked([(owner, "add", hook)]):
        owner.add(1)
    assert owner.add(1, 2) == 3
    assert not vars(owner)
