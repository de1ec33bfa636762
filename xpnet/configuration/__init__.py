"""Recipes, the files that hold them, and the table of training options."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from xpnet.configuration.options import LOGS, MONITORS, ON_NONFINITE, Option, TrainingOptions

if TYPE_CHECKING:
    from xpnet.configuration.reader import LARGEST_RECIPE, load_recipe, recipe_names
    from xpnet.configuration.recipe import Recipe, recipe_from_table

__all__ = [
    "LARGEST_RECIPE",
    "LOGS",
    "MONITORS",
    "ON_NONFINITE",
    "Option",
    "Recipe",
    "TrainingOptions",
    "load_recipe",
    "recipe_from_table",
    "recipe_names",
]

# Loaded on first use: `xpnet train --help` lists the options, and must not wait for NumPy.
_HOMES = {"Recipe": "recipe", "recipe_from_table": "recipe"}
_HOMES |= {"LARGEST_RECIPE": "reader", "load_recipe": "reader", "recipe_names": "reader"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'xpnet.configuration' has no attribute {name!r}")
    return getattr(importlib.import_module(f"xpnet.configuration.{_HOMES[name]}"), name)
