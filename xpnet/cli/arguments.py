"""Options that several commands share."""

from __future__ import annotations

import argparse
import sys

DEVICES = "auto (CUDA where it works, else the CPU), cpu, cuda, cpu-reference or float64"


def add_device(parser: argparse.ArgumentParser) -> None:
    """``--device``."""
    parser.add_argument("--device", default="auto", metavar="D", help=f"where to compute: {DEVICES}; default auto")


def add_data_dir(parser: argparse.ArgumentParser) -> None:
    """``--data-dir``."""
    parser.add_argument(
        "--data-dir",
        metavar="DIR",
        help="where the folders mnist and fashion-mnist are; default: $XPNET_DATA_DIR, the user's cache, a download",
    )


def say(line: str) -> None:
    """Tell a person something that is not the result."""
    print(line, file=sys.stderr, flush=True)
