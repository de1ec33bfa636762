"""Comparison of correct backends: they agree, figures equal those in float64, and the arguments are not changed."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

import xpnet
from tests.parity.conftest import (
    DIGITS,
    DOUBLE,
    LOSS,
    Scale,
    Skip,
    cpu_with,
    found,
    in_layer,
    network,
    of_images,
    outcome,
)
from xpnet import SGD, Adam, Flatten, Linear, Momentum, ReduceOnPlateau, ReLU, Sequential, Sigmoid, Softmax, Tanh
from xpnet.errors import ConfigurationError
from xpnet.parity import compare, compare_recipe


def test_every_backend_agrees_with_float64(backend):
    model = network(ReLU(), Skip(Sequential(Linear(16, 16, "tanh"), Scale())), Sigmoid(), Tanh(), Softmax())
    parity = outcome(model, backend, optimizer=Momentum(0.1))
    assert parity.first_divergence is None
    assert (parity.backends, parity.steps) == (["float64", backend.name], 3)
    assert [(row.layer, row.quantity) for row in parity.rows if row.layer.startswith(("4", "data", "loss", "1 "))] == [
        ("data", "batch"),
        ("1 Linear", "forward"),
        ("1 Linear", "gradient"),
        ("4.inner.0 Linear", "forward"),
        ("4.inner.0 Linear", "input gradient"),
        ("4.inner.0 Linear", "gradient"),
        ("4.inner.1 Scale", "forward"),
        ("4.inner.1 Scale", "input gradient"),
        ("4.inner.1 Scale", "gradient"),
        ("4 Skip", "forward"),
        ("4 Skip", "input gradient"),
        ("loss", "forward"),
        ("loss", "gradient"),
        ("1 Linear", "update"),
        ("4.inner.0 Linear", "update"),
        ("4.inner.1 Scale", "update"),
    ]
    assert all(0.0 <= row.relative < 1e-6 for row in parity.rows)
    (drift,) = parity.drift
    assert 0.0 < drift.parameters < 1e-5
    assert drift.loss < 1e-5


@pytest.mark.parametrize("optimizer", [SGD(0.1), Momentum(0.1), Adam(), Adam(epsilon=1e-30)], ids=repr)
def test_any_backend_can_be_the_reference(cpu, strict, optimizer):
    plain = xpnet.backend("cpu-reference")
    parity = outcome(network(), cpu, strict, DOUBLE, reference=plain, optimizer=optimizer)
    assert parity.first_divergence is None
    assert {row.backend for row in parity.rows} == {"cpu", "strict", "float64"}


def test_in_float64_the_bounds_are_float64s(reference):
    parity = outcome(network(), dataclasses.replace(xpnet.backend("cpu"), dtype="float64"), reference=reference)
    assert parity.first_divergence is None
    assert all(row.relative < 1e-14 for row in parity.rows)
    slightly = in_layer((32, 16), lambda dW, db, dx: np.multiply(dW, 1 + 1e-12, out=dW))
    wrong = dataclasses.replace(cpu_with("linear_backward", slightly.backward), dtype="float64")
    assert found(outcome(network(), wrong, reference=reference)) == ("2 Linear", "gradient", "W")


def test_the_figures_are_those_of_the_planted_error(cpu):
    def add(x, W, b, out):
        out[3, 5] += 0.25

    parity = outcome(network(), cpu_with("linear", in_layer((64, 32), add).forward))
    row = parity.first_divergence
    assert (row.backend, row.layer, row.quantity, row.array, row.step) == ("cpu", "1 Linear", "forward", "y", 1)
    x = DIGITS.x_train[xpnet.data.Shuffled().epoch(len(DIGITS.x_train), 32, 0, 0)[:32]].reshape(32, 64) / 16
    model = network()
    W, b = (model.parameters[name].astype(np.float32).astype(float) for name in ("1.W", "1.b"))
    y = np.maximum(x @ W + b, 0.0)
    assert row.ulps == pytest.approx(0.25 / np.spacing(np.float32(y.max())), rel=1e-4)
    assert row.relative == pytest.approx(0.25 / np.linalg.norm(y), rel=1e-4)
    # 4 · (2 sqrt(64) u (|x| |W|) + u |y|), each to within the factor 1 to 2 by which its errors are drawn.
    bound = 4 * 2.0**-24 * (16 * (np.abs(x) @ np.abs(W))[3, 5] + abs(y[3, 5])) / np.spacing(np.float32(y.max()))
    assert 0.99 * bound < row.bound < 2.01 * bound


def test_sums_that_rounding_carries_across_a_kink_are_no_divergence(cpu):
    """x W + b = 0 but for rounding, in all units: on which side of a ReLU's kink it falls is chance."""
    x = np.repeat(DIGITS.x_train[:1] / np.float32(16), 64, axis=0)
    model = Sequential(Flatten(), Linear(64, 512, "relu"), Linear(512, 10)).initialize(cpu)
    W, b = model.parameters["1.W"], model.parameters["1.b"]
    b[...] = -(x[0].ravel().astype(float) @ W.astype(float))
    sides = [x[0].ravel() @ W + b > 0, x[0].ravel().astype(float) @ W + b > 0]
    assert (sides[0] != sides[1]).sum() > 50
    ground = model, LOSS, SGD(0.1), (x, np.arange(64) % 10)
    assert compare(*ground, [DOUBLE, cpu], batch_size=64, steps=1).first_divergence is None
    # Nor do they hide an error: backward, all have the same side.
    slightly = in_layer((64, 512), lambda dW, db, dx: np.multiply(dW, 1.0001, out=dW))
    wrong = compare(*ground, [DOUBLE, cpu_with("linear_backward", slightly.backward)], batch_size=64, steps=1)
    assert found(wrong) == ("1 Linear", "gradient", "W")


