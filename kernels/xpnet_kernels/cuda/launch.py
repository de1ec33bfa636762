"""Compiling kernels, and launching them with pointers on a stream.

Numba's own call syntax would unpack every array at each launch, and warn of every small grid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

from numba import types

from xpnet_kernels.source_hash import source_hash

from .arrays import DeviceArray, as_simulated
from .compiled_kernel import CompiledKernel
from .numba_cuda import cuda
from .primitives import BLOCK, SIMULATED

Dimensions = tuple[int, int]
Argument = DeviceArray | float | None

_ROW_BLOCK = min(128, BLOCK)
_TYPES = {"int": types.int64, "float": types.float64, "bool": types.boolean}


class Signature(tuple[types.Type, ...]):
    """The types of a kernel's arguments. Its hash is kept: that of each of Numba's types takes 0.3 microseconds."""

    def __init__(self, kinds: Sequence[types.Type]) -> None:
        self._hash = hash(tuple(kinds))

    def __hash__(self) -> int:
        return self._hash


class TypedKernel(NamedTuple):
    """A kernel and the types of its arguments."""

    kernel: Callable
    signature: Signature


@cache
def typed(kernel: Callable, *elements: types.Type) -> TypedKernel:
    """The kernel with the types that annotate its parameters; ``Any`` is a pointer, to the next of ``elements``."""
    pointers = iter([types.CPointer(element) for element in elements])
    kinds = [kind for name, kind in kernel.__annotations__.items() if name != "return"]
    return TypedKernel(kernel, Signature([next(pointers) if kind == "Any" else _TYPES[kind] for kind in kinds]))


class Launch:
    """A kernel with its arguments; ``None`` is a null pointer."""

    def __init__(self, kernel: TypedKernel, arguments: Sequence[Argument], grid: int, block: Dimensions) -> None:
        self._kernel, self._arguments, self._grid, self._block = kernel, arguments, (grid, 1, 1), (*block, 1)
        self._values = [
            argument.address if isinstance(argument, DeviceArray) else 0 if argument is None else argument
            for argument in arguments
        ]

    def with_argument(self, position: int, value: float) -> Launch:
        """The same launch with another number at this position."""
        arguments = [*self._arguments[:position], value, *self._arguments[position + 1 :]]
        return Launch(self._kernel, arguments, self._grid[0], (self._block[0], self._block[1]))

    def queue(self, stream: int) -> None:
        """Queue the kernel on the stream, and return at once."""
        kernel, signature = self._kernel
        if SIMULATED:
            cuda.jit(kernel)[self._grid, self._block](*map(as_simulated, self._arguments))
        else:
            compiled(kernel, signature).launch(self._values, self._grid, self._block, stream)


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


def row_grid(rows: int, columns: int, element: types.Type) -> tuple[int, Dimensions]:
    """The grid and the block for work on rows: threads along the row, 16 bytes each, and several short rows a block."""
    vectors = columns * element.bitwidth // 128 + 2
    threads = 1
    while threads < min(_ROW_BLOCK, vectors):
        threads *= 2
    return -(-rows // (_ROW_BLOCK // threads)), (threads, _ROW_BLOCK // threads)
