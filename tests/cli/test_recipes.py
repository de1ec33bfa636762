"""``xpnet recipes``."""

from __future__ import annotations

from typing import Any

import xpnet as library


def test_each_recipe_has_a_line(xpnet: Any) -> None:
    outcome = xpnet("recipes")
    assert outcome.status == 0
    lines = outcome.out.splitlines()
    for name in library.recipe_names():
        (line,) = [line for line in lines if line.split(maxsplit=1)[:1] == [name]]
        recipe = library.load_recipe(name)
        assert line.split(maxsplit=2) == [name, recipe.data, recipe.description]
    assert lines[-1].startswith("xpnet train --recipe NAME")


def test_as_json_each_recipe_is_its_table(xpnet: Any) -> None:
    tables = xpnet("recipes", "--json").result["recipes"]
    assert [table["name"] for table in tables] == library.recipe_names()
    for table in tables:
        assert library.configuration.recipe_from_table(table) == library.load_recipe(table["name"])
