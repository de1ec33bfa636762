"""``xpnet recipes``: list the recipes that come with xpnet."""

from __future__ import annotations

import argparse
from typing import Any

NAME = "recipes"
HELP = "List the recipes that come with xpnet."
EXAMPLE = "xpnet recipes"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None of its own."""


def run(options: argparse.Namespace) -> dict[str, Any]:
    """The recipes, each as its table."""
    import xpnet

    return {"recipes": [xpnet.load_recipe(name).to_table() for name in xpnet.recipe_names()]}


def render(result: dict[str, Any]) -> str:
    """A line for each."""
    rows = [f"{table['name']:<20}{table['data']['name']:<15}{table['description']}" for table in result["recipes"]]
    return "\n".join(
        [*rows, "", "xpnet train --recipe NAME trains one; a .toml file of the same form is a recipe too."]
    )
