"""``xpnet parity``: compare the results of several backends."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from xpnet.cli.arguments import add_data_dir, say
from xpnet.cli.plugins import add_plugin

NAME = "parity"
HELP = "Compare the results of backends, layer by layer; exit status 1 if they differ by more than rounding."
EXAMPLE = "xpnet parity --recipe torch-mlp --backends float64,cpu"
DEFAULT_RECIPE = "torch-mlp"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    network = parser.add_mutually_exclusive_group()
    network.add_argument("--recipe", metavar="NAME|FILE.toml", help=f"default {DEFAULT_RECIPE}")
    network.add_argument("--checkpoint", type=Path, metavar="FILE", help="a run's checkpoint to start from")
    parser.add_argument(
        "--backends",
        metavar="A,B,…",
        help="backends, the reference first; default float64,cpu-reference,cpu, and cuda where it works",
    )
    parser.add_argument(
        "--precision",
        default="float32",
        metavar="P",
        help="of all backends but the reference: float32, or bf16 (on cpu-reference and cuda), or tf32 (on cuda)",
    )
    parser.add_argument("--data", metavar="NAME|FILE", help="default: the recipe's")
    add_data_dir(parser)
    parser.add_argument("--steps", type=int, default=10, metavar="N", help="steps to compare; default 10")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of initial weights and order; default 0")
    add_plugin(parser)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Compare, and return all results."""
    import xpnet
    from xpnet import training
    from xpnet.backends import PRECISIONS
    from xpnet.errors import one_of
    from xpnet.parity import compare_recipe

    one_of("precision", options.precision, PRECISIONS)
    if options.backends is None:
        on_cpu = {"float32": ["cpu-reference", "cpu"], "bf16": ["cpu-reference"]}.get(options.precision, [])
        names = ["float64", *on_cpu, *([] if on_cpu and xpnet.cuda_problem() else ["cuda"])]
    else:
        names = [name.strip() for name in options.backends.split(",")]
    reference, *others = map(xpnet.backend, names)
    backends = [reference, *(backend.at_precision(options.precision) for backend in others)]
    if options.checkpoint is None:
        model, recipe = None, xpnet.load_recipe(options.recipe or DEFAULT_RECIPE)
    else:
        model, metadata = training.load_model_and_metadata(options.checkpoint, backends[0])
        recipe = training.recipe_of(metadata, str(options.checkpoint))
    recipe = recipe.with_options(data=options.data)
    dataset = xpnet.data.load(recipe.data, data_dir=options.data_dir)
    say(f"backends: {', '.join(backend.name for backend in backends)}   recipe: {recipe.name}   data: {dataset.name}")
    parity = compare_recipe(recipe, dataset, backends, steps=options.steps, seed=options.seed, model=model)
    table = {"recipe": recipe.name, "data": dataset.name, "seed": options.seed, **parity.to_table()}
    for name in ("rows", "drift"):
        table[name] = [training.finite_or_null(row) for row in table[name]]
    first = table["first_divergence"]
    return {**table, "first_divergence": first and training.finite_or_null(first)}


def status(result: dict[str, Any]) -> int:
    """1 when something diverges."""
    return 0 if result["first_divergence"] is None else 1


def render(result: dict[str, Any]) -> str:
    """The table, for people."""
    width = max(len(row["layer"]) for row in result["rows"]) + 2
    lines = [_line(width, "backend", "layer", "quantity", "array", "ulps", "bound", "relative", "verdict")]
    for row in result["rows"]:
        verdict = "ok" if row["agrees"] else "DIVERGES"
        names = (row[name] for name in ("backend", "layer", "quantity", "array"))
        lines.append(_line(width, *names, *(_number(row[name]) for name in ("ulps", "bound", "relative")), verdict))
    for drift in result["drift"]:
        lines.append(
            f"{drift['backend']}, trained independently: relative distance of the parameters from "
            f"{result['backends'][0]}'s {_number(drift['parameters'])}, difference of the loss {_number(drift['loss'])}"
        )
    return "\n".join([*lines, _conclusion(result)])


def _line(width: int, backend: str, layer: str, quantity: str, array: str, *more: str) -> str:
    ulps, bound, relative, verdict = more
    where = f"{backend:<15}{layer:<{width}}{quantity:<16}{array:<8}"
    return f"{where}{ulps:>10}{bound:>10}{relative:>10}  {verdict}"


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.3g}"


def _conclusion(result: dict[str, Any]) -> str:
    row, steps = result["first_divergence"], result["steps"]
    if row is None:
        return f"{', '.join(result['backends'])} agree in {steps} steps"
    return (
        f"first divergence: layer {row['layer']}, {row['quantity']} ({row['array']}), on {row['backend']} at step "
        f"{row['step']}: {_number(row['ulps'])} ulps from {result['backends'][0]}, where rounding explains "
        f"{_number(row['bound'])}"
    )
