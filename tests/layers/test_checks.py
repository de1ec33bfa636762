"""What a layer of the user's own does wrong is told by its own name."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import xpnet
from xpnet import Context, LayerError, Linear, Sequential

from .own import Branches, Scale


def of(**methods):
    """A Scale with other methods, called Mine."""
    return type("Mine", (Scale,), methods)()


def one_pass(layer, backend, steps=1, rows=4):
    """A training step through a model in whose middle the layer stands."""
    model = Sequential(Linear(5, 3), layer, Linear(3, 2)).initialize(backend)
    x, dy = (backend.asarray(np.full((rows, width), 0.5), "float32") for width in (5, 2))
    context = Context(backend, training=True)
    for _ in range(steps):
        model.forward(x, context)
        model.backward(dy, context)
    return model


def halved(self, x, context):
    return Scale.forward(self, x, context)[:2, ...]


def wider(self, x, context):
    y = Scale.forward(self, x, context)
    return context.backend.xp.concat([y, y], axis=1)


def double(self, x, context):
    y = Scale.forward(self, x, context)
    return context.backend.xp.astype(y, context.backend.xp.float64)


FORWARD = {
    "nothing": (lambda self, x, context: None, "forward returned None: return the output"),
    "a list": (lambda self, x, context: [1.0], r"forward returned a builtins\.list: return the output, an array of"),
    "fewer rows": (halved, r"forward returned shape \(2, 3\) for 4 rows"),
    "another shape": (wider, r"forward returned shape \(4, 6\), but output_shape gives \(4, 3\): define output_shape"),
    "another type": (double, "forward returned .*float64 for .*float32"),
}


@pytest.mark.parametrize("case", FORWARD)
def test_an_output_that_cannot_be(backend, case) -> None:
    forward, message = FORWARD[case]
    with pytest.raises(LayerError, match=rf"^layer 1 \(Mine\): {message}"):
        one_pass(of(forward=forward), backend)


def test_an_array_of_another_library(strict) -> None:
    layer = of(forward=lambda self, x, context: np.ones((4, 3), np.float32))
    with pytest.raises(LayerError, match=r"layer 1 \(Mine\): forward returned a numpy\.ndarray: .*backend 'strict'"):
        one_pass(layer, strict)


def without_axis(self, dy, context):
    dx = Scale.backward(self, dy, context)
    return dx[:, 0]


def in_double(self, dy, context):
    return context.backend.xp.astype(Scale.backward(self, dy, context), context.backend.xp.float64)


def nothing(self, dy, context):
    Scale.backward(self, dy, context)


def unwritten(self, dy, context):
    return self.pop_saved() * dy


def accumulated(self, dy, context):
    self.gradients["s"] += context.backend.xp.sum(dy * self.pop_saved(), axis=0)
    return dy


def written_in_part(self, dy, context):
    self.gradients["s"][0] = context.backend.xp.sum(dy * self.pop_saved())
    return dy


BACKWARD = {
    "nothing": (nothing, "backward returned None: return the gradient with respect to the input"),
    "another shape": (without_axis, r"backward returned shape \(4,\), but the input has shape \(4, 3\)"),
    "another type": (in_double, "backward returned .*float64 for .*float32"),
    "no gradient": (unwritten, r"backward left s unwritten: assign self\.gradients\['s'\]"),
    "an accumulated gradient": (accumulated, "backward left s unwritten"),
    "a part of a gradient": (written_in_part, "backward left s unwritten"),
}


@pytest.mark.parametrize("case", BACKWARD)
def test_a_gradient_that_cannot_be(backend, case) -> None:
    backward, message = BACKWARD[case]
    with pytest.raises(LayerError, match=rf"^layer 1 \(Mine\): {message}"):
        one_pass(of(backward=backward), backend)


def test_a_gradient_of_another_shape(backend) -> None:
    def summed_up(self, dy, context):
        self.gradients["s"] = context.backend.xp.sum(dy * self.pop_saved())
        return dy

    with pytest.raises(
        xpnet.ShapeError, match=r"'s' of layer 1 \(Mine\) has shape \(3,\), .* a value of shape \(\)"
    ) as error:
        one_pass(of(backward=summed_up), backend)
    assert error.value.__notes__ == ["in backward of layer 1 (Mine)"]


def test_an_unknown_name(cpu) -> None:
    with pytest.raises(KeyError, match=r"layer 1 \(Mine\) has no array 'W'; it has s"):
        one_pass(of(forward=lambda self, x, context: x @ self.parameters["W"]), cpu)


def test_forward_that_kept_nothing(backend) -> None:
    layer = of(forward=lambda self, x, context: self.parameters["s"] * x)
    with pytest.raises(LayerError, match=r"^layer 1 \(Mine\): forward saved nothing for backward: .* self\.saved = x"):
        one_pass(layer, backend)


def test_backward_without_forward_is_still_told_as_that(cpu) -> None:
    model = one_pass(Scale(), cpu)
    with pytest.raises(xpnet.CallOrderError, match=r"Scale\.backward needs a forward pass"):
        model.layers[1].backward(np.ones((4, 3), np.float32), Context(cpu, training=True))


def test_an_exception_inside_says_where(cpu) -> None:
    def failing(self, x, context):
        raise ZeroDivisionError("one of mine")

    inner = Branches()
    inner.encoder = of(forward=failing)
    with pytest.raises(ZeroDivisionError, match="one of mine") as error:
        one_pass(inner, cpu)
    assert error.value.__notes__ == ["in forward of layer 1.encoder (Mine)", "in forward of layer 1 (Branches)"]


def test_a_child_whose_backward_was_forgotten(cpu) -> None:
    class Forgetful(Branches):
        def backward(self, dy, context):
            return sum(part.backward(dy, context) for part in self.parts()[1:])

    with pytest.raises(LayerError, match=r"layer 1 \(Forgetful\): backward left encoder\.W, encoder\.b unwritten"):
        one_pass(Forgetful(), cpu)


def test_a_subclass_answers_for_what_it_makes_of_its_parents_output(backend) -> None:
    class Doubled(Scale):
        def output_shape(self, input_shape):
            return (2 * input_shape[0],)

        def forward(self, x, context):
            y = super().forward(x, context)
            return context.backend.xp.concat([y, y], axis=1)

        def backward(self, dy, context):
            return super().backward(dy[:, :3] + dy[:, 3:], context)

    layer = Doubled().initialize(backend, dtype="float64")
    checks = xpnet.check_gradients(layer, np.array([[0.3, -0.7, 1.1], [0.9, 0.2, -0.4]]))
    assert max(check.error for check in checks) < 1e-6


def test_a_right_layer_is_left_alone(backend) -> None:
    layer = Scale()
    model = one_pass(layer, backend, steps=3)
    x = model.layers[0](backend.asarray(np.full((4, 5), 0.5), "float32"))
    W = backend.to_numpy(model.parameters["2.W"])
    dy = np.full((4, 2), 0.5, np.float32) @ W.T
    np.testing.assert_allclose(backend.to_numpy(layer.gradients["s"]), (dy * backend.to_numpy(x)).sum(0), rtol=1e-5)


def test_a_gradient_that_is_not_finite_is_no_missing_one(cpu) -> None:
    layer = Scale().initialize(cpu)
    context = Context(cpu, training=True)
    layer.forward(np.array([[np.nan, np.inf, 1.0]], np.float32), context)
    layer.backward(np.ones((1, 3), np.float32), context)
    assert not np.isfinite(layer.gradients["s"][:2]).any()


@pytest.mark.parametrize(
    ("name", "constructor"), [("path", lambda self, path: None), ("dtype", lambda self, dtype: None)]
)
def test_a_name_that_every_layer_has_cannot_be_an_argument(name, constructor) -> None:
    with pytest.raises(LayerError, match=f"Mine has an argument '{name}', an attribute of every layer: rename it"):
        of(__init__=constructor)


def test_xpnets_own_layers_are_not_wrapped() -> None:
    assert hasattr(Scale.forward, "__wrapped__")
    for layer in (Linear, Sequential, xpnet.BatchNorm, xpnet.Dropout):
        assert not hasattr(layer.forward, "__wrapped__")
        assert not hasattr(layer.backward, "__wrapped__")


def first_layer_gradients(layer, backend):
    """The gradients of a layer that stands first, from ``backward`` and from ``backward_parameters``."""
    model = Sequential(layer, Linear(3, 2)).initialize(backend)
    x = backend.asarray(np.arange(4) if layer.takes_integers else np.full((4, 5), 0.5, np.float32))
    gradients = []
    for method in (model.backward, model.backward_parameters):
        context = Context(backend, training=True)
        y = model.forward(x, context)
        method(context.backend.xp.ones_like(y), context)
        gradients.append(np.array(backend.to_numpy(model.gradients.vector)))
    return gradients


def twice(base, *arguments):
    """A layer of xpnet's, twice."""

    class Twice(base):
        def forward(self, x, context):
            return super().forward(x, context) * 2.0

        def backward(self, dy, context):
            return super().backward(dy * 2.0, context)

    return Twice(*arguments)


@pytest.mark.parametrize(
    ("base", "arguments"),
    [(Linear, (5, 3)), (Sequential, (Linear(5, 3),)), (xpnet.Embedding, (4, 3))],
    ids=["Linear", "Sequential", "Embedding"],
)
def test_the_backward_pass_of_a_subclass_is_used_in_the_first_layer_too(backend, base, arguments) -> None:
    """Linear, Sequential and Embedding have a shorter backward pass for a first layer, without its factor of 2."""
    whole, first = first_layer_gradients(copy.deepcopy(twice(base, *arguments)), backend)
    assert np.abs(whole).max() > 0
    np.testing.assert_array_equal(first, whole)
