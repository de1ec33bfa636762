"""The fused kernels on the emulated device: their host code as it is, their compiled PTX in the interpreter."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

from tests.ptx import InterpretedDevice, Region

from .memory import pool
from .streams import CUDARuntimeError, current_device, queue


class KernelLauncher:
    """What :func:`tests.ptx.device.interpreted` runs kernels on: each launch is counted, and ordered on its stream."""

    def __init__(self) -> None:
        self._of_thread = threading.local()  # each declares the arrays of its launches
        self.compiled = lru_cache(None)(self._compiled)

    @property
    def _device(self) -> InterpretedDevice:
        if not hasattr(self._of_thread, "device"):
            self._of_thread.device = InterpretedDevice(pool().memory)
        return self._of_thread.device

    def declare(self, arrays: list[Region]) -> None:
        """See :meth:`InterpretedDevice.declare`."""
        self._device.declare(arrays)

    def _compiled(self, kernel: Callable, signature: tuple[Any, ...]) -> Any:
        """See :meth:`InterpretedDevice.compiled`."""

        def launch(values: Any, grid: Any, block: Any, stream: int) -> None:
            device = self._device
            regions = [region for region in device.arrays if region.row_bytes and region.rows]
            reads, writes = (
                [pool().chunk_at(region.start) for region in regions if region.writable == writable]
                for writable in (False, True)
            )
            if any(chunk.device != current_device() for chunk in (*reads, *writes)):
                raise CUDARuntimeError("cudaErrorIllegalAddress: an illegal memory access was encountered")
            queue(f"kernel {kernel.__name__}", reads, writes, stream)
            device.compiled(kernel, signature).launch(values, grid, block, stream)
            device.launches.clear()

        return SimpleNamespace(launch=launch)
