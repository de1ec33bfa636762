"""xpnet.training.watching: layers by their places, whole batches, and methods that are watched for a while."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from xpnet.data import InOrder, Shuffled
from xpnet.layers import Flatten, Linear, ReLU, Sequential
from xpnet.training.watching import full_batches, layers_by_place, watched


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


def test_batches_are_whole_and_epoch_follows_epoch(backend):
    batches = [backend.to_numpy(rows) for rows in itertools.islice(full_batches(backend, Shuffled(), 7, 3, 5), 5)]
    epochs = [Shuffled().epoch(7, 3, 5, epoch) for epoch in range(3)]
    expected = [epoch[start : start + 3] for epoch in epochs for start in (0, 3)][:5]
    np.testing.assert_array_equal(batches, expected)


def test_a_batch_larger_than_the_data_is_the_data(cpu):
    first = next(full_batches(cpu, InOrder(), 4, 100, 0))
    assert cpu.to_numpy(first).tolist() == [0, 1, 2, 3]


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
