"""``--plugin FILE.py``: the user's own layers, losses, optimizers, schedules and callbacks.

Only this option runs a file: a recipe or a checkpoint never makes xpnet import anything.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import traceback
from pathlib import Path

from xpnet.errors import ConfigurationError, MissingFileError


def add_plugin(parser: argparse.ArgumentParser) -> None:
    """``--plugin``."""
    parser.add_argument(
        "--plugin",
        type=Path,
        action="append",
        default=[],
        metavar="FILE.py",
        help="run this file first, to register your own classes with @xpnet.register; repeatable",
    )


def load_plugin(path: Path) -> None:
    """Run a file as the module ``xpnet_plugin_NAME``, once in a process.

    Raises:
        MissingFileError: there is no such file.
        ConfigurationError: it raised an error, whose line the message names; or another plugin has its name.
    """
    path = path.resolve()
    name = f"xpnet_plugin_{path.stem}"
    if not path.is_file() or path.suffix != ".py":
        raise MissingFileError(f"there is no plugin {path}: name a Python file")
    if name in sys.modules:
        other = sys.modules[name].__file__
        if other != str(path):
            raise ConfigurationError(f"two plugins are called {path.stem}: {other} and {path}; rename one")
        return
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise MissingFileError(f"{path} cannot be run as a Python module")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # pickle and dataclasses look it up there
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ConfigurationError(
            f"the plugin {path} failed in line {_line_of(error, path)}: {type(error).__name__}: {error}"
        ) from error


def _line_of(error: Exception, path: Path) -> int | None:
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return error.lineno
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return lines[-1] if lines else None
