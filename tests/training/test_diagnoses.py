"""xpnet.training.diagnoses: each fires on its trouble, and keeps quiet in a healthy run."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import numpy as np
import pytest

import xpnet
from xpnet import Constant, Samples
from xpnet.backends import Backend
from xpnet.data import Batches, Dataset
from xpnet.layers import Flatten, Layer, Linear, Sequential
from xpnet.layers.preprocessing import fit_preprocessing
from xpnet.training import Trainer, batches_for
from xpnet.training.diagnoses import dead_units, inputs_out_of_range, loss_at_chance


def on_device(backend: Backend, x: np.ndarray, *scaling: Layer) -> tuple[Sequential, Batches]:
    """The samples, and a model of one output for them."""
    model = Sequential(*scaling, Flatten(), Linear(math.prod(x.shape[1:]), 1)).initialize(backend)
    fit_preprocessing(model, x)
    return model, batches_for(model, Samples(x, np.zeros(len(x), int)), xpnet.SoftmaxCrossEntropy())


@pytest.mark.parametrize(
    ("x", "scaling", "reach"),
    [
        (np.array([[0, 255]], np.uint8), [], "255"),
        (np.array([[0.5, -300.0]]), [], "300"),
        (np.array([[0.5, 10.5]]), [], "10.5"),
        (np.array([[0, 16]], np.uint8), [xpnet.Rescale(0.5)], "32"),
        (np.array([[0.0, np.inf]]), [], "inf"),
        (np.array([[0.0, np.nan]]), [], "nan"),
    ],
)
def test_inputs_far_outside(backend: Backend, x: np.ndarray, scaling: list[Layer], reach: str) -> None:
    message = inputs_out_of_range(*on_device(backend, x, *scaling))
    assert message is not None
    assert message.startswith(
        f"inputs reach {reach}, far outside [0, 1]: begin the model with a layer that scales them"
    )


@pytest.mark.parametrize(
    ("x", "make"),
    [
        (np.array([[0, 255]], np.uint8), xpnet.Rescale),
        (np.array([[0.0, 3e5], [2.0, -4e5]]), lambda: xpnet.Standardize(2)),
        (np.array([[-4.0, 4.5]]), xpnet.Rescale),  # standardised before
        (np.array([[10.0]]), xpnet.Rescale),
        (np.zeros((5000, 2)), xpnet.Rescale),
    ],
)
def test_inputs_that_are_fine(backend: Backend, x: np.ndarray, make: Callable[[], Layer]) -> None:
    assert inputs_out_of_range(*on_device(backend, x, make())) is None


def test_indices_are_in_no_range(backend: Backend) -> None:
    model = Sequential(xpnet.Embedding(300, 2), Flatten(), Linear(2, 1)).initialize(backend)
    assert (
        inputs_out_of_range(batches_for(model, (np.array([[299]]), np.zeros(1, int)), xpnet.SoftmaxCrossEntropy()))
        is None
    )


def network(backend: Backend, *hidden: Layer) -> Sequential:
    return Sequential(*copy.deepcopy(hidden), Linear(4, 1)).initialize(backend)


ALL_OFF = {"weights": Constant(0.0), "biases": Constant(-1.0)}


def test_past_a_residual_the_sum_goes_on(backend: Backend) -> None:
    """Its ReLUs may all be off: the shortcut passes the gradient, and the next layer gets its input."""
    block = xpnet.Residual(Linear(4, 4, "relu", **ALL_OFF))
    after = Linear(4, 4, "relu", weights=Constant(1.0), biases=Constant(0.0))
    x = np.full((5, 4), 0.5)
    assert dead_units(network(backend, block, after), on_device(backend, x)) is None


LAYERS = {
    "relu": Linear(2, 4, "relu", **ALL_OFF),
    "tanh": Linear(2, 4, "tanh", **ALL_OFF),
    "none": Linear(2, 4, **ALL_OFF),
}


@pytest.mark.parametrize(
    ("hidden", "name"),
    [
        ((LAYERS["relu"],), "0"),
        ((LAYERS["none"], xpnet.ReLU()), "1"),
        ((xpnet.Flatten(), Linear(2, 2, "relu", biases=Constant(1.0)), LAYERS["relu"]), "2"),
    ],
)
def test_dead_units(backend: Backend, hidden: tuple[Layer, ...], name: str) -> None:
    message = dead_units(network(backend, *hidden), on_device(backend, np.ones((3, 2)))[1])
    assert message is not None
    assert message.startswith(f"all 4 hidden units of layer {name} are dead")


def test_dead_channels(backend: Backend) -> None:
    layers = xpnet.Conv2d(1, 3, 2, activation="relu", **ALL_OFF), Flatten(), Linear(24, 1)
    model = Sequential(*layers).initialize(backend)
    samples = Samples(np.ones((2, 1, 3, 5)), np.zeros(2, int))
    message = dead_units(model, batches_for(model, samples, xpnet.SoftmaxCrossEntropy()))
    assert message is not None
    assert message.startswith("all 3 hidden units of layer 0 are dead")


@pytest.mark.parametrize("hidden", [(LAYERS["tanh"],), (LAYERS["none"],), (LAYERS["none"], xpnet.Sigmoid())])
def test_only_a_relu_dies(backend: Backend, hidden: tuple[Layer, ...]) -> None:
    assert dead_units(network(backend, *hidden), on_device(backend, np.ones((3, 2)))[1]) is None


def test_a_dead_layer_in_a_nested_sequential_has_its_full_name(backend: Backend) -> None:
    alive = Linear(2, 2, "relu", biases=Constant(1.0))
    dead = Sequential(Linear(2, 3, "tanh"), Sequential(Linear(3, 4, "relu", **ALL_OFF)))
    message = dead_units(network(backend, alive, dead), on_device(backend, np.ones((3, 2)))[1])
    assert message is not None
    assert message.startswith("all 4 hidden units of layer 1.1.0 are dead")


def test_one_unit_alive_for_one_sample_is_enough(backend: Backend) -> None:
    model = network(backend, Linear(2, 4, "relu", **ALL_OFF))
    model.parameters["0.W"][0, 3] = 2.0
    x = np.zeros((5, 2))
    assert dead_units(model, on_device(backend, x)) is not None
    x[4, 0] = 1.0
    assert dead_units(model, on_device(backend, x)) is None


@pytest.mark.parametrize(
    ("loss", "accuracy", "classes", "fires"),
    [
        (math.log(10), 0.11, 10, True),
        (2.30, 0.11, 10, True),
        (2.32, 0.10, 10, True),
        (2.25, 0.11, 10, False),  # it has begun to learn
        (2.36, 0.11, 10, False),  # worse than guessing: another trouble
        (2.30, 0.40, 10, False),  # the loss is slow, the answers are not
        (math.log(2), 0.5, 2, True),
        (math.nan, 0.1, 10, False),
    ],
)
def test_a_loss_at_chance(loss: float, accuracy: float, classes: int, fires: bool) -> None:
    message = loss_at_chance(loss, accuracy, classes)
    assert (message is not None) == fires
    if message is not None:
        assert message.startswith(f"the loss stays at ln {classes} = {math.log(classes):.3f}, the value for guessing")


WEAK = {"weights": xpnet.Normal(0.05), "biases": Constant(0.0)}  # its loss starts at ln 10


def diagnoses_of(
    backend: Backend, samples: Samples, learning_rate: float, evaluate_every: int | None = None
) -> list[tuple[str, int]]:
    model = Sequential(xpnet.Flatten(), Linear(64, 20, "relu", **WEAK), Linear(20, 10, **WEAK)).initialize(backend)
    run = Trainer(model, xpnet.SoftmaxCrossEntropy(), xpnet.SGD(learning_rate))
    history = run.fit(samples, epochs=3, batch_size=50, evaluate_every=evaluate_every)
    return [(record["kind"], record["epoch"]) for record in history if record["event"] == "diagnosis"]


def test_each_trouble_of_a_run_is_told_once(backend: Backend, digits: Dataset) -> None:
    raw = Samples(digits.x_train * np.uint8(15), digits.y_train)
    found = diagnoses_of(backend, raw, learning_rate=1.0)
    assert sorted(kind for kind, _ in found) == ["dead units", "inputs out of range", "loss at chance"]
    assert found[0] == ("inputs out of range", 1)


@pytest.mark.parametrize("evaluate_every", [None, 5])
def test_a_healthy_run_has_no_diagnosis(backend: Backend, digits: Dataset, evaluate_every: int | None) -> None:
    """Many a run starts at chance; only one that is still there after an epoch is in trouble."""
    assert diagnoses_of(backend, digits.train, 0.5, evaluate_every) == []


@pytest.mark.parametrize(("epochs", "found"), [(1, []), (19, []), (20, [("loss at chance", 20)])])
def test_a_few_steps_are_too_few_to_be_stuck_at_chance(
    cpu: Backend, digits: Dataset, epochs: int, found: list[tuple[str, int]]
) -> None:
    """With the whole set in a batch an epoch is one step."""
    model = Sequential(xpnet.Flatten(), Linear(64, 20, "relu", **WEAK), Linear(20, 10, **WEAK)).initialize(cpu)
    history = Trainer(model, xpnet.SoftmaxCrossEntropy(), xpnet.SGD(0.0)).fit(
        digits.train, epochs=epochs, batch_size=len(digits.x_train)
    )
    assert [(record["kind"], record["epoch"]) for record in history if record["event"] == "diagnosis"] == found
