"""Names and classes: a model, a recipe, a run, to and from TOML."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from xpnet.data.samplers import SAMPLERS, steps_per_epoch
from xpnet.data.splits import require_fraction
from xpnet.errors import (
    ConfigurationError,
    MissingFileError,
    finite_number,
    one_of,
    positive_integer,
    require_moderate,
)
from xpnet.layers import Sequential
from xpnet.registry import Table, build, build_all, located, names, require_keys

ON_NONFINITE = ("stop", "skip")  # what becomes of a step that is not finite; the first is the default
MONITORS = ("accuracy", "loss")  # what early stopping looks at; the first is the default
LOGS = ("csv", "tensorboard")  # in which forms a run's figures are kept, beside metrics.jsonl


@dataclass(frozen=True)
class Recipe:
    """A training run, written down: data, network, loss, optimizer and schedule.

    Attributes:
        name, description, source: for people.
        data: name of a data set or path of an .npz file.
        scale: whether pixels are divided by the data set's pixel range.
        layers, loss, optimizer: tables for ``build``.
        batch_size: rows in a step.
        sampler: "shuffled", "in-order" or "with-replacement".
        epochs, steps: how long; one of the two is None.
        evaluate_every: steps between evaluations; None: at the end of each epoch.
        evaluate_train: whether the figures for the training set are measured at each evaluation (over the whole
            set, with the weights of that moment) instead of gathered while training.
        micro_batch_size, ema_decay: see :class:`~xpnet.training.Trainer`.
        checkpoint_every: steps between checkpoints, beside those at evaluations and ends of epochs; None: those alone.
        on_nonfinite: "stop" or "skip": what becomes of a step that is not finite, see :class:`~xpnet.training.Trainer`.
        validation_fraction: how much of the training set is set aside to choose the best by, see
            :func:`~xpnet.data.split_validation`; the test set is then evaluated once, at the end. None: the test set
            is evaluated on all along, and the best chosen by it.
        early_stopping: the arguments of :class:`~xpnet.training.EarlyStopping`; None: never. Goes with a
            validation_fraction.
        logs: "csv" and "tensorboard", one or both; None: metrics.jsonl alone.
        weights: a file of ready weights, for a recipe that only infers; then nothing of the training is set.

    Raises:
        ConfigurationError: early stopping without a validation fraction.

    >>> recipe = load_recipe("digits").with_options(epochs=2)
    >>> recipe.data, recipe.total_steps(samples=1000), recipe.build_model().output_shape((8, 8))
    ('digits', 64, (10,))
    """

    name: str
    description: str
    source: str
    data: str
    scale: bool
    layers: list[Table]
    loss: Table | None
    optimizer: Table | None
    batch_size: int
    sampler: str
    epochs: int | None
    steps: int | None
    evaluate_every: int | None
    evaluate_train: bool
    checkpoint_every: int | None = None
    on_nonfinite: str = ON_NONFINITE[0]
    validation_fraction: float | None = None
    early_stopping: Table | None = None
    logs: list[str] | None = None
    weights: str | None = None
    micro_batch_size: int | None = None
    ema_decay: float | None = None

    def __post_init__(self) -> None:
        if self.early_stopping is not None and self.validation_fraction is None:
            raise ConfigurationError(
                "early stopping goes by a validation set, so that the test set stays unseen: give a "
                "validation_fraction (0.1, say)"
            )

    def build_model(self) -> Sequential:
        """A fresh, uninitialised model."""
        return Sequential(*build_all("layer", self.layers, "model.layers"))

    def with_options(
        self,
        data: str | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        optimizer: str | None = None,
        checkpoint_every: int | None = None,
        on_nonfinite: str | None = None,
        validation_fraction: float | None = None,
        patience: int | None = None,
        min_delta: float | None = None,
        logs: list[str] | None = None,
    ) -> Recipe:
        """A copy with some values replaced; another optimizer has its own defaults, a schedule keeps its form."""
        recipe = self if data is None else replace(self, data=data)
        if epochs is not None:
            recipe = replace(recipe, epochs=positive_integer("epochs", epochs), steps=None)
        if batch_size is not None:
            recipe = replace(recipe, batch_size=positive_integer("batch_size", batch_size))
        if checkpoint_every is not None:
            recipe = replace(recipe, checkpoint_every=positive_integer("checkpoint_every", checkpoint_every))
        if on_nonfinite is not None:
            recipe = replace(recipe, on_nonfinite=one_of("on_nonfinite", on_nonfinite, ON_NONFINITE))
        if validation_fraction is not None:
            fraction = require_fraction("validation_fraction", validation_fraction)
            recipe = replace(recipe, validation_fraction=fraction)
        early_stopping = {"patience": patience, "min_delta": min_delta}
        if given := {key: value for key, value in early_stopping.items() if value is not None}:
            recipe = replace(recipe, early_stopping=_early_stopping({**(recipe.early_stopping or {}), **given}))
        if logs is not None:
            recipe = replace(recipe, logs=_logs("logs", logs))
        if optimizer is not None:
            by_lower = {name.lower(): name for name in names("optimizer")}
            name = by_lower[one_of("optimizer", optimizer.lower(), by_lower)]
            recipe = replace(recipe, optimizer={"type": name})
        if learning_rate is not None and recipe.optimizer is not None:
            rate = finite_number("learning rate", learning_rate, low=0.0)
            recipe = replace(recipe, optimizer=_with_rate(recipe.optimizer, rate))
        return recipe

    def total_steps(self, samples: int) -> int:
        """How many steps a run has on so many samples."""
        return self.steps or (self.epochs or 0) * steps_per_epoch(samples, self.batch_size)

    def to_table(self) -> Table:
        """The nested table that ``recipe_from_table`` reads, ready for TOML."""
        training = {key: getattr(self, key) for key in _TRAINING_KEYS}
        table = {
            **{key: getattr(self, key) for key in ("name", "description", "source")},
            "data": {"name": self.data, "scale": self.scale},
            "model": {"layers": self.layers},
            "loss": self.loss,
            "optimizer": self.optimizer,
            "training": {key: value for key, value in training.items() if value is not None},
            "weights": self.weights,
        }
        if self.weights is not None:
            table["training"] = None
        return {key: value for key, value in table.items() if value is not None}


_COUNTS = ("batch_size", "epochs", "steps", "evaluate_every", "checkpoint_every", "micro_batch_size")
_TRAINING_KEYS = (
    *_COUNTS,
    "sampler",
    "evaluate_train",
    "on_nonfinite",
    "ema_decay",
    "validation_fraction",
    "early_stopping",
    "logs",
)


def recipe_from_table(table: Table) -> Recipe:
    """Check a recipe's table, the names and values of everything in it, and return the recipe.

    Raises:
        ConfigurationError: an unknown key, a missing one or an impossible value; the message says where and lists
            the right ones.

    >>> table = load_recipe("digits").to_table()
    >>> recipe_from_table(table) == load_recipe("digits")
    True
    >>> recipe_from_table({**table, "name": "my recipe"})
    Traceback (most recent call last):
    xpnet.errors.ConfigurationError: name must be letters, digits, '-', '_' and '.', ..., not 'my recipe'
    """
    if not isinstance(table, dict):
        raise ConfigurationError(f"a recipe must be a table, not {table!r}")
    require_moderate("a recipe", table)
    sections = ["data", "model", "loss", "optimizer", "training"]
    inference_only = "weights" in table
    required = ["name", "data", "model"] if inference_only else ["name", *sections]
    # "run" is what a run's own config.toml adds: with which seed and where; so that file is a recipe too.
    require_keys("a recipe", table, ["name", "description", "source", "weights", *sections, "run"], required)
    data = _section(table, "data", ["name", "scale"], ["name"])
    model = _section(table, "model", ["layers"], ["layers"])
    training = _section(table, "training", _TRAINING_KEYS, [] if inference_only else ["batch_size"])
    epochs, steps = training.get("epochs"), training.get("steps")
    if not inference_only and (epochs is None) == (steps is None):
        raise ConfigurationError("training: give either 'epochs' or 'steps'")
    counts = {key: positive_integer(f"training.{key}", training[key]) for key in _COUNTS if key in training}
    ema_decay = training.get("ema_decay")
    if not re.fullmatch(r"\w[\w.-]*", str(table["name"])):
        raise ConfigurationError(
            f"name must be letters, digits, '-', '_' and '.', as in a file's name, not {table['name']!r}"
        )
    _section(table, "run", ["seed", "device"], [])
    recipe = Recipe(
        **{key: _typed(key, table.get(key, ""), str) for key in ("name", "description", "source")},
        data=_typed("data.name", data["name"], str),
        scale=_typed("data.scale", data.get("scale", True), bool),
        layers=model["layers"],
        loss=table.get("loss"),
        optimizer=table.get("optimizer"),
        batch_size=counts.get("batch_size", 100),
        sampler=one_of("training.sampler", training.get("sampler", "shuffled"), SAMPLERS),
        epochs=counts.get("epochs"),
        steps=counts.get("steps"),
        evaluate_every=counts.get("evaluate_every"),
        evaluate_train=_typed("training.evaluate_train", training.get("evaluate_train", False), bool),
        checkpoint_every=counts.get("checkpoint_every"),
        on_nonfinite=one_of("training.on_nonfinite", training.get("on_nonfinite", ON_NONFINITE[0]), ON_NONFINITE),
        validation_fraction=_optional(require_fraction, "training.validation_fraction", training),
        early_stopping=located("training", _early_stopping, training.get("early_stopping")),
        logs=_optional(_logs, "training.logs", training),
        weights=_typed("weights", table["weights"], str) if inference_only else None,
        micro_batch_size=counts.get("micro_batch_size"),
        ema_decay=None if ema_decay is None else finite_number("training.ema_decay", ema_decay, low=0.0, below=1.0),
    )
    recipe.build_model()
    for kind in ("loss", "optimizer"):
        if not inference_only:
            located(kind, build, kind, table[kind])
    return recipe


def _early_stopping(table: Any) -> Table | None:
    if table is None:
        return None
    _section({"early_stopping": table}, "early_stopping", ["patience", "min_delta", "monitor"], ["patience"])
    return {
        "patience": positive_integer("early_stopping.patience", table["patience"]),
        "min_delta": finite_number("early_stopping.min_delta", table.get("min_delta", 0.0), low=0.0),
        "monitor": one_of("early_stopping.monitor", table.get("monitor", MONITORS[0]), MONITORS),
    }


def _logs(name: str, value: Any) -> list[str]:
    if not isinstance(value, list):
        raise ConfigurationError(f"{name} must be a list of {', '.join(LOGS)}, not {value!r}")
    return [one_of(f"{name} entry", entry, LOGS) for entry in value]


def recipe_names() -> list[str]:
    """The recipes that come with xpnet.

    >>> "torch-mlp" in recipe_names()
    True
    """
    folder = resources.files("xpnet") / "recipes"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_recipe(name: str | Path) -> Recipe:
    """The recipe of that name, or in that ``.toml`` file.

    Raises:
        MissingFileError: the file is not there, or cannot be read.
        ConfigurationError: there is no such recipe, or it cannot work; the message says where.

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


