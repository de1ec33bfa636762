"""A compiled kernel on the GPU, launched through the driver."""

from __future__ import annotations

import ctypes
import struct
import threading
from collections.abc import Sequence
from typing import Any

from numba import types

from .numba_cuda import cuda

_FORMATS = {types.int64: "q", types.float64: "d", types.boolean: "?7x"}  # eight bytes each; pointers: "Q"


class CompiledKernel:
    """A kernel, and the buffer through which its arguments are passed to the driver.

    The driver copies the arguments during the call, so one buffer serves every launch; a lock keeps it to one thread.
    """

    def __init__(self, name: str, overload: Any, signature: Sequence[types.Type]) -> None:
        from cuda.bindings import driver

        self._name, self._overload = name, overload  # whose module must stay loaded
        self._driver = driver
        # The handle is a CUkernel, which cuLaunchKernel takes in any context, in place of a CUfunction.
        self._function = driver.CUfunction(int(overload.library.get_cufunc().handle))
        self._format = struct.Struct("<" + "".join(_FORMATS.get(kind, "Q") for kind in signature))
        self._arguments = ctypes.create_string_buffer(max(self._format.size, 1))
        first = ctypes.addressof(self._arguments)
        self._pointers = (ctypes.c_void_p * len(signature))(*range(first, first + self._format.size, 8))
        self._parameters = ctypes.addressof(self._pointers)
        self._lock = threading.Lock()

    def launch(
        self, values: Sequence[float], grid: tuple[int, int, int], block: tuple[int, int, int], stream: int
    ) -> None:
        """Queue the kernel, with these arguments in the order of the signature, on the stream with this handle."""
        status = self._queue(values, grid, block, stream)
        if status == self._driver.CUresult.CUDA_ERROR_INVALID_CONTEXT:  # this thread has not used CUDA yet
            cuda.current_context()
            status = self._queue(values, grid, block, stream)
        if status:
            raise RuntimeError(
                f"the kernel {self._name} was not launched with the grid {grid} and the block "
                f"{block}: {self._driver.CUresult(status).name}"
            )

    def _queue(
        self, values: Sequence[float], grid: tuple[int, int, int], block: tuple[int, int, int], stream: int
    ) -> int:
        with self._lock:
            self._format.pack_into(self._arguments, 0, *values)
            (status,) = self._driver.cuLaunchKernel(self._function, *grid, *block, 0, stream, self._parameters, 0)
        return status
