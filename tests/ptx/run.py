"""Running a program: its arguments, its grid, and its blocks some at a time."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from .counts import Counter, Counts
from .errors import PtxError
from .memory import GlobalMemory, Memory, Region
from .program import Program
from .registers import DTYPES
from .wave import Wave

_SHARED_BYTES = 48 * 1024  # static shared memory of a block
_THREADS = 8192  # that run at the same time: fewer take longer, more are no faster

Dimensions = tuple[int, int, int]


def run(
    program: Program,
    values: Sequence[Any],
    grid: Dimensions,
    block: Dimensions,
    memory: Memory,
    *,
    arrays: Sequence[Region] | None = None,
    counting: bool = True,
    races: bool = False,
) -> Counts:
    """Launch a program and wait for its end; return what it cost.

    Args:
        program: the kernel.
        values: its arguments in order: numbers, and the host's addresses.
        grid: blocks.
        block: threads of each.
        memory: the allocations that there are.
        arrays: what this launch may read, and what write; without it, the allocations that the arguments point into.
        counting: count; else the counts are zeros.
        races: look for threads that race for global memory too.

    Raises:
        PtxError: something that a GPU would not survive, or that is undefined there; or an unknown instruction.
    """
    threads = block[0] * block[1] * block[2]
    if not 0 < threads <= program.max_threads:
        raise PtxError(f"a block of {threads} threads, of a kernel for at most {program.max_threads}")
    if not (0 < grid[0] < 2**31 and 0 < grid[1] < 2**16 and 0 < grid[2] < 2**16):
        raise PtxError(f"a grid of {grid} blocks")
    if (shared := sum(map(len, program.shared.places.values()))) > _SHARED_BYTES:
        raise PtxError(f"{shared} bytes of shared memory, of {_SHARED_BYTES} that a kernel may declare for a block")
    if len(values) != len(program.parameters):
        raise PtxError(f"{len(values)} arguments, of a kernel that takes {len(program.parameters)}")
    parameters = [_parameter(kind, value) for (_, kind), value in zip(program.parameters, values, strict=True)]
    allowed = GlobalMemory(memory, values, arrays)
    if races:
        allowed.watch(memory, program.smallest["global"])
    counter = Counter() if counting else None
    number, at_once = grid[0] * grid[1] * grid[2], max(1, _THREADS // threads)
    with np.errstate(all="ignore"):
        for first in range(0, number, at_once):
            blocks = range(first, min(first + at_once, number))
            Wave(program, parameters, grid, block, blocks, allowed, counter).run()
    return counter.finish() if counter else Counts()


def _parameter(kind: str, value: Any) -> Any:
    dtype = DTYPES[kind]
    if dtype.kind == "f":
        return dtype.type(value)
    bits = int(value)
    if not -(2 ** (8 * dtype.itemsize - 1)) <= bits < 2 ** (8 * dtype.itemsize):
        raise PtxError(f"the argument {value} does not fit a parameter of type {kind}")
    return np.frombuffer(struct.pack("<Q", bits & (2**64 - 1))[: dtype.itemsize], dtype)[0]