def test_a_run_that_overflows_alike_agrees(cpu):
    parity = outcome(network(), cpu, optimizer=SGD(1e38), reference=xpnet.backend("cpu-reference"), steps=4)
    assert parity.first_divergence is None
    assert not math.isfinite(parity.drift[0].loss)


def test_nothing_that_was_given_is_changed(cpu):
    schedule = ReduceOnPlateau(0.1, patience=1)
    for _ in range(4):
        schedule.observe(3.0)
    model, optimizer, state = network(), Adam(schedule), dict(schedule.state)
    assert state["rate"] < 0.1
    before = np.array(model.vectors.parameters.vector)
    outcome(model, cpu, optimizer=optimizer)
    np.testing.assert_array_equal(model.vectors.parameters.vector, before)
    assert optimizer.model is None
    assert dict(schedule.state) == state
    assert model.backend is DOUBLE
    model.initialize(cpu)  # and nothing of it is held by another model


def test_layers_that_draw_and_keep_statistics_agree(backend):
    parity = of_images(backend, Adam(clip_norm=0.1), steps=4)
    assert parity.first_divergence is None
    inferences = [row.layer for row in parity.rows if row.quantity == "inference"]
    assert inferences == ["2 BatchNorm", "5 Dropout"]  # of the others it is what it is in training
    assert parity.drift[0].parameters < 1e-4  # every backend drew the same


def test_batches_go_on_after_an_epoch(cpu):
    train = DIGITS.train._replace(x=DIGITS.x_train[:50], y=DIGITS.y_train[:50])
    parity = compare(network(), LOSS, SGD(), train, [DOUBLE, cpu], batch_size=32, steps=3)
    assert (parity.steps, parity.first_divergence) == (3, None)


def test_a_recipe_starts_from_its_own_weights_or_a_models(cpu):
    recipe = xpnet.load_recipe("digits")
    same, other = (compare_recipe(recipe, DIGITS, [DOUBLE, cpu], steps=1, seed=seed) for seed in (0, 1))
    model = recipe.build_model().initialize(cpu, seed=1)
    given = compare_recipe(recipe, DIGITS, [DOUBLE, cpu], steps=1, seed=0, model=model)
    forward = [next(row for row in parity.rows if row.quantity == "forward" and row.layer == "1 Linear").bound
               for parity in (same, other, given)]  # fmt: skip
    assert len(set(forward)) == 3
    assert all(parity.first_divergence is None for parity in (same, other, given))


def test_invalid_comparisons_are_refused(cpu):
    with pytest.raises(ConfigurationError, match="at least two backends of different names, not 'float64'"):
        outcome(network())
    with pytest.raises(ConfigurationError, match="not 'float64, float64'"):
        outcome(network(), DOUBLE)
    with pytest.raises(ConfigurationError, match="steps must be"):
        outcome(network(), cpu, steps=0)
    with pytest.raises(ConfigurationError, match="has ready weights and is not trained"):
        compare_recipe(xpnet.load_recipe("book-pretrained"), DIGITS, [DOUBLE, cpu])


@pytest.mark.parametrize(
    "name",
    [
        "book-two-layer",
        "book-two-layer-raw",
        "keras-sigmoid",
        "naive-dense",
        "torch-mlp",
        "digits",
        "mnist-best",
        "mnist-conv",
    ],
)
def test_the_recipes_agree(data_dir, name):
    recipe = xpnet.load_recipe(name)
    backends = [DOUBLE, xpnet.backend("cpu-reference"), xpnet.backend("cpu")]
    dataset = xpnet.data.load(recipe.data, data_dir=data_dir)
    assert compare_recipe(recipe, dataset, backends, steps=1).first_divergence is None
