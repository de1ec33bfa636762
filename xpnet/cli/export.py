"""``xpnet export``: write a trained network for other libraries."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from xpnet.cli.arguments import add_model_file, model_file, shape
from xpnet.cli.plugins import add_plugin
from xpnet.errors import ConfigurationError

NAME = "export"
HELP = "Write a trained network for PyTorch (a state_dict in safetensors), or as ONNX."
EXAMPLE = "xpnet export runs/torch-mlp-1 --onnx torch-mlp.onnx"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    add_model_file(parser)
    parser.add_argument(
        "--pytorch", type=Path, metavar="OUT.safetensors", help="write a state_dict, and print its module"
    )
    parser.add_argument("--onnx", type=Path, metavar="OUT.onnx", help="write ONNX; needs pip install 'xpnet[onnx]'")
    parser.add_argument(
        "--input-shape",
        type=shape,
        metavar="C,H,W",
        help="shape of one sample; default: inferred from the first layer",
    )
    add_plugin(parser)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Export, and return what was written."""
    import xpnet

    if options.pytorch is None and options.onnx is None:
        raise ConfigurationError("nothing to write: give --pytorch OUT.safetensors, --onnx OUT.onnx, or both")
    path = model_file(options.file)
    if options.pytorch is not None and options.pytorch.resolve() == path.resolve():
        raise ConfigurationError(f"the export would overwrite {path}: give another name")
    model = xpnet.load_model(path, xpnet.backend("cpu-reference"))
    result: dict[str, Any] = {"file": str(path)}
    if options.onnx is not None:
        sample = xpnet.export_onnx(model, options.onnx, options.input_shape)
        dtype = "int64" if model.takes_integers else "float32"
        result |= {"onnx": str(options.onnx), "input_shape": list(sample), "input_dtype": dtype}
    if options.pytorch is not None:
        module = xpnet.export_pytorch(model, options.pytorch, options.input_shape)
        result |= {"module": module, "pytorch": str(options.pytorch)}
    return result


def render(result: dict[str, Any]) -> str:
    """What was written, for people."""
    lines = []
    if "onnx" in result:
        sample = ", ".join(map(str, ["N", *result["input_shape"]]))
        lines.append(f"{result['onnx']}   input {result['input_dtype']} ({sample})")
    if "pytorch" in result:
        lines += [
            f"{result['pytorch']}   for PyTorch:",
            result["module"],
            f"model.load_state_dict(safetensors.torch.load_file({result['pytorch']!r}))",
        ]
    return "\n".join(lines)
