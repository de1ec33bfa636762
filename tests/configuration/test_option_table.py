"""The table of training options, and what derives from it: recipe files, the command line, fit, resume, the docs."""

from __future__ import annotations

import argparse
import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import xpnet
from xpnet.cli import main
from xpnet.cli import train as command
from xpnet.configuration import TrainingOptions, load_recipe, recipe_from_table
from xpnet.configuration import recipe as recipe_module
from xpnet.configuration.options import option
from xpnet.errors import ConfigurationError, positive_integer
from xpnet.registry import Table
from xpnet.training import EarlyStopping

OPTIONS = TrainingOptions.options()
DOCS = Path(__file__).parents[2] / "docs" / "training-options.md"


@dataclass(frozen=True, kw_only=True)
class Longer(recipe_module.Recipe):
    """A recipe with one option more, which is written here and nowhere else."""

    laps: int | None = option(positive_integer, "laps to run", resumable=True)


@pytest.fixture
def laps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The option is in the table: for recipes, and for the command line."""
    monkeypatch.setattr(recipe_module, "Recipe", Longer)
    monkeypatch.setattr(command, "TrainingOptions", Longer)


@pytest.mark.usefixtures("laps")
def test_recipe_files_know_a_new_option(table: Table, tmp_path: Path) -> None:
    import tomli_w

    table["training"]["laps"] = 3
    (tmp_path / "mine.toml").write_text(tomli_w.dumps(table))
    recipe = load_recipe(tmp_path / "mine.toml")
    assert recipe.to_table()["training"]["laps"] == recipe.laps == 3  # type: ignore[attr-defined]
    assert recipe_from_table(recipe.to_table()) == recipe
    with pytest.raises(ConfigurationError, match=r"^training\.laps must be a whole number of at least 1, not 0"):
        recipe_from_table({**table, "training": {**table["training"], "laps": 0}})
    with pytest.raises(ConfigurationError, match=r"unknown key of training 'lap' \(did you mean 'laps'\?\)"):
        recipe_from_table({**table, "training": {**table["training"], "lap": 1}})


@pytest.mark.usefixtures("laps")
def test_the_command_line_knows_a_new_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    digits = ["train", "--recipe", "digits", "--device", "cpu-reference", "--epochs", "1"]
    assert main([*digits, "--laps", "5", "--out", "run"]) == 0
    assert load_recipe(tmp_path / "run" / "config.toml").laps == 5  # type: ignore[attr-defined]
    capsys.readouterr()
    assert main([*digits, "--laps", "0"]) == 2
    assert capsys.readouterr().err == "xpnet train: --laps must be a whole number of at least 1, not 0\n"
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    assert "--laps N" in capsys.readouterr().out


@pytest.mark.usefixtures("laps")
def test_resume_knows_a_new_option(tmp_path: Path) -> None:
    cpu, recipe = xpnet.backend("cpu-reference"), load_recipe("digits").with_options(epochs=2, laps=5)
    xpnet.train(recipe, xpnet.data.load("digits"), cpu, out=tmp_path, stop_after_epoch=1)
    xpnet.resume(tmp_path, cpu, xpnet.data.load, laps=6)
    assert load_recipe(tmp_path / "config.toml").laps == 6  # type: ignore[attr-defined]


def test_resume_refuses_the_options_that_decided_the_first_part(tmp_path: Path) -> None:
    cpu, recipe = xpnet.backend("cpu-reference"), load_recipe("digits").with_options(epochs=2)
    xpnet.train(recipe, xpnet.data.load("digits"), cpu, out=tmp_path, stop_after_epoch=1)
    with pytest.raises(ConfigurationError, match="unknown option of resume 'batch_size'; the choices are epochs"):
        xpnet.resume(tmp_path, cpu, xpnet.data.load, batch_size=5)


@pytest.mark.parametrize(
    ("target", "function"),
    [("Trainer", xpnet.Trainer.__init__), ("fit", xpnet.Trainer.fit), ("EarlyStopping", EarlyStopping.__init__)],
)
def test_its_arguments_and_their_defaults_are_those_of_what_takes_them(target: str, function: Any) -> None:
    parameters = inspect.signature(function).parameters
    for name, entry in OPTIONS.items():
        if entry.argument_of == target and name != "sampler":  # fit takes the sampler itself
            default = parameters[name].default
            assert default == (inspect.Parameter.empty if name == "patience" else entry.default), name
    of_a_run = {"self", "model", "loss", "optimizer", "seed", "callbacks", "train", "validation", "stop_after_epoch"}
    assert parameters.keys() - of_a_run == {name for name, entry in OPTIONS.items() if entry.argument_of == target}


def test_every_option_has_a_flag_and_a_word_of_help() -> None:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    flags = {action.dest: action for action in parser._actions}
    for name, entry in OPTIONS.items():
        assert entry.flag in flags[name].option_strings
        assert flags[name].help == entry.help
        assert flags[name].default is None


def test_the_docs_list_every_option() -> None:
    """Where this fails, pytest shows the table that docs/training-options.md must have."""
    rows = ["| option | in a recipe file | command line | default | `--resume` | |", "|---|---|---|---|---|---|"]
    for name, entry in OPTIONS.items():
        default = "" if entry.default is None else f"`{str(entry.default).lower()}`"
        resumable = "yes" if entry.resumable else ""
        rows.append(f"| `{name}` | `{entry.table}` | `{entry.flag}` | {default} | {resumable} | {entry.help} |")
    assert "\n".join(rows) in DOCS.read_text()


def test_another_data_sets_test_set_chooses_nothing() -> None:
    digits = load_recipe("digits")
    assert digits.validate_on_test
    other = digits.with_options(data="mine.npz")
    assert (other.validate_on_test, other.validation_fraction) == (False, 0.1)
    assert digits.with_options(data="digits").validate_on_test
    assert digits.with_options(data="mine.npz", validate_on_test=True).validate_on_test
    assert not digits.with_options(validation_fraction=0.0).validate_on_test
    assert not digits.with_options(validate_on_test=False).validate_on_test


def test_validating_on_the_test_set_takes_the_place_of_a_fraction(table: Table) -> None:
    recipe = recipe_from_table(table).with_options(validation_fraction=0.3).with_options(validate_on_test=True)
    assert "validation_fraction" not in recipe.to_table()["training"]
    assert recipe_from_table(recipe.to_table()).validate_on_test


def test_steps_take_the_place_of_epochs(table: Table) -> None:
    changed = recipe_from_table(table).with_options(steps=5)
    assert (changed.epochs, changed.steps) == (None, 5)
