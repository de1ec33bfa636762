"""xpnet.gradient_check: right layers pass, and bugs planted in a user's layer are found and located."""

from __future__ import annotations

import math

import numpy as np
import pytest

import xpnet
from xpnet import Constant, Linear, ReLU, Sequential, check_gradients
from xpnet.layers import Layer, ParameterSpec

X = np.array([[0.3, -0.7, 1.1], [0.9, 0.2, -0.4]])


class Stretch(Layer):
    """y = gain · x² + shift, right as it stands."""

    def parameter_specs(self):
        return {"gain": ParameterSpec((3,), Constant(0.8)), "shift": ParameterSpec((3,), Constant(0.1))}

    def forward(self, x, context):
        if context.training:
            self.saved = x
        return self.parameters["gain"] * x * x + self.parameters["shift"]

    def backward(self, dy, context):
        x = self.pop_saved()
        self.write_gradients(x, dy, context.backend.xp)
        return 2 * dy * self.parameters["gain"] * x

    def write_gradients(self, x, dy, xp):
        self.gradients["gain"][...] = xp.sum(dy * x * x, axis=0)
        self.gradients["shift"][...] = xp.sum(dy, axis=0)


class ForgottenFactor(Stretch):
    def backward(self, dy, context):
        return super().backward(dy, context) / 2


class MeanForSum(Stretch):
    def write_gradients(self, x, dy, xp):
        super().write_gradients(x, dy, xp)
        self.gradients["shift"][...] = xp.mean(dy, axis=0)


class NeverWritten(Stretch):
    def write_gradients(self, x, dy, xp):
        super().write_gradients(x, dy, xp)
        self.gradients["gain"][...] = 0.0


class OneWrongElement(Stretch):
    def write_gradients(self, x, dy, xp):
        super().write_gradients(x, dy, xp)
        self.gradients["gain"][1] = self.gradients["gain"][1] * (1 + 1e-4)


class NotANumber(Stretch):
    def write_gradients(self, x, dy, xp):
        super().write_gradients(x, dy, xp)
        self.gradients["shift"][2] = math.nan


def errors(layer, backend, x=X, **options) -> dict[str, float]:
    layer.initialize(backend, dtype="float64")
    return {check.name: check.error for check in check_gradients(layer, x, **options)}


def test_a_right_layer_passes(backend) -> None:
    found = errors(Stretch(), backend)
    assert list(found) == ["input", "gain", "shift"]
    assert max(found.values()) < 1e-6


@pytest.mark.parametrize(
    ("layer", "where"),
    [
        (ForgottenFactor, "input"),
        (MeanForSum, "shift"),
        (NeverWritten, "gain"),
        (OneWrongElement, "gain"),
    ],
)
def test_a_planted_bug_is_found_where_it_is(backend, layer, where) -> None:
    found = errors(layer(), backend)
    assert found.pop(where) > 5e-5
    assert max(found.values()) < 1e-6


def test_the_outcome_names_the_place_and_both_values(backend) -> None:
    layer = OneWrongElement().initialize(backend, dtype="float64")
    worst = {check.name: check for check in check_gradients(layer, X)}["gain"]
    assert worst.place == (1,)
    assert worst.error == pytest.approx(1e-4, rel=1e-3)
    assert worst.analytic / worst.numeric == pytest.approx(1 + 1e-4, rel=1e-6)


def test_nan_is_a_failure(backend) -> None:
    layer = NotANumber().initialize(backend, dtype="float64")
    worst = {check.name: check for check in check_gradients(layer, X)}["shift"]
    assert not worst.error <= 1e-6
    assert worst.place == (2,)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_nan_is_a_failure_wherever_it_stands(backend, place) -> None:
    class NanAndWrong(Stretch):
        def write_gradients(self, x, dy, xp):
            super().write_gradients(x, dy, xp)
            self.gradients["gain"][...] = -100.0
            self.gradients["gain"][place] = math.nan

    layer = NanAndWrong().initialize(backend, dtype="float64")
    worst = {check.name: check for check in check_gradients(layer, X)}["gain"]
    assert math.isnan(worst.error)
    assert worst.place == (place,)


def test_a_part_of_a_model_can_be_checked_by_itself(backend) -> None:
    model = Sequential(Linear(3, 3, "tanh"), ForgottenFactor()).initialize(backend, dtype="float64")
    right, wrong = ({check.name: check.error for check in check_gradients(part, X)} for part in model.layers)
    assert list(right) == ["input", "W", "b"]
    assert max(right.values()) < 1e-6
    assert wrong["input"] > 0.1


def test_a_bug_inside_a_model_is_found_under_its_full_name(backend) -> None:
    found = errors(Sequential(Linear(3, 3, "tanh"), MeanForSum(), Linear(3, 2)), backend)
    wrong = [name for name, error in found.items() if not error < 1e-6]
    assert wrong == ["1.shift"]


def test_relus_kink_at_zero_is_no_derivative(cpu) -> None:
    assert errors(ReLU(), cpu)["input"] < 1e-6
    assert errors(ReLU(), cpu, np.zeros((1, 3)))["input"] > 0.1  # which is why x must keep away from it


def test_samples_bounds_the_work(cpu) -> None:
    calls = 0

    class Counted(Linear):
        def forward(self, x, context):
            nonlocal calls
            calls += 1
            return super().forward(x, context)

    layer = Counted(20, 30).initialize(cpu, dtype="float64")
    check_gradients(layer, np.ones((4, 20)), samples=5)
    assert calls <= 2 + 2 * 5 * 3


def test_the_model_and_the_input_are_left_as_they_were(backend) -> None:
    layer = Linear(3, 4, "tanh").initialize(backend, dtype="float64")
    before = np.array(backend.to_numpy(layer.vectors.parameters.vector))
    x = backend.asarray(X.copy())
    check_gradients(layer, x)
    assert backend.to_numpy(layer.vectors.parameters.vector).tobytes() == before.tobytes()
    np.testing.assert_array_equal(backend.to_numpy(x), X)
    with pytest.raises(xpnet.CallOrderError):
        layer.backward(x, xpnet.Context(backend, training=True))


def test_float32_is_refused(backend) -> None:
    layer = Linear(3, 2).initialize(backend, dtype="float32")
    with pytest.raises(xpnet.DTypeError, match=r"needs a model in float64, not float32: initialize"):
        check_gradients(layer, X)
