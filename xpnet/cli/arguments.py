"""Options that several commands share."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from xpnet.errors import MissingFileError

DEVICES = "auto (CUDA where it works, else the CPU), cpu, cuda, cuda:1 (of several GPUs), cpu-reference or float64"


def add_device(parser: argparse.ArgumentParser) -> None:
    """``--device``."""
    parser.add_argument("--device", default="auto", metavar="D", help=f"where to compute: {DEVICES}; default auto")


def add_data_dir(parser: argparse.ArgumentParser) -> None:
    """``--data-dir``."""
    parser.add_argument(
        "--data-dir",
        metavar="DIR",
        help="folder of mnist and fashion-mnist; default: $XPNET_DATA_DIR, else the user's cache, else a download",
    )


def add_model_file(parser: argparse.ArgumentParser) -> None:
    """``FILE|RUN_DIR``: a trained network."""
    parser.add_argument(
        "file", type=Path, metavar="FILE|RUN_DIR", help="a .safetensors or .pkl file, or a run's folder"
    )


def model_file(path: Path) -> Path:
    """The file itself, or a run's best checkpoint."""
    if not path.is_dir():
        return path
    for name in ("best.safetensors", "last.safetensors"):
        if (path / name).is_file():
            return path / name
    raise MissingFileError(f"{path} is a folder without best.safetensors or last.safetensors: name a run's folder")


def shape(text: str) -> tuple[int, ...]:
    """Parse a shape, such as ``1,28,28``."""
    return tuple(int(length) for length in text.split(","))


def say(line: str) -> None:
    """Print a line to stderr: stdout is for the result."""
    print(line, file=sys.stderr, flush=True)
