"""The command line: one small file per command."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence

from xpnet import __version__
from xpnet.cli import doctor, evaluate, export, import_weights, parity, profile, recipes, train
from xpnet.cli.plugins import load_plugin
from xpnet.cli.signals import Interrupted, handling, interrupt
from xpnet.errors import Error

COMMANDS = (train, evaluate, parity, profile, import_weights, export, recipes, doctor)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status.

    The status is 0, or what the command's ``status`` gives for its result; 2 after an error that the user can fix; 130
    or 143 after SIGINT or SIGTERM.
    """
    options = _parser().parse_args(arguments)
    try:
        with handling(interrupt):
            for path in getattr(options, "plugin", ()):
                load_plugin(path)
            result = options.run(options)
        _print(json.dumps(result, allow_nan=False) if options.json else options.render(result))
        return int(options.status(result))
    except (Error, OSError, MemoryError) as error:
        if options.debug:
            raise
        print(f"xpnet {options.command}: {str(error) or 'out of memory'}", file=sys.stderr)
        return 2
    except Interrupted as interruption:
        print(f"xpnet {options.command}: {interruption}", file=sys.stderr)
        return interruption.status


def _print(text: str) -> None:
    try:
        print(text, flush=True)
    except BrokenPipeError:  # the reader closed the pipe: Python must not flush to it at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="xpnet",
        description="Train neural networks written from scratch, on the CPU or a CUDA GPU.",
        epilog="example: xpnet train --recipe digits",
    )
    parser.add_argument("--version", action="version", version=f"xpnet {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        subparser = commands.add_parser(
            command.NAME,
            help=command.HELP,
            description=command.HELP,
            epilog=f"example: {command.EXAMPLE}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(subparser)
        subparser.add_argument("--json", action="store_true", help="print one JSON object, as the last line of stdout")
        subparser.add_argument("--debug", action="store_true", help="show a traceback when something fails")
        status = getattr(command, "status", lambda result: 0)
        subparser.set_defaults(run=command.run, render=command.render, status=status)
    return parser
