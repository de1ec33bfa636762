"""Recipes in files: read, or refused by name and in bounded memory."""

from __future__ import annotations

import os
import sys
import tracemalloc
from pathlib import Path

import pytest

from tests.configuration.conftest import put
from xpnet import configuration
from xpnet.configuration import load_recipe, recipe_from_table
from xpnet.errors import ConfigurationError, MissingFileError
from xpnet.registry import Table


def test_a_number_too_large_for_a_float_in_a_file(table: Table, tmp_path: Path) -> None:
    import tomli_w

    path = tmp_path / "mine.toml"
    path.write_text(tomli_w.dumps(put(table, "optimizer.learning_rate", 10**400)), encoding="utf-8")
    message = r"mine\.toml: optimizer: learning_rate must be a number of at least 0\.0, not 1(0{400})$"
    with pytest.raises(ConfigurationError, match=message):
        load_recipe(path)


def test_a_number_too_large_for_python_in_a_file(table: Table, tmp_path: Path) -> None:
    import tomli_w

    text = tomli_w.dumps(table).replace("batch_size = 7", f"batch_size = {'7' * 5000}")
    (tmp_path / "mine.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"mine\.toml: not valid TOML"):
        load_recipe(tmp_path / "mine.toml")


def test_a_recipe_of_the_users_own_in_a_file(table: Table, tmp_path: Path) -> None:
    import tomli_w

    path = tmp_path / "mine.toml"
    path.write_text(tomli_w.dumps(table), encoding="utf-8")
    recipe = load_recipe(str(path))
    assert (recipe.name, recipe.batch_size, recipe.optimizer) == ("mine", 7, {"type": "SGD", "learning_rate": 0.5})


def test_the_configuration_of_a_run_is_a_recipe_too(table: Table, tmp_path: Path) -> None:
    """What a run folder's config.toml says can be trained again."""
    import tomli_w

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


def test_a_missing_file_or_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"cannot read the recipe .*none\.toml: No such file"):
        load_recipe(str(tmp_path / "none.toml"))
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(MissingFileError, match=r"cannot read the recipe .*folder\.toml: it is not a file"):
        load_recipe(str(tmp_path / "folder.toml"))


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
def test_hostile_recipes_are_refused_in_bounded_memory(tmp_path: Path, text: str, message: str) -> None:
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
