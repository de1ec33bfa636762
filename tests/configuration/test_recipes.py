"""The recipes that come with xpnet: all are there, survive their own TOML, and say what was published."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

import xpnet
from tests.configuration.conftest import RECIPES
from xpnet.configuration import load_recipe, recipe_from_table, recipe_names
from xpnet.errors import ConfigurationError
from xpnet.registry import build, describe


def test_the_recipes_are_those_of_the_reference_systems_and_our_own() -> None:
    assert recipe_names() == RECIPES


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_equals_its_reparse(name: str) -> None:
    import tomli_w

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
    linears = [layer for layer in recipe.build_model().layers if isinstance(layer, xpnet.Linear)]
    assert [linears[0].inputs, *(layer.outputs for layer in linears)] == sizes
    assert [layer.activation for layer in linears] == [activation] * (len(linears) - 1) + [None]
    assert tuple(describe(build("optimizer", recipe.optimizer)).values()) == optimizer
    assert (recipe.batch_size, recipe.sampler, recipe.epochs, recipe.steps) == training
    assert (recipe.layers[0]["type"] == "Rescale") == (name != "book-two-layer-raw")


def test_an_unknown_recipe_is_answered_with_the_names() -> None:
    with pytest.raises(ConfigurationError) as error:
        load_recipe("torch-mpl")
    names = ", ".join(RECIPES)
    assert str(error.value) == f"unknown recipe 'torch-mpl' (did you mean 'torch-mlp'?); the choices are {names}"


def test_the_test_set_chooses_only_where_the_write_ups_let_it_and_on_the_digits() -> None:
    on_test = {"keras-sigmoid", "book-two-layer", "book-two-layer-raw", "torch-mlp", "naive-dense", "digits"}
    for name in RECIPES:
        recipe = load_recipe(name)
        if recipe.weights is None:
            assert recipe.validate_on_test == (name in on_test)
            assert recipe.validation_fraction == 0.1
