"""A CUDA device for tests, emulated in the host's memory: see README.md."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any
from unittest.mock import patch

from .record import Record, recorded
from .streams import StreamRaceError

__all__ = ["Record", "StreamRaceError", "emulated_cuda", "recorded"]


@cache
def _launcher() -> Any:
    from .kernels import KernelLauncher

    return KernelLauncher()  # one for the process, which keeps what it has compiled


@contextmanager
def emulated_cuda() -> Iterator[None]:
    """A context in which ``xpnet.backend("cuda")`` works, without a GPU."""
    from tests.ptx.device import interpreted

    from .driver import fill_rows
    from .memory import pool
    from .modules import in_place_of_cupy

    memset = patch("cuda.bindings.driver.cuMemsetD2D8Async", fill_rows)
    with in_place_of_cupy(), interpreted(_launcher()), memset:
        yield
    pool().free_all_blocks()
