"""CuPy: arrays in a CUDA device's memory. Kernels are queued on CuPy's current stream, and run asynchronously."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np

from xpnet.backends.backend import Array, Backend


@dataclass(frozen=True)
class CuPyBackend(Backend):
    """CuPy on a CUDA device."""

    def to_numpy(self, array: Array) -> np.ndarray:
        """A copy on the host; waits for the device."""
        import cupy

        return cupy.asnumpy(array)

    def synchronize(self) -> None:
        """Wait until the current stream has finished its queued work."""
        import cupy

        cupy.cuda.get_current_stream().synchronize()

    def mark(self) -> Any:
        """An event, recorded in the current stream."""
        import cupy

        return cupy.cuda.get_current_stream().record()

    def seconds_between(self, began: Any, ended: Any) -> float:
        """The device's time between two events."""
        import cupy

        return cupy.cuda.get_elapsed_time(began, ended) / 1e3

    def annotate(self, name: str) -> AbstractContextManager[Any]:
        """An NVTX range, which NVIDIA's profilers show."""
        from cupyx.profiler import time_range

        return time_range(name)

    def peak_memory(self) -> int:
        """The size of CuPy's memory pool, which does not shrink."""
        import cupy

        return int(cupy.get_default_memory_pool().total_bytes())


def cupy_backend() -> CuPyBackend:
    """The current device, with the fused kernels where numba-cuda is installed."""
    import array_api_compat.cupy as namespace
    import cupy

    kernels = CudaKernels() if importlib.util.find_spec("numba_cuda") else None
    return CuPyBackend("cuda", namespace, cupy.cuda.Device(), kernels=kernels)


@dataclass(frozen=True)
class CudaKernels:
    """The CUDA kernels, each launched on CuPy's current stream. All objects of this class are equal."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        import cupy
        import xpnet_kernels.cuda

        kernel = getattr(xpnet_kernels.cuda, name)
        current_stream = cupy.cuda.get_current_stream

        def launch(*arguments: Any, **keywords: Any) -> Any:
            return kernel(*arguments, stream=current_stream().ptr, **keywords)

        vars(self)[name] = launch  # so that the next access does not call __getattr__
        return launch
