"""``xpnet profile``: measure the parts of a training step."""

from __future__ import annotations

import argparse
from typing import Any

from xpnet.cli.arguments import add_data_dir, add_device, say
from xpnet.cli.plugins import add_plugin

NAME = "profile"
HELP = "Measure the time of a training step, layer by layer, and compare it with the machine's peak rates."
EXAMPLE = "xpnet profile --recipe torch-mlp --data mnist"
DEFAULT_RECIPE = "torch-mlp"

_SCALES = {"FLOP": (1e9, "GFLOP/s"), "B": (1e9, "GB/s")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--recipe", default=DEFAULT_RECIPE, metavar="NAME|FILE.toml", help=f"default {DEFAULT_RECIPE}")
    parser.add_argument("--data", metavar="NAME|FILE", help="default: the recipe's")
    add_data_dir(parser)
    add_device(parser)
    parser.add_argument("--batch-size", type=int, metavar="N", help="samples per step; default: the recipe's")
    parser.add_argument("--optimizer", metavar="NAME", help="default: the recipe's")
    parser.add_argument("--steps", type=int, default=200, metavar="N", help="steps to measure; default 200")
    add_plugin(parser)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Profile, and return the measurements."""
    import xpnet
    from xpnet.profile import profile_step

    backend = xpnet.backend(options.device)
    recipe = xpnet.load_recipe(options.recipe)
    recipe = recipe.with_options(data=options.data, batch_size=options.batch_size, optimizer=options.optimizer)
    dataset = xpnet.data.load(recipe.data, data_dir=options.data_dir)
    say(f"device: {backend.name}   recipe: {recipe.name}   data: {dataset.name}   batch: {recipe.batch_size}")
    return profile_step(recipe, dataset, backend, steps=options.steps).to_table()


def render(result: dict[str, Any]) -> str:
    """The table, for people."""
    peaks = result["peaks"]
    whole = result["rest"] + sum(part["seconds"] for part in result["parts"])
    lines = [f"{'part':<14}{'operation':<12}{'time':>10}{'share':>8}{'achieved':>18}{'of peak':>9}"]
    for part in result["parts"]:
        scale, unit = _SCALES[part["unit"]]
        rate = part["work"] / part["seconds"] if part["seconds"] else 0.0
        lines.append(
            f"{part['name']:<14}{part['operation']:<12}{part['seconds'] * 1e6:>7.1f} us{part['seconds'] / whole:>8.0%}"
            f"{rate / scale:>10.1f} {unit:<7}{rate / peaks[part['unit']]:>9.0%}"
        )
    lines.append(f"{'the rest':<26}{result['rest'] * 1e6:>7.1f} us{result['rest'] / whole:>8.0%}")
    lines.append(f"{'whole step, not profiled':<28}{result['seconds'] * 1e6:>5.1f} us")
    reached = ", ".join(f"{peaks[unit] / scale:.0f} {name}" for unit, (scale, name) in _SCALES.items())
    memory = "" if result["memory"] is None else f"; memory at most {result['memory'] / 2**20:.0f} MiB"
    return "\n".join([*lines, f"peaks: {reached} (a large matrix product, a copy in memory){memory}"])