LARGEST_RECIPE = 2**16  # bytes, twenty times the longest of ours: text becomes objects of up to 400 times its size
_LONG_KEY = re.compile(r"""(?<![\w-])(?>(?>[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){8}""")


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
    # For a key of n parts tomllib takes memory and time in proportion to n².
    if long_key := _LONG_KEY.search(text):
        raise ConfigurationError(f"a key of more than 8 parts: {long_key[0][:60]}…")
    try:
        table = tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError, and Python's own for a number of thousands of digits
        raise ConfigurationError(f"not valid TOML: {error}") from None
    except RecursionError:
        raise ConfigurationError("tables and lists are nested too deep") from None
    return recipe_from_table(table)


def _with_rate(table: Table, rate: float) -> Table:
    """The table with another learning rate, which in a schedule's is the one that it starts from or leads to."""
    inner = table.get("learning_rate")
    return {**table, "learning_rate": _with_rate(inner, rate) if isinstance(inner, dict) else rate}


def _section(table: Table, name: str, keys: Iterable[str], required: list[str]) -> Table:
    section = table.get(name, {})
    if not isinstance(section, dict):
        raise ConfigurationError(f"{name} must be a table, got {section!r}")
    require_keys(name, section, keys, required)
    return section


def _optional(check: Callable[[str, Any], Any], name: str, section: Table) -> Any:
    """The value under the last part of ``name``, checked; None where there is none."""
    key = name.rpartition(".")[2]
    return check(name, section[key]) if key in section else None


def _typed(name: str, value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        wanted = {"str": "a text", "bool": "true or false"}[kind.__name__]
        raise ConfigurationError(f"{name} must be {wanted}, not {value!r}")
    if isinstance(value, str) and "\0" in value:
        raise ConfigurationError(f"{name} holds a NUL, which no text or name of a file does")
    return value
