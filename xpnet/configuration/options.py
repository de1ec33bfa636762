"""The table of training options.

Recipe files, the command line, ``Recipe.with_options``, the arguments of ``Trainer`` and ``Trainer.fit``, and what
``resume`` can change derive from it. Importing it must not import NumPy: ``xpnet train --help`` lists it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any

from xpnet.errors import ConfigurationError, finite_number, one_of, positive_integer

ON_NONFINITE = ("stop", "skip")  # the first is the default, here and below
MONITORS = ("accuracy", "loss")
LOGS = ("csv", "tensorboard")


@dataclass(frozen=True)
class Option:
    """One training option.

    Attributes:
        name: its keyword in Python, and its key in a recipe file.
        check: takes the name that the user typed and a value; returns the value, or raises ConfigurationError.
        help: one line.
        parse: what the command line makes of the text: ``int``, ``float`` or ``str``; ``bool`` for a switch, ``list``
            for a flag that may be repeated.
        flag: on the command line.
        table: its table in a recipe file: "training", "early_stopping" within that, or "optimizer".
        argument_of: what takes it as an argument: "Trainer", "fit" or "EarlyStopping"; "" where the run itself does.
        required: whether its table must have it.
        resumable: whether ``resume`` can change it.
        default: its value where it is not given.

    >>> TrainingOptions.options()["epochs"].flag
    '--epochs'
    """

    name: str
    check: Callable[[str, Any], Any]
    help: str
    parse: type
    flag: str
    table: str = "training"
    argument_of: str = ""
    required: bool = False
    resumable: bool = False
    default: Any = None


def option(
    check: Callable[[str, Any], Any], help: str, parse: type = int, default: Any = None, flag: str = "", **more: Any
) -> Any:
    """A field of :class:`TrainingOptions`; the option's name and, unless given, its flag come from the field's name."""
    return field(default=default, metadata={"option": Option("", check, help, parse, flag, **more)})


def boolean(name: str, value: object) -> bool:
    """Return ``value`` when it is a bool, else raise ConfigurationError."""
    if not isinstance(value, bool):
        raise ConfigurationError(f"{name} must be true or false, not {value!r}")
    return value


def _logs(name: str, value: Any) -> list[str]:
    if not isinstance(value, list):
        raise ConfigurationError(f"{name} must be a list of {', '.join(LOGS)}, not {value!r}")
    return [one_of(f"{name} entry", entry, LOGS) for entry in value]


def _sampler(name: str, value: Any) -> str:
    from xpnet.data.samplers import SAMPLERS

    return one_of(name, value, SAMPLERS)


def _precision(name: str, value: Any) -> str:
    from xpnet.backends import PRECISIONS

    return one_of(name, value, PRECISIONS)


def _optimizer(name: str, value: Any) -> str:
    from xpnet.registry import names

    by_lower = {known.lower(): known for known in names("optimizer")}
    return by_lower[one_of(name, str(value).lower(), by_lower)]


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """The options of a recipe's table [training]; each field is an :class:`Option`, and ``option.help`` describes it.

    >>> TrainingOptions(epochs=3).batch_size
    100
    """

    epochs: int | None = option(
        positive_integer, "total passes over the training set", argument_of="fit", resumable=True
    )
    steps: int | None = option(positive_integer, "total steps, instead of epochs", argument_of="fit", resumable=True)
    batch_size: int = option(positive_integer, "samples per step", default=100, argument_of="fit", required=True)
    micro_batch_size: int | None = option(
        positive_integer,
        "samples computed at a time, to save memory; their gradients are accumulated",
        argument_of="Trainer",
    )
    sampler: str = option(
        _sampler, "order of the samples: shuffled, in-order or with-replacement", str, "shuffled", argument_of="fit"
    )
    evaluate_every: int | None = option(
        positive_integer, "steps between evaluations; without it, one after each epoch", argument_of="fit"
    )
    evaluate_train: bool = option(
        boolean,
        "evaluate on the whole training set too, instead of averaging the losses of the batches",
        bool,
        False,
        argument_of="fit",
    )
    checkpoint_every: int | None = option(
        positive_integer,
        "steps between checkpoints, besides those after evaluations and epochs; changes no result",
        argument_of="fit",
        resumable=True,
    )
    on_nonfinite: str = option(
        partial(one_of, choices=ON_NONFINITE),
        "at a step whose loss or gradients are not finite: stop, or skip the step and count it",
        str,
        ON_NONFINITE[0],
        argument_of="Trainer",
        resumable=True,
    )
    precision: str = option(
        _precision,
        "of the passes: float32; tf32: products' factors rounded to TF32; bf16: activations in bfloat16",
        str,
        "float32",
        argument_of="Trainer",
    )
    ema_decay: float | None = option(
        partial(finite_number, low=0.0, below=1.0),
        "decay of an exponential moving average of the weights, which is evaluated and saved",
        float,
        argument_of="Trainer",
    )
    validation_fraction: float = option(
        partial(finite_number, low=0.0, below=1.0),
        "fraction of the training set to validate on, which chooses the best checkpoint; 0: no validation",
        float,
        0.1,
    )
    validate_on_test: bool = option(
        boolean,
        "validate on the test set; it then chooses the best checkpoint, so its accuracy is optimistic",
        bool,
        False,
    )
    patience: int | None = option(
        positive_integer,
        "stop early after N evaluations in a row without improvement",
        table="early_stopping",
        argument_of="EarlyStopping",
        required=True,
        resumable=True,
    )
    min_delta: float = option(
        partial(finite_number, low=0.0),
        "minimum improvement that counts for early stopping",
        float,
        0.0,
        table="early_stopping",
        argument_of="EarlyStopping",
        resumable=True,
    )
    monitor: str = option(
        partial(one_of, choices=MONITORS),
        "what early stopping monitors on the validation set: accuracy or loss",
        str,
        MONITORS[0],
        table="early_stopping",
        argument_of="EarlyStopping",
        resumable=True,
    )
    logs: list[str] | None = option(  # noqa: RUF009 - a field, like the others
        _logs, "also log the metrics as csv, or for tensorboard; repeatable", list, flag="--log", resumable=True
    )

    @classmethod
    def options(cls) -> dict[str, Option]:
        """The table: every option by name, those of the optimizer's table included."""
        own = {
            item.name: replace(
                item.metadata["option"],
                name=item.name,
                default=item.default,
                flag=item.metadata["option"].flag or f"--{item.name.replace('_', '-')}",
            )
            for item in fields(cls)
            if "option" in item.metadata
        }
        return own | _OPTIMIZER_OPTIONS

    def arguments_of(self, target: str) -> dict[str, Any]:
        """The keyword arguments of "Trainer", "fit" or "EarlyStopping".

        >>> TrainingOptions(patience=3).arguments_of("EarlyStopping")
        {'patience': 3, 'min_delta': 0.0, 'monitor': 'accuracy'}
        """
        return {name: getattr(self, name) for name, option in self.options().items() if option.argument_of == target}


_OPTIMIZER_OPTIONS = {
    "optimizer": Option(
        "optimizer",
        _optimizer,
        "sgd, momentum, nesterov, adagrad, rmsprop, adam, adamw or lion, with its own defaults",
        str,
        "--optimizer",
        table="optimizer",
    ),
    "learning_rate": Option(
        "learning_rate",
        partial(finite_number, low=0.0),
        "initial learning rate; of a one-cycle schedule, the peak",
        float,
        "--lr",
        table="optimizer",
    ),
}
