"""A recipe with some of its values replaced by options."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from tests.configuration.conftest import put
from xpnet.configuration import recipe_from_table
from xpnet.errors import ConfigurationError
from xpnet.registry import Table

CHOICES = (
    "epochs, steps, batch_size, micro_batch_size, sampler, evaluate_every, evaluate_train, checkpoint_every, "
    "on_nonfinite, precision, ema_decay, validation_fraction, validate_on_test, patience, min_delta, monitor, logs, "
    "optimizer, learning_rate"
)


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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be a whole number of at least 1, not 0"),
        ({"batch_size": -3}, "batch_size must be a whole number of at least 1, not -3"),
        ({"learning_rate": float("nan")}, "learning_rate must be a number of at least 0.0, not nan"),
        ({"learning_rate": -0.5}, "learning_rate must be a number of at least 0.0, not -0.5"),
        (
            {"optimizer": "adm"},
            "unknown optimizer 'adm' (did you mean 'adam'?); the choices are sgd, adagrad, adam, adamw, lion, "
            "momentum, nesterov, rmsprop",
        ),
        ({"validation_fraction": 1.0}, "validation_fraction must be a number of at least 0.0 and below 1.0, not 1.0"),
        (
            {"validation_fraction": 0.1, "patience": 0},
            "patience must be a whole number of at least 1, not 0",
        ),
        ({"min_delta": 0.5}, "min_delta and monitor belong to early stopping: give a patience too"),
        (
            {"epoch": 5},
            "unknown option 'epoch' (did you mean 'epochs'?); the choices are " + CHOICES,
        ),
        ({"epochs": 5, "steps": 5}, "training: give either 'epochs' or 'steps'"),
        (
            {"validate_on_test": True, "validation_fraction": 0.2},
            "give either validate_on_test or a validation_fraction: a run has one validation set",
        ),
        ({"logs": ["cvs"]}, "unknown logs entry 'cvs' (did you mean 'csv'?); the choices are csv, tensorboard"),
        (
            {"patience": 3, "validate_on_test": True},
            "early stopping needs a validation set other than the test set: give a validation_fraction (0.1, say)",
        ),
        (
            {"patience": 3, "validation_fraction": 0.0},
            "early stopping needs a validation set other than the test set: give a validation_fraction (0.1, say)",
        ),
    ],
)
def test_options_out_of_range_are_refused(table: Table, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        recipe_from_table(table).with_options(**options)
    assert str(error.value) == message
