"""Run a program on the emulated CUDA device: ``python -m tests.emulated_cuda SCRIPT ...``, or ``... -m MODULE ...``."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from . import emulated_cuda

if __name__ == "__main__":
    del sys.argv[0]
    with emulated_cuda():
        if sys.argv[0] == "-m":
            del sys.argv[0]
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        else:
            sys.path.insert(0, str(Path(sys.argv[0]).absolute().parent))  # as Python does
            runpy.run_path(sys.argv[0], run_name="__main__")
