"""xpnet.configuration: names and tables to classes, and back; every mistake named with what would be right."""

from __future__ import annotations

import os
import sys
import tomllib
import tracemalloc
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import tomli_w

import xpnet
from xpnet import configuration
from xpnet.configuration import (
    Table,
    build,
    build_all,
    describe,
    load_recipe,
    recipe_from_table,
    recipe_names,
)
from xpnet.errors import ConfigurationError, MissingFileError

FAN_IN = {"type": "FanInUniform"}
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

# Each class with arguments other than its defaults, and the table that describes it.
DESCRIBED: list[tuple[str, Any, Table]] = [
    (
        "layer",
        xpnet.BatchNorm(4, momentum=0.25, epsilon=0.5),
        {"type": "BatchNorm", "features": 4, "momentum": 0.25, "epsilon": 0.5},
    ),
    ("layer", xpnet.Dropout(0.25), {"type": "Dropout", "rate": 0.25}),
    (
        "layer",
        xpnet.Embedding(9, 4, weights=xpnet.Constant(0.5)),
        {"type": "Embedding", "vocabulary": 9, "features": 4, "weights": {"type": "Constant", "value": 0.5}},
    ),
    ("layer", xpnet.Flatten(), {"type": "Flatten"}),
    ("layer", xpnet.GELU(), {"type": "GELU"}),
    ("layer", xpnet.LayerNorm(4, epsilon=0.5), {"type": "LayerNorm", "features": 4, "epsilon": 0.5}),
    ("layer", xpnet.LeakyReLU(0.25), {"type": "LeakyReLU", "negative_slope": 0.25}),
    ("layer", xpnet.ReLU(), {"type": "ReLU"}),
    (
        "layer",
        xpnet.Residual(xpnet.Flatten(), xpnet.ReLU()),
        {"type": "Residual", "layers": [{"type": "Flatten"}, {"type": "ReLU"}]},
    ),
    ("layer", xpnet.AvgPool2d(3, 1), {"type": "AvgPool2d", "kernel_size": 3, "stride": 1}),
    (
        "layer",
        xpnet.Conv2d(1, 8, 5, 2, 3, "relu", weights=xpnet.Normal(0.5), biases=xpnet.Constant(1.5)),
        {
            "type": "Conv2d",
            "in_channels": 1,
            "out_channels": 8,
            "kernel_size": 5,
            "stride": 2,
            "padding": 3,
            "activation": "relu",
            "weights": {"type": "Normal", "std": 0.5, "mean": 0.0},
            "biases": {"type": "Constant", "value": 1.5},
        },
    ),
    ("layer", xpnet.MaxPool2d(2), {"type": "MaxPool2d", "kernel_size": 2, "stride": 2}),
    ("layer", xpnet.Reshape((1, 28, 28)), {"type": "Reshape", "shape": [1, 28, 28]}),
    ("layer", xpnet.Sigmoid(), {"type": "Sigmoid"}),
    ("layer", xpnet.Softmax(), {"type": "Softmax"}),
    ("layer", xpnet.Softplus(), {"type": "Softplus"}),
    ("layer", xpnet.Tanh(), {"type": "Tanh"}),
    (
        "layer",
        xpnet.Linear(4, 3, "relu", weights=xpnet.Normal(0.5), biases=xpnet.Constant(1.5)),
        {
            "type": "Linear",
            "inputs": 4,
            "outputs": 3,
            "activation": "relu",
            "weights": {"type": "Normal", "std": 0.5, "mean": 0.0},
            "biases": {"type": "Constant", "value": 1.5},
        },
    ),
    (
        "layer",
        xpnet.Sequential(xpnet.Flatten(), xpnet.Sequential(xpnet.Linear(2, 3))),
        {
            "type": "Sequential",
            "layers": [
                {"type": "Flatten"},
                {
                    "type": "Sequential",
                    "layers": [{"type": "Linear", "inputs": 2, "outputs": 3, "weights": FAN_IN, "biases": FAN_IN}],
                },
            ],
        },
    ),
    ("initializer", xpnet.Constant(0.25), {"type": "Constant", "value": 0.25}),
    ("initializer", xpnet.FanInUniform(), FAN_IN),
    ("initializer", xpnet.GlorotNormal(), {"type": "GlorotNormal"}),
    ("initializer", xpnet.GlorotUniform(), {"type": "GlorotUniform"}),
    ("initializer", xpnet.HeNormal(), {"type": "HeNormal"}),
    ("initializer", xpnet.HeUniform(), {"type": "HeUniform"}),
    ("initializer", xpnet.Normal(0.5, mean=2.0), {"type": "Normal", "std": 0.5, "mean": 2.0}),
    ("initializer", xpnet.Uniform(-3.0, 4.0), {"type": "Uniform", "low": -3.0, "high": 4.0}),
    ("loss", xpnet.BinaryCrossEntropy("sum"), {"type": "BinaryCrossEntropy", "reduction": "sum"}),
    ("loss", xpnet.MeanSquaredError("none"), {"type": "MeanSquaredError", "reduction": "none"}),
    (
        "loss",
        xpnet.SoftmaxCrossEntropy(label_smoothing=0.25, class_weights=(1, 0.5), ignore_index=-7, reduction="sum"),
        {
            "type": "SoftmaxCrossEntropy",
            "label_smoothing": 0.25,
            "class_weights": [1.0, 0.5],
            "ignore_index": -7,
            "reduction": "sum",
        },
    ),
    ("optimizer", xpnet.SGD(0.5), {"type": "SGD", "learning_rate": 0.5}),
    ("optimizer", xpnet.Momentum(0.5, 0.25), {"type": "Momentum", "learning_rate": 0.5, "momentum": 0.25}),
    (
        "optimizer",
        xpnet.Adam(0.5, 0.25, 0.125, 1e-7),
        {"type": "Adam", "learning_rate": 0.5, "beta1": 0.25, "beta2": 0.125, "epsilon": 1e-7},
    ),
    (
        "optimizer",
        xpnet.Nesterov(0.5, 0.25, frozen="0.*", learning_rate_factors={"*.b": 2}),
        {
            "type": "Nesterov",
            "learning_rate": 0.5,
            "momentum": 0.25,
            "frozen": ["0.*"],
            "learning_rate_factors": {"*.b": 2.0},
        },
    ),
    (
        "optimizer",
        xpnet.AdaGrad(0.5, 1e-7, weight_decay=0.25, decayed=["*.W", "0.b"]),
        {
            "type": "AdaGrad",
            "learning_rate": 0.5,
            "epsilon": 1e-7,
            "weight_decay": 0.25,
            "decayed": ["*.W", "0.b"],
        },
    ),
    (
        "optimizer",
        xpnet.RMSProp(0.5, 0.25, 1e-7, clip_value=0.5),
        {"type": "RMSProp", "learning_rate": 0.5, "alpha": 0.25, "epsilon": 1e-7, "clip_value": 0.5},
    ),
    (
        "optimizer",
        xpnet.AdamW(xpnet.Warmup(xpnet.CosineDecay(0.5), 7), weight_decay=0.0, clip_norm=1),
        {
            "type": "AdamW",
            "learning_rate": {
                "type": "Warmup",
                "learning_rate": {"type": "CosineDecay", "learning_rate": 0.5, "final": 0.0},
                "steps": 7,
                "start": 1 / 3,
            },
            "beta1": 0.9,
            "beta2": 0.999,
            "epsilon": 1e-8,
            "weight_decay": 0.0,
            "clip_norm": 1.0,
        },
    ),
    (
        "optimizer",
        xpnet.Lion(0.5, 0.25, 0.125),
        {"type": "Lion", "learning_rate": 0.5, "beta1": 0.25, "beta2": 0.125},
    ),
    ("schedule", xpnet.ConstantRate(0.5), {"type": "ConstantRate", "learning_rate": 0.5}),
    (
        "schedule",
        xpnet.StepDecay(0.5, 3, 0.25),
        {"type": "StepDecay", "learning_rate": 0.5, "every": 3, "factor": 0.25},
    ),
    (
        "schedule",
        xpnet.ExponentialDecay(0.5, 0.25, 3),
        {"type": "ExponentialDecay", "learning_rate": 0.5, "factor": 0.25, "every": 3},
    ),
    (
        "schedule",
        xpnet.LinearDecay(0.5, 0.25, 3),
        {"type": "LinearDecay", "learning_rate": 0.5, "final": 0.25, "steps": 3},
    ),
    ("schedule", xpnet.CosineDecay(0.5), {"type": "CosineDecay", "learning_rate": 0.5, "final": 0.0}),
    (
        "schedule",
        xpnet.OneCycle(0.5, 0.25, 2.0, 3.0, 100),
        {
            "type": "OneCycle",
            "learning_rate": 0.5,
            "rise": 0.25,
            "divisor": 2.0,
            "final_divisor": 3.0,
            "steps": 100,
        },
    ),
    (
        "schedule",
        xpnet.ReduceOnPlateau(0.5, 0.25, 3, 0.125, 0.0625),
        {
            "type": "ReduceOnPlateau",
            "learning_rate": 0.5,
            "factor": 0.25,
            "patience": 3,
            "threshold": 0.125,
            "minimum": 0.0625,
        },
    ),
    ("schedule", xpnet.Warmup(0.5, 3, 0.25), {"type": "Warmup", "learning_rate": 0.5, "steps": 3, "start": 0.25}),
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


@pytest.mark.parametrize(("kind", "thing", "table"), DESCRIBED, ids=lambda value: getattr(value, "type", None))
def test_a_thing_is_described_by_its_table_and_built_from_it(kind: str, thing: Any, table: Table) -> None:
    assert describe(thing) == table
    built = build(kind, tomllib.loads(tomli_w.dumps(table)))
    assert type(built) is type(thing)
    assert describe(built) == table


def test_a_convolution_pads_by_a_number_or_a_word() -> None:
    table = describe(xpnet.Conv2d(1, 8, 5, padding="same"))
    assert (table["padding"], "activation" in table) == ("same", False)
    assert describe(build("layer", tomllib.loads(tomli_w.dumps(table)))) == table


def test_every_class_that_a_file_can_name_is_described_above() -> None:
    named = {(kind, cls) for kind, classes in configuration._CLASSES.items() for cls in classes.values()}
    assert named == {(kind, type(thing)) for kind, thing, _ in DESCRIBED}


def test_a_described_model_is_rebuilt_with_the_same_initial_weights() -> None:
    backend = xpnet.backend("cpu-reference")
    model = xpnet.Sequential(xpnet.Linear(3, 4, "tanh", weights=xpnet.Uniform(2.0, 3.0)), xpnet.Linear(4, 2))
    model.initialize(backend, seed=5)
    copy = build("layer", describe(model)).initialize(backend, seed=5)
    assert copy.parameters.vector.tolist() == model.parameters.vector.tolist()


def test_a_class_of_the_users_own_has_no_name_in_files() -> None:
    class Linear(xpnet.Linear):
        pass

    with pytest.raises(ConfigurationError, match="Linear is not one of xpnet's own classes"):
        describe(xpnet.Sequential(Linear(2, 3)))


@pytest.mark.parametrize(
    ("kind", "table", "message"),
    [
        (
            "optimizer",
            "SGD",
            "expected a table with a 'type' (one of SGD, AdaGrad, Adam, AdamW, Lion, Momentum, Nesterov, RMSProp) "
            "for the optimizer, got 'SGD'",
        ),
        ("optimizer", {"learning_rate": 0.1}, "expected a table with a 'type' (one of SGD, AdaGrad, Adam, AdamW, "),
        ("optimizer", {"type": "Sgd"}, "unknown optimizer type 'Sgd'; the choices are SGD, AdaGrad, Adam, "),
        ("optimizer", {"type": ["SGD"]}, "unknown optimizer type ['SGD']"),
        ("optimizer", {"type": "SGD", "lr": 0.1}, "unknown key of SGD 'lr'; the choices are learning_rate"),
        (
            "optimizer",
            {"type": "SGD", "learning_rate": "0.1"},
            "learning_rate must be a number of at least 0.0, not '0.1'",
        ),
        ("optimizer", {"type": "Adam", "beta1": 1.0}, "beta1 must be a number of at least 0.0 and below 1.0, not 1.0"),
        (
            "loss",
            {"type": "MSE"},
            "unknown loss type 'MSE'; the choices are BinaryCrossEntropy, MeanSquaredError, Soft",
        ),
        ("layer", {"type": "ReLU", "x": 1}, "unknown key 'x' of ReLU, which takes none"),
        (
            "loss",
            {"type": "MeanSquaredError", "x": 1},
            "unknown key of MeanSquaredError 'x'; the choices are reduction",
        ),
        ("layer", {"type": "Residual"}, "Residual lacks the key 'layers'"),
        ("layer", {"type": "Dropout", "rate": 1.0}, "rate must be a number of at least 0.0 and below 1.0, not 1.0"),
        ("layer", {"type": "Linear", "inputs": 2}, "Linear lacks the key 'outputs'"),
        (
            "layer",
            {"type": "Linear", "inputs": 2.0, "outputs": 3},
            "inputs must be a whole number of at least 1, not 2.0",
        ),
        (
            "layer",
            {"type": "Linear", "inputs": 2, "outputs": 3, "activation": "rleu"},
            "unknown activation 'rleu' (did you mean 'relu'?); the choices are relu, sigmoid, tanh",
        ),
        (
            "layer",
            {"type": "Linear", "inputs": 2, "outputs": 3, "weights": {"type": "Normal", "sigma": 1.0}},
            "weights: unknown key of Normal 'sigma'; the choices are std, mean",
        ),
        ("layer", {"type": "Sequential"}, "Sequential lacks the key 'layers'"),
        ("layer", {"type": "Sequential", "layers": 3}, "layers must be a list of tables, got 3"),
        ("layer", {"type": "Sequential", "layers": [{"type": "ReLu"}]}, "layers[0]: unknown layer type 'ReLu'"),
    ],
)
def test_a_wrong_table_is_refused_with_the_right_names(kind: str, table: Any, message: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        build(kind, table)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("value", ["GlorotUniform", 0.5, True])
@pytest.mark.parametrize("key", ["weights", "biases"])
def test_an_initializer_must_be_a_table(key: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match="expected a table with a 'type'"):
        build("layer", {"type": "Linear", "inputs": 2, "outputs": 3, key: value})


def test_the_place_of_a_wrong_table_in_a_list() -> None:
    with pytest.raises(
        ConfigurationError,
        match=r"^model\.layers\[1\]: unknown layer type 'Dense'.*; the choices are GELU, Avg",
    ):
        build_all("layer", [{"type": "Flatten"}, {"type": "Dense"}], "model.layers")


def test_the_recipes_are_those_of_the_reference_systems_and_our_own() -> None:
    assert recipe_names() == RECIPES


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_equals_its_reparse(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.description
    assert recipe.source
    assert recipe_from_table(tomllib.loads(tomli_w.dumps(recipe.to_table()))) == recipe


@pytest.mark.parametrize(
    ("name", "sizes", "activation", "optimizer", "training"),
    [
        ("keras-sigmoid", [784, 50, 10], "sigmoid", ("Adam", 1e-3, 0.9, 0.999, 1e-7), (32, "shuffled", 10, None)),
        ("book-two-layer", [784, 50, 10], "relu", ("SGD", 0.1), (100, "with-replacement", None, 6000)),
        ("book-two-layer-raw", [784, 50, 10], "relu", ("SGD", 0.1), (100, "with-replacement", None, 6000)),
        ("torch-mlp", [784, 500, 500, 10], "relu", ("Adam", 1e-3, 0.9, 0.999, 1e-8), (100, "shuffled", 5, None)),
        ("naive-dense", [784, 512, 10], "relu", ("SGD", 1e-3), (128, "in-order", 10, None)),
    ],
)
def test_the_recipes_say_what_was_published(
    name: str, sizes: list[int], activation: str, optimizer: tuple[Any, ...], training: tuple[Any, ...]
) -> None:
    recipe = load_recipe(name)
    linears = recipe.build_model().layers[1:]
    assert [linears[0].inputs, *(layer.outputs for layer in linears)] == sizes
    assert [layer.activation for layer in linears] == [activation] * (len(linears) - 1) + [None]
    assert tuple(describe(build("optimizer", recipe.optimizer)).values()) == optimizer
    assert (recipe.batch_size, recipe.sampler, recipe.epochs, recipe.steps) == training
    assert recipe.scale == (name != "book-two-layer-raw")


def test_what_a_recipe_need_not_say(table: Table) -> None:
    recipe = recipe_from_table(table)
    assert (recipe.description, recipe.source, recipe.scale, recipe.sampler) == ("", "", True, "shuffled")
    assert (recipe.steps, recipe.evaluate_every, recipe.evaluate_train, recipe.weights) == (None, None, False, None)
    assert (recipe.validation_fraction, recipe.early_stopping, recipe.logs) == (None, None, None)
    assert not {"validation_fraction", "early_stopping", "logs"} & recipe.to_table()["training"].keys()


def test_what_a_recipe_may_say_of_its_validation(table: Table, tmp_path: Path) -> None:
    """In a file, with what it leaves out, and back again."""
    options = {"validation_fraction": 0.1, "early_stopping": {"patience": 3}, "logs": ["tensorboard", "csv"]}
    table = {**table, "training": {**table["training"], **options}}
    (tmp_path / "mine.toml").write_text(tomli_w.dumps(table))
    recipe = load_recipe(tmp_path / "mine.toml")
    assert (recipe.validation_fraction, recipe.logs) == (0.1, ["tensorboard", "csv"])
    assert recipe.early_stopping == {"patience": 3, "min_delta": 0.0, "monitor": "accuracy"}
    assert recipe_from_table(recipe.to_table()) == recipe
    by_options = {"validation_fraction": 0.1, "patience": 3, "logs": ["tensorboard", "csv"]}
    without = {key: value for key, value in table["training"].items() if key not in options}
    assert recipe_from_table({**table, "training": without}).with_options(**by_options) == recipe
    assert recipe.with_options(min_delta=0.5).early_stopping == {**recipe.early_stopping, "min_delta": 0.5}
    put(table, "training.early_stopping", {"patience": 7, "min_delta": 0.25, "monitor": "loss"})
    assert recipe_from_table(table).with_options(patience=2).early_stopping == {
        "patience": 2,
        "min_delta": 0.25,
        "monitor": "loss",
    }


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            "nmae",
            "x",
            "unknown key of a recipe 'nmae' (did you mean 'name'?); the choices are name, description, source, ",
        ),
        ("data.scaled", True, "unknown key of data 'scaled' (did you mean 'scale'?); the choices are name, scale"),
        ("data.scale", 1, "data.scale must be true or false, not 1"),
        ("data.name", 3, "data.name must be a text, not 3"),
        ("data", "mnist", "data must be a table, got 'mnist'"),
        ("data.name", None, "data lacks the key 'name'"),
        ("name", None, "a recipe lacks the key 'name'"),
        ("loss", None, "a recipe lacks the key 'loss'"),
        ("model.layers", [], "a Sequential needs at least one layer"),
        ("model.layers", "Linear", "model.layers must be a list of tables, got 'Linear'"),
        ("model.layers.1.outputs", 0, "model.layers[1]: outputs must be a whole number of at least 1, not 0"),
        ("model.layers.0.size", 3, "model.layers[0]: unknown key 'size' of Flatten, which takes none"),
        ("loss.type", "CrossEntropy", "loss: unknown loss type 'CrossEntropy' (did you mean 'BinaryCrossEntropy'?)"),
        ("optimizer.momentum", 0.9, "optimizer: unknown key of SGD 'momentum'; the choices are learning_rate"),
        ("optimizer.learning_rate", -1, "optimizer: learning_rate must be a number of at least 0.0, not -1"),
        ("training.epoch", 3, "unknown key of training 'epoch' (did you mean 'epochs'?); the choices are batch_size, "),
        ("training.batch_size", 0, "training.batch_size must be a whole number of at least 1, not 0"),
        ("training.batch_size", True, "training.batch_size must be a whole number of at least 1, not True"),
        ("training.batch_size", None, "training lacks the key 'batch_size'"),
        ("training.epochs", 2.5, "training.epochs must be a whole number of at least 1, not 2.5"),
        ("training.epochs", None, "training: give either 'epochs' or 'steps'"),
        ("training.steps", 5, "training: give either 'epochs' or 'steps'"),
        ("training.evaluate_every", -1, "training.evaluate_every must be a whole number of at least 1, not -1"),
        ("training.checkpoint_every", 2.5, "training.checkpoint_every must be a whole number of at least 1, not 2.5"),
        ("training.evaluate_train", "no", "training.evaluate_train must be true or false, not 'no'"),
        (
            "training.sampler",
            "random",
            "unknown training.sampler 'random'; the choices are shuffled, in-order, with-replacement",
        ),
        ("training.validation_fraction", 0, "training.validation_fraction must be a number above 0 and below 1, not 0"),
        ("training.validation_fraction", "10 %", "training.validation_fraction must be a number, not '10 %'"),
        ("training.early_stopping", 3, "training: early_stopping must be a table, got 3"),
        ("training.early_stopping", {}, "training: early_stopping lacks the key 'patience'"),
        (
            "training.early_stopping",
            {"patience": 3, "delta": 1},
            "training: unknown key of early_stopping 'delta' (did you mean 'min_delta'?); the choices are patience, ",
        ),
        (
            "training.early_stopping",
            {"patience": 0},
            "training: early_stopping.patience must be a whole number of at least 1, not 0",
        ),
        (
            "training.early_stopping",
            {"patience": 1, "min_delta": -1.0},
            "training: early_stopping.min_delta must be a number of at least 0.0, not -1.0",
        ),
        (
            "training.early_stopping",
            {"patience": 1, "monitor": "f1"},
            "training: unknown early_stopping.monitor 'f1'; the choices are accuracy, loss",
        ),
        (
            "training.early_stopping",
            {"patience": 1},
            "early stopping goes by a validation set, so that the test set stays unseen: give a validation_fraction",
        ),
        ("training.logs", "csv", "training.logs must be a list of csv, tensorboard, not 'csv'"),
        ("training.logs", ["cvs"], "unknown training.logs entry 'cvs' (did you mean 'csv'?); the choices are csv, "),
        ("weights", 3, "weights must be a text, not 3"),
        ("training.micro_batch_size", 0, "training.micro_batch_size must be a whole number of at least 1, not 0"),
        ("training.ema_decay", 1.0, "training.ema_decay must be a number of at least 0.0 and below 1.0, not 1.0"),
        ("optimizer.learning_rate", {"type": "Cosine"}, "optimizer: learning_rate: unknown schedule type 'Cosine'"),
        ("optimizer.learning_rate", {"rate": 3}, "optimizer: learning_rate: expected a table with a 'type' (one of "),
        ("optimizer.frozen", 3, "optimizer: frozen must be a pattern of parameters' names"),
    ],
)
def test_a_wrong_recipe_is_refused_with_the_place(table: Table, path: str, value: object, message: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        recipe_from_table(put(table, path, value))
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("name", ["../x", "a/b", "/abs", "..", ".", "", ".hidden", "-x", "a b", "x\n", "C:x", "a\\b"])
def test_a_name_that_is_a_path_is_refused(table: Table, name: str) -> None:
    """A run's folder is called after its recipe."""
    with pytest.raises(ConfigurationError) as error:
        recipe_from_table(put(table, "name", name))
    assert str(error.value).startswith("name must be letters, digits, '-', '_' and '.', as in a file's name, not ")
    assert str(error.value).endswith(repr(name))


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ({"sed": 1}, "unknown key of run 'sed' (did you mean 'seed'?); the choices are seed, device"),
        ({"seed": 1, "device": "cpu", "epochs": 3}, "unknown key of run 'epochs'"),
        (3, "run must be a table, got 3"),
    ],
)
def test_what_a_run_does_not_say(table: Table, run: object, message: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        recipe_from_table({**table, "run": run})
    assert str(error.value).startswith(message)


def test_a_number_too_large_for_a_float_in_a_file(table: Table, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(tomli_w.dumps(put(table, "optimizer.learning_rate", 10**400)), encoding="utf-8")
    message = r"mine\.toml: optimizer: learning_rate must be a number of at least 0\.0, not 1(0{400})$"
    with pytest.raises(ConfigurationError, match=message):
        load_recipe(path)


def test_a_number_too_large_for_python_in_a_file(table: Table, tmp_path: Path) -> None:
    text = tomli_w.dumps(table).replace("batch_size = 7", f"batch_size = {'7' * 5000}")
    (tmp_path / "mine.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"mine\.toml: not valid TOML"):
        load_recipe(tmp_path / "mine.toml")


def test_a_recipe_of_the_users_own_in_a_file(table: Table, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(tomli_w.dumps(table), encoding="utf-8")
    recipe = load_recipe(str(path))
    assert (recipe.name, recipe.batch_size, recipe.optimizer) == ("mine", 7, {"type": "SGD", "learning_rate": 0.5})


def test_the_configuration_of_a_run_is_a_recipe_too(table: Table, tmp_path: Path) -> None:
    """What a run folder's config.toml says can be trained again."""
    path = tmp_path / "config.toml"
    path.write_text(tomli_w.dumps({**table, "run": {"seed": 0, "device": "cpu"}}), encoding="utf-8")
    assert load_recipe(str(path)) == recipe_from_table(table)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name = 'x'\nepochs 3", r"recipe .*mine\.toml: not valid TOML: Expected '=' .*line 2"),
        (b"\xff\xfe", r"the recipe .*mine\.toml is not a text file in UTF-8"),
        (b"name = 'x'\nsteps = 3", r"recipe .*mine\.toml: unknown key of a recipe 'steps'"),
        (b"", r"recipe .*mine\.toml: a recipe lacks the key 'name'"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "mine.toml").write_bytes(content)
    with pytest.raises(ConfigurationError, match=f"^{message}"):
        load_recipe(str(tmp_path / "mine.toml"))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"cannot read the recipe .*none\.toml: No such file"):
        load_recipe(str(tmp_path / "none.toml"))
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(MissingFileError, match=r"cannot read the recipe .*folder\.toml: it is not a file"):
        load_recipe(str(tmp_path / "folder.toml"))


def test_an_unknown_recipe_is_answered_with_the_names() -> None:
    with pytest.raises(ConfigurationError) as error:
        load_recipe("torch-mpl")
    names = ", ".join(RECIPES)
    assert str(error.value) == f"unknown recipe 'torch-mpl' (did you mean 'torch-mlp'?); the choices are {names}"


def test_options_replace_what_they_name_and_nothing_else(table: Table) -> None:
    recipe = recipe_from_table(table)
    assert recipe.with_options() == recipe
    changed = recipe.with_options(data="mnist", epochs=9, batch_size=8, learning_rate=0.25)
    table = deepcopy(table)
    put(put(put(table, "data.name", "mnist"), "training.epochs", 9), "training.batch_size", 8)
    assert changed == recipe_from_table(put(table, "optimizer.learning_rate", 0.25))
    assert recipe.optimizer == {"type": "SGD", "learning_rate": 0.5}


def test_epochs_take_the_place_of_steps(table: Table) -> None:
    put(put(table, "training.epochs", None), "training.steps", 5)
    changed = recipe_from_table(table).with_options(epochs=2)
    assert (changed.epochs, changed.steps) == (2, None)


@pytest.mark.parametrize("name", ["adam", "Adam", "ADAM"])
def test_another_optimizer_comes_with_its_own_defaults(table: Table, name: str) -> None:
    recipe = recipe_from_table(table)
    assert recipe.with_options(optimizer=name).optimizer == {"type": "Adam"}
    both = recipe.with_options(optimizer=name, learning_rate=0.25)
    assert both.optimizer == {"type": "Adam", "learning_rate": 0.25}


def test_another_learning_rate_is_that_of_the_schedule(table: Table) -> None:
    cosine = {"type": "CosineDecay", "learning_rate": 0.5, "final": 0.125}
    table["optimizer"]["learning_rate"] = {"type": "Warmup", "steps": 3, "learning_rate": cosine}
    recipe = recipe_from_table(table)
    changed = recipe.with_options(learning_rate=0.25)
    assert changed.optimizer == {
        "type": "SGD",
        "learning_rate": {"type": "Warmup", "steps": 3, "learning_rate": {**cosine, "learning_rate": 0.25}},
    }
    assert cosine["learning_rate"] == 0.5


def test_how_a_run_computes_its_steps(table: Table) -> None:
    table["training"] |= {"micro_batch_size": 3, "ema_decay": 0.5}
    recipe = recipe_from_table(table)
    assert (recipe.micro_batch_size, recipe.ema_decay) == (3, 0.5)
    assert recipe_from_table(tomllib.loads(tomli_w.dumps(recipe.to_table()))) == recipe
    assert recipe.total_steps(15) == 9
    put(put(table, "training.epochs", None), "training.steps", 5)
    assert recipe_from_table(table).total_steps(15) == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be a whole number of at least 1, not 0"),
        ({"batch_size": -3}, "batch_size must be a whole number of at least 1, not -3"),
        ({"learning_rate": float("nan")}, "learning rate must be a number of at least 0.0, not nan"),
        ({"learning_rate": -0.5}, "learning rate must be a number of at least 0.0, not -0.5"),
        (
            {"optimizer": "adm"},
            "unknown optimizer 'adm' (did you mean 'adam'?); the choices are sgd, adagrad, adam, adamw, lion, "
            "momentum, nesterov, rmsprop",
        ),
        ({"validation_fraction": 1.0}, "validation_fraction must be a number above 0 and below 1, not 1.0"),
        (
            {"validation_fraction": 0.1, "patience": 0},
            "early_stopping.patience must be a whole number of at least 1, not 0",
        ),
        ({"validation_fraction": 0.1, "min_delta": 0.5}, "early_stopping lacks the key 'patience'"),
        ({"logs": ["cvs"]}, "unknown logs entry 'cvs' (did you mean 'csv'?); the choices are csv, tensorboard"),
        (
            {"patience": 3},
            "early stopping goes by a validation set, so that the test set stays unseen: give a validation_fraction "
            "(0.1, say)",
        ),
    ],
)
def test_options_out_of_range(table: Table, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        recipe_from_table(table).with_options(**options)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a." * 30_000 + "a = 1", r"a key of more than 8 parts: a\.a\.a"),
        ("[" + "'a'. " * 30 + "a]", "a key of more than 8 parts: 'a'"),
        ("x = " + "[" * 5000, "nested too deep"),
        ("name = " + "[" * 200 + "]" * 200, "a recipe has tables and lists nested more than 100 deep"),
        ("training.epochs = 0x" + "f" * 600, "a recipe has a whole number of more than 2048 bits"),
        ("training.epochs = " + "9" * 5000, "not valid TOML: .*digits"),
        ("#" * (configuration.LARGEST_RECIPE + 1), "mine.toml has more than 65536 bytes"),
    ],
    ids=["long key", "long quoted key", "deep", "less deep", "number", "decimal number", "long"],
)
def test_recipes_that_would_take_much_of_the_machine(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "mine.toml").write_text(text)
    tracemalloc.start()
    try:
        with pytest.raises(ConfigurationError, match=message):
            load_recipe(tmp_path / "mine.toml")
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.skipif(sys.platform == "win32", reason="pipes in the file system are POSIX")
def test_neither_a_folder_nor_a_pipe_is_a_recipe(tmp_path: Path) -> None:
    (tmp_path / "folder.toml").mkdir()
    os.mkfifo(tmp_path / "pipe.toml")
    for name in ("folder.toml", "pipe.toml"):
        with pytest.raises(MissingFileError, match=f"cannot read the recipe .*{name}: it is not a file"):
            load_recipe(tmp_path / name)


def test_a_recipe_that_is_no_table() -> None:
    with pytest.raises(ConfigurationError, match="a recipe must be a table, not 3"):
        recipe_from_table(3)  # type: ignore[arg-type]


def test_texts_with_a_nul(table: Table) -> None:
    with pytest.raises(ConfigurationError, match=r"data\.name holds a NUL"):
        recipe_from_table(put(table, "data.name", "a\0.npz"))
