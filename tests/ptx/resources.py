"""What a kernel occupies of an H100 or H200 (sm_90): read from the machine code that would run there.

Numba links kernels at run time, with link-time optimisation, and for the device's own architecture (``sm_90a``): other
code than the PTX, which has no registers yet. Here it does the same, on a machine without a GPU.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from .device import cached

ARCHITECTURE = (9, 0)
WARP = 32
# Of a multiprocessor: CUDA C++ programming guide, "Compute capabilities".
MAX_WARPS, MAX_BLOCKS = 64, 32
PARTITIONS, REGISTERS_OF_PARTITION = 4, 16_384
SHARED_BYTES, RESERVED_SHARED_BYTES = 233_472, 1_024  # the latter of each block

_REGISTER_COUNT, _FRAME_SIZE = 0x2F, 0x11  # attributes in the section .nv.info, with a symbol and a number each


@dataclass(frozen=True)
class Resources:
    """Of a compiled kernel."""

    registers: int  # of a thread
    stack_bytes: int  # of a thread, in local memory: registers that are spilled, arrays that are not in registers
    shared_bytes: int  # of a block

    def blocks(self, threads: int) -> int:
        """How many blocks of so many threads a multiprocessor runs at one time."""
        warps = -(-threads // WARP)
        registers = -(-self.registers * WARP // 256) * 256  # of a warp, as they are allocated
        warps_at_once = min(MAX_WARPS, REGISTERS_OF_PARTITION // registers * PARTITIONS)
        shared = -(-self.shared_bytes // 128) * 128 + RESERVED_SHARED_BYTES
        return min(MAX_BLOCKS, warps_at_once // warps, SHARED_BYTES // shared)


def resources(kernel: Callable, signature: tuple[Any, ...]) -> Resources:
    """What the kernel for these argument types occupies; compiled, or read from the cache."""
    text = cached(
        kernel, signature, ARCHITECTURE, "resources", lambda: " ".join(map(str, _compiled(kernel, signature)))
    )
    return Resources(*map(int, text.split()))


def _compiled(kernel: Callable, signature: tuple[Any, ...]) -> tuple[int, int, int]:
    from numba.cuda.dispatcher import _Kernel
    from xpnet_kernels.cuda.primitives import BLOCK

    device = SimpleNamespace(compute_capability=ARCHITECTURE)
    context = SimpleNamespace(device=device)
    with (
        patch("numba.cuda.dispatcher.get_current_device", lambda: device),
        patch("numba.cuda.codegen.devices.get_context", lambda: context),
    ):
        compiled = _Kernel(kernel, signature, lto=True, launch_bounds=BLOCK)
        cubin = compiled._codelibrary.get_cubin().code
    return read_cubin(cubin)


def read_cubin(cubin: bytes) -> tuple[int, int, int]:
    """The registers, stack and shared memory of the kernel in an ELF file of machine code."""
    (table,) = struct.unpack_from("<Q", cubin, 0x28)
    size, count, names = struct.unpack_from("<HHH", cubin, 0x3A)
    sections = [struct.unpack_from("<IIQQQQIIQQ", cubin, table + i * size) for i in range(count)]
    attributes: dict[int, int] = {}
    shared = 0
    for name_at, _, _, _, start, length, *_ in sections:
        name_start = sections[names][4] + name_at
        name = cubin[name_start : cubin.index(b"\0", name_start)].decode()
        if name == ".nv.info":
            attributes = _largest_attributes(cubin[start : start + length])
        elif name.startswith(".nv.shared.") and "reserved" not in name:
            shared += length
    return attributes[_REGISTER_COUNT], attributes[_FRAME_SIZE], shared


def _largest_attributes(info: bytes) -> dict[int, int]:
    """The largest number of each attribute that has one for every function."""
    largest: dict[int, int] = {}
    at = 0
    while at < len(info):
        form, attribute, size = struct.unpack_from("<BBH", info, at)
        if form == 4 and size == 8:
            _, number = struct.unpack_from("<II", info, at + 4)
            largest[attribute] = max(number, largest.get(attribute, 0))
        at += 4 + (size if form == 4 else 0)
    return largest
