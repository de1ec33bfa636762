"""Compiling kernels, and launching them with pointers on a stream.

Numba's own call syntax would unpack every array at each launch, and warn of every small grid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from numba import types

from xpnet_kernels.source_hash import source_hash

from .arrays import Argument
from .compiled_kernel import CompiledKernel
from .numba_cuda import cuda
from .primitives import BLOCK, SIMULATED

Dimensions = tuple[int, int]

_ROW_BLOCK = min(128, BLOCK)


def number(value: int) -> Argument:
    """A whole number as a kernel argument."""
    return types.int64, value


def real(value: float) -> Argument:
    """A real number as a kernel argument."""
    return types.float64, value


def flag(value: bool) -> Argument:
    """A truth value as a kernel argument."""
    return types.boolean, value


@cache
def compiled(kernel: Callable, signature: tuple[types.Type, ...]) -> CompiledKernel:
    """The kernel for these argument types on the current device. Tests replace this function."""
    try:
        return CompiledKernel(kernel.__name__, jitted(kernel, signature), signature)
    except ImportError as error:
        raise ImportError("the CUDA kernels need numba-cuda: pip install 'numba-cuda[cu13]', or [cu12]") from error


def jitted(kernel: Callable, signature: tuple[types.Type, ...]) -> Any:
    """Numba's overload of the kernel, compiled for the current device or read from the cache on disk."""
    kernel.__qualname__ = f"{kernel.__name__}_{source_hash('cuda')}"  # its name in the cache
    dispatcher = cuda.jit(types.void(*signature), cache=True, launch_bounds=BLOCK)(kernel)
    (overload,) = dispatcher.overloads.values()
    return overload


def launch(kernel: Callable, arguments: Sequence[Argument], grid: int, block: Dimensions, stream: int) -> None:
    """Queue the kernel on the stream, and return at once."""
    signature, values = zip(*arguments, strict=True)
    if SIMULATED:
        cuda.jit(kernel)[grid, block](*values)
    else:
        compiled(kernel, signature).launch(values, (grid, 1, 1), (*block, 1), stream)


def row_grid(rows: int, columns: int, element: types.Type) -> tuple[int, Dimensions]:
    """The grid and the block for work on rows: threads along the row, 16 bytes each, and several short rows a block."""
    vectors = columns * element.bitwidth // 128 + 2
    threads = 1
    while threads < min(_ROW_BLOCK, vectors):
        threads *= 2
    return -(-rows // (_ROW_BLOCK // threads)), (threads, _ROW_BLOCK // threads)
