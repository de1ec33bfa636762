"""Kernels compiled to PTX without a GPU, and launched in the interpreter in place of one."""

from __future__ import annotations

import hashlib
import math
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from pkgutil import iter_modules
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
    edit: Callable[[str], str] | None = None  # of a kernel's PTX
    launches: list[Launch] = field(default_factory=list)
    arrays: list[Region] = field(default_factory=list)  # what the function that launches next has declared
    _launched: bool = False

    def compiled(self, kernel: Callable, signature: tuple[Any, ...]) -> Any:
        """Replaces ``xpnet_kernels.cuda.launch.compiled``."""
        text = compiled_ptx(kernel, signature, self.compute_capability)
        program = parsed(self.edit(text) if self.edit else text)

        def launch(values: tuple[Any, ...], grid: Dimensions, block: Dimensions, stream: int) -> None:
            self._launched = True
            counts = run(
                program, values, grid, block, self.memory, arrays=self.arrays, counting=self.counting, races=self.races
            )
            self.launches.append(Launch(kernel.__name__, tuple(values), grid, block, stream, counts))

        return SimpleNamespace(launch=launch)

    def declare(self, array: Any, writable: bool) -> Any:
        """Let the launches that follow use an array of ``xpnet_kernels.cuda.arrays``; return the array."""
        if self._launched:  # a new function has begun, since each checks its arrays before it launches
            self.arrays.clear()
            self._launched = False
        item = array.element.bitwidth // 8
        rows = array.shape[0] if len(array.shape) == 2 else 1
        columns = math.prod(array.shape[1:] if len(array.shape) == 2 else array.shape)
        self.arrays.append(Region(array.address, columns * item, rows, array.row_stride * item, writable))
        return array


parsed = cache(Program)


@contextmanager
def interpreted(device: InterpretedDevice) -> Iterator[InterpretedDevice]:
    """Run the kernels of ``xpnet_kernels.cuda`` on this device.

    An array that a kernel's function describes with ``array`` may be read by its launches, and one that it describes
    with ``output`` written; nothing else may be.
    """
    package = import_module("xpnet_kernels.cuda")
    modules = [
        import_module(f"{package.__name__}.{found.name}")
        for found in iter_modules(package.__path__)
        if found.name != "simulated"
    ]
    arrays = import_module("xpnet_kernels.cuda.arrays")
    described, output = arrays.array, arrays.output

    def array(*arguments: Any, **options: Any) -> Any:
        return device.declare(described(*arguments, **options), writable=False)

    def declared_output(*arguments: Any, **options: Any) -> Any:
        return device.declare(output(*arguments, **options), writable=True)

    with ExitStack() as patches:
        for module in modules:
            for name, replacement, original in (("array", array, described), ("output", declared_output, output)):
                if getattr(module, name, None) is original:
                    patches.enter_context(patch.object(module, name, replacement))
        launch = import_module("xpnet_kernels.cuda.launch")
        patches.enter_context(patch.object(launch, "compiled", device.compiled))
        yield device


def compiled_ptx(kernel: Callable, signature: tuple[Any, ...], compute_capability: tuple[int, int]) -> str:
    """The PTX of a kernel for these argument types, compiled or read from the cache."""
    from numba import types
    from xpnet_kernels.cuda.numba_cuda import cuda
    from xpnet_kernels.cuda.primitives import BLOCK
    from xpnet_kernels.source_hash import source_hash

    cells = [str(getattr(cell.cell_contents, "name", cell.cell_contents)) for cell in kernel.__closure__ or ()]
    key = (
        kernel.__module__, kernel.__name__, cells, [str(kind) for kind in signature], compute_capability,
        source_hash("cuda"), platform.python_version(), version("numba-cuda"), version("numba"),
    )  # fmt: skip
    path = CACHE / f"{kernel.__name__}-{hashlib.sha256(repr(key).encode()).hexdigest()[:24]}.ptx"
    if path.exists():
        return path.read_text()
    current = SimpleNamespace(compute_capability=compute_capability)
    # Numba asks the current device which code a device function needs.
    with patch("numba.cuda.dispatcher.get_current_device", lambda: current):
        text, _ = cuda.compile_ptx(kernel, types.void(*signature), cc=compute_capability, launch_bounds=BLOCK)
    CACHE.mkdir(exist_ok=True)
    (CACHE / ".gitignore").write_text("*\n")
    temporary = path.with_suffix(f".{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(path)
    return text
