"""Tables that no object can be built from: the error names what would be right."""

from __future__ import annotations

from typing import Any

import pytest

from xpnet.configuration import build, build_all
from xpnet.errors import ConfigurationError


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
