"""Recipes: descriptions of training runs, as checked tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from xpnet.configuration.options import Option, TrainingOptions, boolean
from xpnet.data.samplers import steps_per_epoch
from xpnet.errors import ConfigurationError, one_of, require_moderate
from xpnet.format_1 import upgrade_recipe
from xpnet.layers import Sequential
from xpnet.registry import Table, build, build_all, located, require_keys


@dataclass(frozen=True)
class Recipe(TrainingOptions):
    """A description of a training run: data, network, loss, optimizer and training options.

    Attributes:
        name, description, source: for people.
        data: name of a data set or path of an .npz file.
        layers, loss, optimizer: tables for :func:`~xpnet.registry.build`.
        weights: a file of trained weights, in a recipe for inference only, which has no training options.
        callbacks: tables of registered callbacks, each with its "type" and its arguments.

    The training options are attributes too: ``recipe.batch_size``. docs/training-options.md lists them.

    Raises:
        ConfigurationError: neither epochs nor steps, or both; early stopping without a validation set, or on the test
            set.

    >>> import xpnet
    >>> recipe = xpnet.load_recipe("digits").with_options(epochs=2)
    >>> recipe.data, recipe.total_steps(samples=1000), recipe.build_model().output_shape((8, 8))
    ('digits', 64, (10,))
    """

    name: str
    description: str
    source: str
    data: str
    layers: list[Table]
    loss: Table | None
    optimizer: Table | None
    weights: str | None = None
    callbacks: list[Table] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.weights is None and (self.epochs is None) == (self.steps is None):
            raise ConfigurationError("training: give either 'epochs' or 'steps'")
        if self.patience is None:
            return
        if self.validate_on_test or self.validation_fraction == 0.0:
            raise ConfigurationError(
                "early stopping needs a validation set other than the test set: give a validation_fraction (0.1, say)"
            )

    def build_model(self) -> Sequential:
        """A fresh, uninitialised model."""
        return Sequential(*build_all("layer", self.layers, "model.layers"))

    def build_callbacks(self) -> list[Any]:
        """The callbacks that the recipe names.

        Raises:
            ConfigurationError: one of them is not registered, or its arguments are wrong.
        """
        return build_all("callback", self.callbacks, "callbacks")

    def with_options(self, data: str | None = None, **options: Any) -> Recipe:
        """A copy with another data set, or other training options; an option that is None does not change.

        ``optimizer`` names an optimizer, which gets its default arguments; ``learning_rate`` keeps a schedule, with
        another initial or peak rate. ``epochs`` and ``steps`` replace each other, and so do ``validation_fraction`` and
        ``validate_on_test``. Another data set switches ``validate_on_test`` off unless it is given too.

        Raises:
            ConfigurationError: an unknown option or an invalid value.

        >>> import xpnet
        >>> xpnet.load_recipe("digits").with_options(learning_rate=0.5, optimizer="sgd").optimizer
        {'type': 'SGD', 'learning_rate': 0.5}
        """
        known = self.options()
        given = {one_of("option", name, known): value for name, value in options.items() if value is not None}
        given = {name: known[name].check(name, value) for name, value in given.items()}
        optimizer, rate = given.pop("optimizer", None), given.pop("learning_rate", None)
        recipe = self if optimizer is None else replace(self, optimizer={"type": optimizer})
        if rate is not None and recipe.optimizer is not None:
            recipe = replace(recipe, optimizer=_with_rate(recipe.optimizer, rate))
        other_data = data is not None and data != self.data
        _require_one_way_of_validation(given)
        if other_data or "validation_fraction" in given:
            given = {"validate_on_test": False, **given}
        if "epochs" in given or "steps" in given:
            given = {"epochs": None, "steps": None, **given}
        if (given.keys() & {"min_delta", "monitor"}) and given.get("patience", self.patience) is None:
            raise ConfigurationError("min_delta and monitor belong to early stopping: give a patience too")
        return replace(recipe, data=self.data if data is None else data, **given)

    def total_steps(self, samples: int) -> int:
        """The number of steps of a run on a training set of so many samples."""
        return self.steps or (self.epochs or 0) * steps_per_epoch(samples, self.batch_size)

    def to_table(self) -> Table:
        """The nested table that ``recipe_from_table`` reads, ready for TOML."""
        table = {
            **{key: getattr(self, key) for key in ("name", "description", "source")},
            "data": {"name": self.data},
            "model": {"layers": self.layers},
            "loss": self.loss,
            "optimizer": self.optimizer,
            "training": self._training_table() if self.weights is None else None,
            "weights": self.weights,
            "callbacks": self.callbacks or None,
        }
        return {key: value for key, value in table.items() if value is not None}

    def _training_table(self) -> Table:
        own, early = (
            {name: value for name in _options_in(table, self.options()) if (value := getattr(self, name)) is not None}
            for table in ("training", "early_stopping")
        )
        if self.validate_on_test:
            del own["validation_fraction"]
        return own if self.patience is None else {**own, "early_stopping": early}


def recipe_from_table(table: Table) -> Recipe:
    """The recipe that a table describes, with all its names and values checked.

    Callbacks are built only when the recipe is trained.

    Raises:
        ConfigurationError: an unknown or missing key, or an invalid value; the message says where, and lists the valid
            ones.

    >>> import xpnet
    >>> table = xpnet.load_recipe("digits").to_table()
    >>> recipe_from_table(table) == xpnet.load_recipe("digits")
    True
    >>> recipe_from_table({**table, "name": "my recipe"})
    Traceback (most recent call last):
    xpnet.errors.ConfigurationError: name must be letters, digits, '-', '_' and '.', ..., not 'my recipe'
    """
    if not isinstance(table, dict):
        raise ConfigurationError(f"a recipe must be a table, not {table!r}")
    require_moderate("a recipe", table)
    if isinstance(data := table.get("data"), dict) and "scale" in data:
        if boolean("data.scale", data["scale"]) and _begins_with_scaling(table.get("model")):
            raise ConfigurationError(
                "data.scale divides pixels by their range, and the model's first layer scales them again: leave out "
                "scale"
            )
        table = upgrade_recipe(table)
    sections = ["data", "model", "loss", "optimizer", "training"]
    inference_only = "weights" in table
    required = ["name", "data", "model"] if inference_only else ["name", *sections]
    # A run's config.toml adds "run", with its seed and device, and can be read as a recipe.
    known = ["name", "description", "source", "weights", *sections, "callbacks", "run"]
    require_keys("a recipe", table, known, required)
    data = _section(table, "data", ["name"], ["name"])
    model = _section(table, "model", ["layers"], ["layers"])
    training = _training_options(table.get("training", {}), inference_only)
    if not re.fullmatch(r"\w[\w.-]*", str(table["name"])):
        raise ConfigurationError(
            f"name must be letters, digits, '-', '_' and '.', as in a file's name, not {table['name']!r}"
        )
    _section(table, "run", ["seed", "device"], [])
    recipe = Recipe(
        name=_text("name", table["name"]),
        description=_text("description", table.get("description", "")),
        source=_text("source", table.get("source", "")),
        data=_text("data.name", data["name"]),
        layers=model["layers"],
        loss=table.get("loss"),
        optimizer=table.get("optimizer"),
        weights=_text("weights", table["weights"]) if inference_only else None,
        callbacks=_tables("callbacks", table.get("callbacks", [])),
        **training,
    )
    recipe.build_model()
    for kind in ("loss", "optimizer"):
        if not inference_only:
            located(kind, build, kind, table[kind])
    return recipe


def _training_options(table: Any, inference_only: bool) -> dict[str, Any]:
    """The values in a [training] table and in its [training.early_stopping], checked, by name."""
    options = Recipe.options()
    own, early = (_options_in(section, options) for section in ("training", "early_stopping"))
    if not isinstance(table, dict):
        raise ConfigurationError(f"training must be a table, got {table!r}")
    required = [] if inference_only else [name for name, option in own.items() if option.required]
    require_keys("training", table, [*own, "early_stopping"], required)
    values = {name: own[name].check(f"training.{name}", table[name]) for name in own if name in table}
    if "early_stopping" in table:
        where = "training.early_stopping"
        if not isinstance(nested := table["early_stopping"], dict):
            raise ConfigurationError(f"{where} must be a table, got {nested!r}")
        require_keys(where, nested, early, [name for name, option in early.items() if option.required])
        values |= {name: early[name].check(f"{where}.{name}", nested[name]) for name in early if name in nested}
    _require_one_way_of_validation(values)
    return values


def _begins_with_scaling(model: Any) -> bool:
    layers = model.get("layers") if isinstance(model, dict) else None
    first = layers[0] if isinstance(layers, list) and layers else None
    return isinstance(first, dict) and first.get("type") in ("Rescale", "Standardize")


def _options_in(table: str, options: Mapping[str, Option]) -> dict[str, Option]:
    return {name: option for name, option in options.items() if option.table == table}


def _require_one_way_of_validation(given: Mapping[str, Any]) -> None:
    if given.get("validate_on_test") and "validation_fraction" in given:
        raise ConfigurationError("give either validate_on_test or a validation_fraction: a run has one validation set")


def _with_rate(table: Table, rate: float) -> Table:
    """The table with another learning rate: in a schedule's table, its initial or peak rate."""
    inner = table.get("learning_rate")
    return {**table, "learning_rate": _with_rate(inner, rate) if isinstance(inner, dict) else rate}


def _section(table: Table, name: str, keys: Iterable[str], required: list[str]) -> Table:
    section = table.get(name, {})
    if not isinstance(section, dict):
        raise ConfigurationError(f"{name} must be a table, got {section!r}")
    require_keys(name, section, keys, required)
    return section


def _tables(name: str, value: Any) -> list[Table]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ConfigurationError(f"{name} must be a list of tables, got {value!r}")
    return value


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ConfigurationError(f"{name} must be a text, not {value!r}")
    if "\0" in value:
        raise ConfigurationError(f"{name} holds a NUL character: leave it out")
    return value
