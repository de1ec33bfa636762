"""Objects to tables and back: each class that a file can name."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

import xpnet
from xpnet import registry
from xpnet.errors import ConfigurationError
from xpnet.registry import Table, build, describe

FAN_IN = {"type": "FanInUniform"}
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
    ("layer", xpnet.Rescale(255), {"type": "Rescale", "divisor": 255.0}),
    ("layer", xpnet.Standardize(3), {"type": "Standardize", "features": 3}),
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
            "bias": True,
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
                    "layers": [
                        {"type": "Linear", "inputs": 2, "outputs": 3, "weights": FAN_IN, "biases": FAN_IN, "bias": True}
                    ],
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
        xpnet.AdaGrad(0.5, 1e-7, weight_decay=0.25, weight_decay_mask=["*.W", "0.b"]),
        {
            "type": "AdaGrad",
            "learning_rate": 0.5,
            "epsilon": 1e-7,
            "weight_decay": 0.25,
            "weight_decay_mask": ["*.W", "0.b"],
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


@pytest.mark.parametrize(("kind", "thing", "table"), DESCRIBED, ids=lambda value: getattr(value, "type", None))
def test_a_thing_is_described_by_its_table_and_built_from_it(kind: str, thing: Any, table: Table) -> None:
    import tomli_w

    assert describe(thing) == table
    built = build(kind, tomllib.loads(tomli_w.dumps(table)))
    assert type(built) is type(thing)
    assert describe(built) == table


def test_a_convolution_pads_by_a_number_or_a_word() -> None:
    import tomli_w

    table = describe(xpnet.Conv2d(1, 8, 5, padding="same"))
    assert (table["padding"], "activation" in table) == ("same", False)
    assert describe(build("layer", tomllib.loads(tomli_w.dumps(table)))) == table


def test_every_class_that_a_file_can_name_is_described_above() -> None:
    named = {(kind, cls) for kind, classes in registry._CLASSES.items() for cls in classes.values()}
    named = {(kind, cls) for kind, cls in named if kind != "callback" and getattr(xpnet, cls.__name__, None) is cls}
    assert named == {(kind, type(thing)) for kind, thing, _ in DESCRIBED}


def test_a_described_model_is_rebuilt_with_the_same_initial_weights() -> None:
    backend = xpnet.backend("cpu-reference")
    model = xpnet.Sequential(xpnet.Linear(3, 4, "tanh", weights=xpnet.Uniform(2.0, 3.0)), xpnet.Linear(4, 2))
    model.initialize(backend, seed=5)
    copy = build("layer", describe(model)).initialize(backend, seed=5)
    assert copy.parameters.vector.tolist() == model.parameters.vector.tolist()


def test_a_class_that_is_not_registered_has_no_name_in_files() -> None:
    class Linear(xpnet.Linear):
        pass

    with pytest.raises(ConfigurationError, match="no file can name Linear, which is not registered"):
        describe(xpnet.Sequential(Linear(2, 3)))
