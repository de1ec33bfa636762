"""``xpnet train``: train a recipe, or go on with a run."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from xpnet.cli.arguments import add_data_dir, add_device, say
from xpnet.errors import ConfigurationError, MissingFileError

NAME = "train"
HELP = "Train a network by a recipe, or go on with an earlier run."
EXAMPLE = "xpnet train --recipe keras-sigmoid --data mnist --seed 1"
DEFAULT_RECIPE = "torch-mlp"
FALLBACK = "digits"

_FRESH_RUN_ONLY = ("recipe", "batch_size", "lr", "optimizer", "seed", "out", "validation_fraction")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--recipe", metavar="NAME|FILE.toml", help=f"default {DEFAULT_RECIPE}; see xpnet recipes")
    parser.add_argument("--data", metavar="NAME|FILE", help="mnist, fashion-mnist, digits or a .npz file")
    add_data_dir(parser)
    add_device(parser)
    parser.add_argument("--epochs", type=int, metavar="N", help="passes over the training set, in all")
    parser.add_argument("--batch-size", type=int, metavar="N", help="samples in a step")
    parser.add_argument("--lr", type=float, metavar="X", help="learning rate; that which a schedule begins with")
    parser.add_argument("--optimizer", metavar="NAME", help="sgd, momentum, nesterov, adagrad, rmsprop, adam, adamw …")
    parser.add_argument("--seed", type=int, metavar="N", help="of initial weights and of the order; default 0")
    parser.add_argument("--out", type=Path, metavar="DIR", help="the run's folder; default runs/RECIPE-N")
    parser.add_argument("--checkpoint-every", type=int, metavar="N", help="save every N steps too; changes no result")
    parser.add_argument(
        "--on-nonfinite", metavar="WHAT", help="stop (default) at a step that is not finite, or skip it and count"
    )
    parser.add_argument(
        "--validation-fraction",
        type=float,
        metavar="X",
        help="set that part of the training set aside to choose the best by; the test set is seen once, at the end",
    )
    parser.add_argument(
        "--patience", type=int, metavar="N", help="stop after N evaluations in a row without a better one"
    )
    parser.add_argument("--min-delta", type=float, metavar="X", help="how much better counts as better; default 0")
    parser.add_argument(
        "--log", action="append", metavar="WHAT", help="csv or tensorboard: keep the figures so too; may be given twice"
    )
    parser.add_argument("--resume", type=Path, metavar="DIR", help="go on with the run in that folder")
    parser.add_argument("--stop-after-epoch", type=int, metavar="N", help="stop early there, to be resumed")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Train, and return the run's figures."""
    import xpnet
    from xpnet import training
    from xpnet.cli.stopping import StopOnSignal

    backend = xpnet.backend(options.device)
    with StopOnSignal() as stop:
        callbacks = [training.Progress(), stop]
        result = (_start if options.resume is None else _go_on)(options, backend, callbacks)
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
        stop_after_epoch=options.stop_after_epoch,
        callbacks=callbacks,
    )


def _go_on(options: argparse.Namespace, backend: Any, callbacks: list[Any]) -> dict[str, Any]:
    import xpnet
    from xpnet import training

    _refuse_fresh_run_options(options)
    say(f"device: {_describe(backend.name, options.device)}")
    return training.resume(
        options.resume,
        backend,
        partial(xpnet.data.load, data_dir=options.data_dir),
        data=_data_name(options.data),
        epochs=options.epochs,
        checkpoint_every=options.checkpoint_every,
        on_nonfinite=options.on_nonfinite,
        patience=options.patience,
        min_delta=options.min_delta,
        logs=options.log,
        stop_after_epoch=options.stop_after_epoch,
        callbacks=callbacks,
    )


def render(result: dict[str, Any]) -> str:
    """The figures, for people."""
    figures = {key: value for key, value in result.items() if key != "diagnoses"}
    width = max(20, *(len(key) + 2 for key in figures))
    lines = [
        f"{key:<{width}}{value:.4f}" if isinstance(value, float) else f"{key:<{width}}{value}"
        for key, value in figures.items()
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
    data = _data_name(recipe.data if options.data is None else options.data)
    return recipe.with_options(
        data,
        options.epochs,
        options.batch_size,
        options.lr,
        options.optimizer,
        options.checkpoint_every,
        options.on_nonfinite,
        options.validation_fraction,
        options.patience,
        options.min_delta,
        options.log,
    )


def _data_name(data: str | None) -> str | None:
    # A file by its absolute path, so that the run can be resumed from another folder.
    return str(Path(data).resolve()) if data is not None and data.lower().endswith(".npz") else data


def _refuse_fresh_run_options(options: argparse.Namespace) -> None:
    given = [f"--{name.replace('_', '-')}" for name in _FRESH_RUN_ONLY if getattr(options, name) is not None]
    if given:
        raise ConfigurationError(f"--resume goes by the run's own configuration: leave out {', '.join(given)}")


def _describe(device: str, asked_for: str) -> str:
    if asked_for != "auto" or device == "cuda":
        return device
    return f"{device} (xpnet doctor says why not cuda)"
