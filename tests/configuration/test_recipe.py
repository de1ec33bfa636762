"""A recipe from a table: its defaults, and every mistake named with its place."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from tests.configuration.conftest import put
from xpnet.configuration import load_recipe, recipe_from_table
from xpnet.errors import ConfigurationError
from xpnet.registry import Table


def test_the_defaults_of_a_recipe(table: Table) -> None:
    recipe = recipe_from_table(table)
    assert (recipe.description, recipe.source, recipe.sampler) == ("", "", "shuffled")
    assert (recipe.steps, recipe.evaluate_every, recipe.evaluate_train, recipe.weights) == (None, None, False, None)
    assert (recipe.validation_fraction, recipe.validate_on_test) == (0.1, False)
    assert (recipe.patience, recipe.logs, recipe.callbacks) == (None, None, [])
    assert not {"early_stopping", "logs"} & recipe.to_table()["training"].keys()
    assert "callbacks" not in recipe.to_table()


def test_the_validation_options_of_a_recipe(table: Table, tmp_path: Path) -> None:
    """In a file, with what it leaves out, and back again."""
    import tomli_w

    options = {"validation_fraction": 0.2, "early_stopping": {"patience": 3}, "logs": ["tensorboard", "csv"]}
    table = {**table, "training": {**table["training"], **options}}
    (tmp_path / "mine.toml").write_text(tomli_w.dumps(table))
    recipe = load_recipe(tmp_path / "mine.toml")
    assert (recipe.validation_fraction, recipe.logs) == (0.2, ["tensorboard", "csv"])
    assert recipe.arguments_of("EarlyStopping") == {"patience": 3, "min_delta": 0.0, "monitor": "accuracy"}
    assert recipe_from_table(recipe.to_table()) == recipe
    by_options = {"validation_fraction": 0.2, "patience": 3, "logs": ["tensorboard", "csv"]}
    without = {key: value for key, value in table["training"].items() if key not in options}
    assert recipe_from_table({**table, "training": without}).with_options(**by_options) == recipe
    assert recipe.with_options(min_delta=0.5) == replace(recipe, min_delta=0.5)
    put(table, "training.early_stopping", {"patience": 7, "min_delta": 0.25, "monitor": "loss"})
    changed = recipe_from_table(table).with_options(patience=2)
    assert (changed.patience, changed.min_delta, changed.monitor) == (2, 0.25, "loss")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            "nmae",
            "x",
            "unknown key of a recipe 'nmae' (did you mean 'name'?); the choices are name, description, source, ",
        ),
        ("data.nmae", "mnist", "unknown key of data 'nmae' (did you mean 'name'?); the choices are name"),
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
        ("training.epoch", 3, "unknown key of training 'epoch' (did you mean 'epochs'?); the choices are epochs, "),
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
        (
            "training.validation_fraction",
            1,
            "training.validation_fraction must be a number of at least 0.0 and below 1.0, n",
        ),
        (
            "training.validation_fraction",
            "10 %",
            "training.validation_fraction must be a number of at least 0.0 and below 1.0, not '10 %'",
        ),
        ("training.early_stopping", 3, "training.early_stopping must be a table, got 3"),
        ("training.early_stopping", {}, "training.early_stopping lacks the key 'patience'"),
        (
            "training.early_stopping",
            {"patience": 3, "delta": 1},
            "unknown key of training.early_stopping 'delta' (did you mean 'min_delta'?); the choices are patience, ",
        ),
        (
            "training.early_stopping",
            {"patience": 0},
            "training.early_stopping.patience must be a whole number of at least 1, not 0",
        ),
        (
            "training.early_stopping",
            {"patience": 1, "min_delta": -1.0},
            "training.early_stopping.min_delta must be a number of at least 0.0, not -1.0",
        ),
        (
            "training.early_stopping",
            {"patience": 1, "monitor": "f1"},
            "unknown training.early_stopping.monitor 'f1'; the choices are accuracy, loss",
        ),
        (
            "training",
            {"batch_size": 7, "epochs": 3, "validate_on_test": True, "early_stopping": {"patience": 1}},
            "early stopping needs a validation set other than the test set: give a validation_fraction (0.1, say)",
        ),
        (
            "training",
            {"batch_size": 7, "epochs": 3, "validate_on_test": True, "validation_fraction": 0.1},
            "give either validate_on_test or a validation_fraction: a run has one validation set",
        ),
        ("training.validate_on_test", "yes", "training.validate_on_test must be true or false, not 'yes'"),
        ("callbacks", "Progress", "callbacks must be a list of tables, got 'Progress'"),
        ("callbacks", ["Progress"], "callbacks must be a list of tables, got ['Progress']"),
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
def test_a_wrong_run_table_is_refused(table: Table, run: object, message: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        recipe_from_table({**table, "run": run})
    assert str(error.value).startswith(message)


def test_micro_batches_the_average_and_the_number_of_steps(table: Table) -> None:
    import tomli_w

    table["training"] |= {"micro_batch_size": 3, "ema_decay": 0.5}
    recipe = recipe_from_table(table)
    assert (recipe.micro_batch_size, recipe.ema_decay) == (3, 0.5)
    assert recipe_from_table(tomllib.loads(tomli_w.dumps(recipe.to_table()))) == recipe
    assert recipe.total_steps(15) == 9
    put(put(table, "training.epochs", None), "training.steps", 5)
    assert recipe_from_table(table).total_steps(15) == 5


def test_a_recipe_that_is_no_table_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="a recipe must be a table, not 3"):
        recipe_from_table(3)  # type: ignore[arg-type]


def test_a_text_with_a_nul_is_refused(table: Table) -> None:
    with pytest.raises(ConfigurationError, match=r"data\.name holds a NUL"):
        recipe_from_table(put(table, "data.name", "a\0.npz"))
