"""``xpnet import``: read weights that another library trained."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from xpnet.cli.arguments import shape
from xpnet.cli.plugins import add_plugin
from xpnet.errors import ConfigurationError

NAME = "import"
HELP = "Convert weights from PyTorch (.safetensors), Keras (.weights.h5, .npz) or DeZero (.npz) to a checkpoint."
EXAMPLE = "xpnet import theirs.safetensors --recipe torch-mlp --out model.safetensors"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("file", type=Path, metavar="FILE", help="the weights; the extension says in which format")
    parser.add_argument(
        "--recipe", required=True, metavar="NAME|FILE.toml", help="the network they are for; see xpnet recipes"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="OUT.safetensors", help="the checkpoint to write")
    parser.add_argument(
        "--names", metavar="A,B,…", help="the file's layers in the model's order; default: all, sorted by name"
    )
    parser.add_argument(
        "--input-shape",
        type=shape,
        metavar="C,H,W",
        help="shape of one sample, for Keras; default: inferred from the first layer",
    )
    add_plugin(parser)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Import, and return the names of the tensors and where each came from."""
    import xpnet

    if options.out.resolve() == options.file.resolve():
        raise ConfigurationError(f"the checkpoint would overwrite {options.file}: give --out another name")
    recipe = xpnet.load_recipe(options.recipe)
    model = recipe.build_model().initialize(xpnet.backend("cpu-reference"))
    names = None if options.names is None else options.names.split(",")
    imported = xpnet.import_weights(model, options.file, names, options.input_shape)
    xpnet.save_model(model, options.out, recipe)
    return {"file": str(options.file), "out": str(options.out), "tensors": [entry._asdict() for entry in imported]}


def render(result: dict[str, Any]) -> str:
    """The tensors, for people."""
    lines = [_line(**entry) for entry in result["tensors"]]
    return "\n".join([*lines, f"xpnet evaluate {result['out']}"])


def _line(name: str, source: str, dtype: str) -> str:
    return f"{name:<12} from {source}" + ("" if dtype == "float32" else f", converted from {dtype} to float32")
