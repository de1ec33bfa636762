"""Recipes from files, which may be hostile and are read in bounded memory."""

from __future__ import annotations

import re
import tomllib
from importlib import resources
from pathlib import Path

from xpnet.configuration.recipe import Recipe, recipe_from_table
from xpnet.errors import ConfigurationError, MissingFileError, one_of
from xpnet.registry import located

LARGEST_RECIPE = 2**16  # bytes, twenty times xpnet's longest; the parsed objects take up to 400 times as much
_LONG_KEY = re.compile(r"""(?<![\w-])(?>(?>[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){8}""")


def recipe_names() -> list[str]:
    """The names of the recipes that come with xpnet.

    >>> "torch-mlp" in recipe_names()
    True
    """
    folder = resources.files("xpnet") / "recipes"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_recipe(name: str | Path) -> Recipe:
    """The recipe of that name, or in that ``.toml`` file.

    Raises:
        MissingFileError: there is no such file, or it cannot be read.
        ConfigurationError: there is no such recipe, or it is invalid; the message says where.

    >>> load_recipe("torch-mlp").batch_size
    100
    """
    name = str(name)
    if name.endswith(".toml"):
        text = _read_text(Path(name))
    else:
        one_of("recipe", name, recipe_names())
        text = (resources.files("xpnet") / "recipes" / f"{name}.toml").read_text(encoding="utf-8")
    return located(f"recipe {name}", _parse_recipe, text)


def _read_text(path: Path) -> str:
    if path.exists() and not path.is_file():
        raise MissingFileError(f"cannot read the recipe {path}: it is not a file")
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_RECIPE + 1)
        if len(content) > LARGEST_RECIPE:
            raise ConfigurationError(f"the recipe {path} has more than {LARGEST_RECIPE} bytes")
        return content.decode("utf-8")
    except OSError as error:
        raise MissingFileError(f"cannot read the recipe {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"the recipe {path} is not a text file in UTF-8") from None


def _parse_recipe(text: str) -> Recipe:
    # tomllib takes memory and time proportional to n² for a key of n parts.
    if long_key := _LONG_KEY.search(text):
        raise ConfigurationError(f"a key of more than 8 parts: {long_key[0][:60]}…")
    try:
        table = tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError, and Python's own for a number of thousands of digits
        raise ConfigurationError(f"not valid TOML: {error}") from None
    except RecursionError:
        raise ConfigurationError("tables and lists are nested too deep") from None
    return recipe_from_table(table)
