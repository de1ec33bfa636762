"""``xpnet train``: train a recipe, or resume a run."""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from xpnet.cli.arguments import add_data_dir, add_device, model_file, say
from xpnet.cli.plugins import add_plugin
from xpnet.configuration.options import Option, TrainingOptions
from xpnet.errors import ConfigurationError, MissingFileError

NAME = "train"
HELP = "Train a network by a recipe, or resume an earlier run."
EXAMPLE = "xpnet train --recipe keras-sigmoid --data mnist --seed 1"
DEFAULT_RECIPE = "torch-mlp"
FALLBACK = "digits"

_NEW_RUN_FLAGS = {"recipe": "--recipe", "weights": "--weights", "seed": "--seed", "out": "--out"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--recipe", metavar="NAME|FILE.toml", help=f"default {DEFAULT_RECIPE}; see xpnet recipes")
    parser.add_argument("--data", metavar="NAME|FILE", help="mnist, fashion-mnist, digits or an .npz file")
    add_data_dir(parser)
    add_device(parser)
    parser.add_argument(
        "--seed", type=int, metavar="N", help="seed of initial weights, order and validation split; default 0"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="the run's folder; default runs/RECIPE-N")
    parser.add_argument(
        "--weights", type=Path, metavar="FILE|RUN_DIR", help="checkpoint to start from; its weights are matched by name"
    )
    parser.add_argument("--resume", type=Path, metavar="DIR", help="continue the run in that folder")
    parser.add_argument("--stop-after-epoch", type=int, metavar="N", help="stop after epoch N; --resume continues")
    add_plugin(parser)
    groups = {
        True: parser.add_argument_group("training options", "default: the recipe's"),
        False: parser.add_argument_group("training options of a new run, not for --resume", "default: the recipe's"),
    }
    for option in TrainingOptions.options().values():
        _add_option(groups[option.resumable], option)


def _add_option(parser: Any, option: Option) -> None:
    arguments: dict[Any, dict[str, Any]] = {
        int: {"type": int, "metavar": "N"},
        float: {"type": float, "metavar": "X"},
        str: {"metavar": "NAME"},
        list: {"action": "append", "metavar": "NAME"},
        bool: {"action": argparse.BooleanOptionalAction},
    }
    parser.add_argument(option.flag, dest=option.name, default=None, help=option.help, **arguments[option.parse])


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Train, and return the run's summary."""
    import xpnet
    from xpnet import training
    from xpnet.cli.stopping import StopOnSignal

    backend = xpnet.backend(options.device)
    with StopOnSignal() as stop:
        callbacks = [training.Progress(), stop]
        result = (_start if options.resume is None else _resume)(options, backend, callbacks)
    stop.require_done(result)
    return result


def _start(options: argparse.Namespace, backend: Any, callbacks: list[Any]) -> dict[str, Any]:
    from xpnet import training

    recipe, dataset = _recipe_and_data(options)
    say(f"device: {_describe(backend.name, options.device)}   recipe: {recipe.name}   data: {dataset.name}")
    return training.train(
        recipe,
        dataset,
        backend,
        seed=options.seed or 0,
        out=options.out,
        weights=None if options.weights is None else model_file(options.weights),
        stop_after_epoch=options.stop_after_epoch,
        callbacks=callbacks,
    )


def _resume(options: argparse.Namespace, backend: Any, callbacks: list[Any]) -> dict[str, Any]:
    import xpnet
    from xpnet import training

    _require_no_new_run_flags(options)
    say(f"device: {_describe(backend.name, options.device)}")
    return training.resume(
        options.resume,
        backend,
        partial(xpnet.data.load, data_dir=options.data_dir),
        data=_data_name(options.data),
        stop_after_epoch=options.stop_after_epoch,
        callbacks=callbacks,
        **_training_options(options),
    )


def render(result: dict[str, Any]) -> str:
    """The summary, for people."""
    summary = {key: value for key, value in result.items() if key != "diagnoses"}
    width = max(20, *(len(key) + 2 for key in summary))
    lines = [
        f"{key:<{width}}{value:.4f}" if isinstance(value, float) else f"{key:<{width}}{value}"
        for key, value in summary.items()
    ]
    return "\n".join(lines + [f"warning: {message}" for message in result["diagnoses"]])


def _recipe_and_data(options: argparse.Namespace) -> tuple[Any, Any]:
    import xpnet
    from xpnet.training.runs import require_trainable

    name = options.recipe or (FALLBACK if options.data == FALLBACK else DEFAULT_RECIPE)
    recipe = xpnet.load_recipe(name)
    require_trainable(recipe)
    recipe = _with_options(recipe, options)
    try:
        return recipe, xpnet.data.load(recipe.data, data_dir=options.data_dir)
    except MissingFileError as error:
        if options.recipe is not None or options.data is not None:
            raise
        say(f"{error}\nNo data set was named, so the recipe {FALLBACK!r} runs instead, on the bundled 8x8 digits.")
        recipe = _with_options(xpnet.load_recipe(FALLBACK), options)
        return recipe, xpnet.data.load(recipe.data)


def _with_options(recipe: Any, options: argparse.Namespace) -> Any:
    recipe = replace(recipe, data=_data_name(recipe.data))
    return recipe.with_options(_data_name(options.data), **_training_options(options))


def _training_options(options: argparse.Namespace) -> dict[str, Any]:
    """The training options that were given; an error calls one by its flag."""
    known = TrainingOptions.options()
    given = {name: value for name in known if (value := getattr(options, name)) is not None}
    return {name: known[name].check(known[name].flag, value) for name, value in given.items()}


def _data_name(data: str | None) -> str | None:
    # A file by its absolute path, so that the run can be resumed from another folder.
    return str(Path(data).resolve()) if data is not None and data.lower().endswith(".npz") else data


def _require_no_new_run_flags(options: argparse.Namespace) -> None:
    flags = _NEW_RUN_FLAGS | {
        name: option.flag for name, option in TrainingOptions.options().items() if not option.resumable
    }
    given = [flag for name, flag in flags.items() if getattr(options, name) is not None]
    if given:
        raise ConfigurationError(f"--resume continues with the run's own configuration: leave out {', '.join(given)}")


def _describe(device: str, asked_for: str) -> str:
    if asked_for != "auto" or device == "cuda":
        return device
    return f"{device} (xpnet doctor says why not cuda)"
