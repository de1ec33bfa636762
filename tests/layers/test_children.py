"""Layers that a layer holds: found without a word, named by where they stand."""

from __future__ import annotations

import numpy as np
import pytest

import xpnet
from xpnet import Layer, Linear, ReLU, Sequential
from xpnet.layers.tree import walk

from .own import Branches, Scale

NAMES = ["encoder", "blocks.0", "blocks.1", "heads.left", "heads.right.0"]


def test_attributes_lists_tuples_and_dictionaries_in_the_order_of_assignment(backend) -> None:
    model = Branches().initialize(backend)
    assert list(model.children()) == NAMES
    assert [layer.path for layer in model.children().values()] == NAMES
    assert list(model.parameters) == [
        *("encoder.W", "encoder.b", "blocks.0.s", "blocks.1.W", "blocks.1.b"),
        *("heads.left.s", "heads.right.0.W", "heads.right.0.b"),
    ]


def test_a_layer_of_such_children_is_right_to_the_last_gradient(backend, numbers) -> None:
    model = Sequential(Branches(), Linear(3, 2)).initialize(backend, dtype="float64")
    checks = xpnet.check_gradients(model, numbers((4, 3)))
    assert [check.name for check in checks] == ["input", *model.parameters]
    assert max(check.error for check in checks) <= 1e-6


def test_a_moved_copy_has_children_of_its_own(backend, reference, numbers) -> None:
    model = Branches().initialize(backend, dtype="float64")
    x = numbers((4, 3))
    before = model.predict(x)
    moved = model.to(reference)
    np.testing.assert_allclose(moved.predict(x), before, rtol=1e-12)
    moved.heads["left"].parameters["s"] = np.zeros(3)
    assert not np.allclose(moved.predict(x), before)
    np.testing.assert_array_equal(model.predict(x), before)
    assert moved.blocks[0] is not model.blocks[0]


def test_what_forward_kept_is_no_child(cpu) -> None:
    class Keeps(Scale):
        def forward(self, x, context):
            y = super().forward(x, context)
            self.saved = [ReLU(), x]
            return y

    layer = Keeps().initialize(cpu)
    layer.forward(np.ones((1, 3), np.float32), xpnet.Context(cpu, training=True))
    assert layer.children() == {}


def test_a_layer_held_twice_is_refused(cpu) -> None:
    class Twice(Layer):
        def __init__(self):
            self.first = Linear(2, 2)
            self.all = [self.first]

    with pytest.raises(xpnet.ConfigurationError, match="is used twice in this model"):
        Twice().initialize(cpu)


def test_a_layer_that_holds_itself_is_refused(cpu) -> None:
    class Loop(Layer):
        pass

    loop = Loop()
    loop.inner = Sequential(Linear(2, 2))
    loop.inner.outer = {"up": loop}
    loop.me = [loop]
    with pytest.raises(xpnet.ConfigurationError, match=r"layer me\.0 \(Loop\) contains itself"):
        loop.initialize(cpu)


def test_names_that_two_share_are_refused(cpu) -> None:
    class Clash(Layer):
        def __init__(self):
            self.heads = {"a": {"b": ReLU()}, "a.b": ReLU()}

    class Same(Scale):
        def buffer_specs(self):
            return self.parameter_specs()

    with pytest.raises(xpnet.ConfigurationError, match=r"two layers of a Clash are called 'heads\.a\.b'"):
        Clash().initialize(cpu)
    with pytest.raises(xpnet.ConfigurationError, match=r"two parameters or buffers are called '0\.s'"):
        Sequential(Same()).initialize(cpu)


def test_walking_parents_first_children_first_and_not_everywhere() -> None:
    model = Sequential(Branches(), ReLU())
    below = [f"0.{name}" for name in NAMES]
    assert [name for name, _ in walk(model)] == ["", "0", *below, "1"]
    assert [name for name, _ in walk(model, children_first=True)] == [*below, "0", "1", ""]
    outside = walk(model, into=lambda layer: isinstance(layer, Sequential))
    assert [(name, type(layer)) for name, layer in outside] == [("", Sequential), ("0", Branches), ("1", ReLU)]


def test_every_layer_predicts_and_sums_up(backend, numbers) -> None:
    model = Branches().initialize(backend, dtype="float64")
    x = numbers((5, 3))
    whole = backend.to_numpy(model(backend.asarray(x)))
    np.testing.assert_allclose(model.predict(x, batch_size=2), whole, rtol=1e-12)
    assert model.predict_labels(x).tolist() == whole.argmax(axis=1).tolist()
    assert [line.split() for line in model.summary((3,)).split("\n")] == [
        ["layer", "kind", "output", "parameters", "FLOPs"],
        ["Branches", "(3,)", "42", "0"],
        ["total", "42", "0"],
    ]
