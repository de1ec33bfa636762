"""Kernels compiled to PTX without a GPU, and launched in the interpreter in place of one."""

from __future__ import annotations

import hashlib
import math
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from .counts import Counts
from .memory import Memory, Region
from .program import Program
from .run import Dimensions, run

CACHE = Path(__file__).parents[2] / ".ptx-cache"


@dataclass(frozen=True)
class Launch:
    """What was launched, and what it cost."""

    kernel: str
    values: tuple[Any, ...]
    grid: Dimensions
    block: Dimensions
    stream: int
    counts: Counts


@dataclass
class InterpretedDevice:
    """A device without a GPU: its memory, and what was launched on it."""

    memory: Memory = field(default_factory=Memory)
    compute_capability: tuple[int, int] = (9, 0)
    counting: bool = False
    races: bool = False
    edit: Callable[[str], str] | None = None  # of a kernel's PTX, before it is run
    launches: list[Launch] = field(default_factory=list)
    arrays: list[Region] | None = None  # the arguments of the next launch; None: not known

    def declare(self, arrays: list[Region]) -> None:
        """Say what the next launch may read, and what write."""
        self.arrays = arrays

    def compiled(self, kernel: Callable, signature: tuple[Any, ...]) -> Any:
        """Replaces ``xpnet_kernels.cuda.launch.compiled``."""
        program = _program(kernel, signature, self.compute_capability, self.edit)

        def launch(values: Sequence[Any], grid: Dimensions, block: Dimensions, stream: int) -> None:
            counts = run(
                program, values, grid, block, self.memory, arrays=self.arrays, counting=self.counting, races=self.races
            )
            self.arrays = None
            self.launches.append(Launch(kernel.__name__, tuple(values), grid, block, stream, counts))

        return SimpleNamespace(launch=launch)


@cache
def _program(
    kernel: Callable, signature: tuple[Any, ...], compute_capability: tuple[int, int], edit: Callable | None
) -> Program:
    text = compiled_ptx(kernel, signature, compute_capability)
    return Program(edit(text) if edit else text)


@contextmanager
def interpreted(device: Any) -> Iterator[Any]:
    """Run the kernels of ``xpnet_kernels.cuda`` on an :class:`InterpretedDevice`, or on an object with its methods.

    A launch may read the arrays among its arguments, and write those that its function has checked with ``output``.
    """
    from xpnet_kernels.cuda import launch
    from xpnet_kernels.cuda.arrays import DeviceArray

    queue = launch.Launch.queue

    def declare_and_queue(self: launch.Launch, stream: int) -> None:
        device.declare([_region(argument) for argument in self._arguments if isinstance(argument, DeviceArray)])
        queue(self, stream)

    with (
        patch.object(launch.Launch, "queue", declare_and_queue),
        patch.object(launch, "compiled", device.compiled),
        patch("xpnet_kernels.cuda.cublaslt.available", return_value=False),  # wherever nvmath-python is installed
    ):
        yield device


def _region(array: Any) -> Region:
    """The memory of an array of ``xpnet_kernels.cuda``."""
    item = array.element.bitwidth // 8
    rows = array.shape[0] if len(array.shape) == 2 else 1
    columns = math.prod(array.shape[1:] if len(array.shape) == 2 else array.shape)
    return Region(array.address, columns * item, rows, array.row_stride * item, not array.read_only)


def compiled_ptx(kernel: Callable, signature: tuple[Any, ...], compute_capability: tuple[int, int]) -> str:
    """The PTX of a kernel for these argument types, compiled or read from the cache."""
    from numba import types
    from xpnet_kernels.cuda.numba_cuda import cuda
    from xpnet_kernels.cuda.primitives import BLOCK

    def compile_ptx() -> str:
        current = SimpleNamespace(compute_capability=compute_capability)
        # Numba asks the current device which code a device function needs.
        with patch("numba.cuda.dispatcher.get_current_device", lambda: current):
            text, _ = cuda.compile_ptx(kernel, types.void(*signature), cc=compute_capability, launch_bounds=BLOCK)
        return text

    return cached(kernel, signature, compute_capability, "ptx", compile_ptx)


def cached(
    kernel: Callable,
    signature: tuple[Any, ...],
    compute_capability: tuple[int, int],
    kind: str,
    make: Callable[[], str],
) -> str:
    """What is made of a kernel, or was made of the same kernel by the same compiler."""
    from xpnet_kernels.source_hash import source_hash

    cells = [str(getattr(cell.cell_contents, "name", cell.cell_contents)) for cell in kernel.__closure__ or ()]
    key = (
        kernel.__module__, kernel.__name__, cells, [str(kind) for kind in signature], compute_capability,
        source_hash("cuda"), platform.python_version(), version("numba-cuda"), version("numba"),
    )  # fmt: skip
    path = CACHE / f"{kernel.__name__}-{hashlib.sha256(repr(key).encode()).hexdigest()[:24]}.{kind}"
    if path.exists():
        return path.read_text()
    text = make()
    CACHE.mkdir(exist_ok=True)
    (CACHE / ".gitignore").write_text("*\n")
    temporary = path.with_suffix(f".{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(path)
    return text
