"""CuPy: arrays in a CUDA device's memory. Kernels are queued on its current stream, and run asynchronously.

CuPy allocates and computes on the thread's current device. A method of the backend makes its own device current; code
that computes with arrays runs under ``with backend.on_device()``, once for a whole training or prediction, since each
switch of the device is a call of CUDA.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from xpnet.backends.backend import Array, Backend
from xpnet.backends.precision import bfloat16
from xpnet.errors import BackendError

_WITH_PRODUCTS = ("linear", "linear_backward")


@dataclass(frozen=True)
class CuPyBackend(Backend):
    """CuPy on a CUDA device."""

    def on_device(self) -> AbstractContextManager[Any]:
        """A context in which the backend's device is the current one; it may be nested."""
        return self.device

    def require_on_device(self) -> None:
        """Raise BackendError unless the backend's device is the current one."""
        import cupy

        if (current := cupy.cuda.runtime.getDevice()) != self.device.id:
            raise BackendError(
                f"backend {self.name!r} computes on GPU {self.device.id}, but GPU {current} is the current one: "
                "compute under 'with backend.on_device():'"
            )

    def at_precision(self, precision: str) -> CuPyBackend:
        """See :meth:`Backend.at_precision`."""
        changed = super().at_precision(precision)
        if changed is self or not isinstance(self.kernels, CudaKernels):  # kernels of the caller's own stay
            return changed
        return replace(changed, kernels=CudaKernels(tf32=precision == "tf32"))

    def _require_precision(self, precision: str) -> None:
        if self.dtype != "float32":
            super()._require_precision(precision)
        if self.kernels is None:
            raise BackendError(f"{precision} needs the fused kernels: pip install 'xpnet[cuda13]' (or 'xpnet[cuda12]')")
        if precision == "bf16":
            bfloat16()

    def to_numpy(self, array: Array) -> np.ndarray:
        """A copy on the host; waits for the device."""
        import cupy

        with self.device:
            return cupy.asnumpy(array)

    def asarray(self, value: Any, dtype: str | None = None) -> Array:
        """See :meth:`Backend.asarray`."""
        with self.device:
            return super().asarray(value, dtype)

    def aligned_zeros(self, count: int, dtype: str) -> Array:
        """See :meth:`Backend.aligned_zeros`."""
        with self.device:
            return super().aligned_zeros(count, dtype)

    def synchronize(self) -> None:
        """Wait until the current stream has finished its queued work."""
        import cupy

        with self.device:
            cupy.cuda.get_current_stream().synchronize()

    def mark(self) -> Any:
        """An event, recorded in the current stream."""
        import cupy

        with self.device:
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

        with self.device:
            return int(cupy.get_default_memory_pool().total_bytes())


def cupy_backend(number: int | None = None) -> CuPyBackend:
    """The device of that number, or the current one, with the fused kernels where numba-cuda is installed."""
    import array_api_compat.cupy as namespace
    import cupy

    name = "cuda" if number is None else f"cuda:{number}"
    kernels = CudaKernels() if importlib.util.find_spec("numba_cuda") else None
    return CuPyBackend(name, namespace, cupy.cuda.Device(number), kernels=kernels)


@dataclass(frozen=True)
class CudaKernels:
    """The CUDA kernels, each launched on CuPy's current stream.

    Attributes:
        tf32: whether the factors of float32 products may be rounded to TF32.
    """

    tf32: bool = False

    def __getattr__(self, name: str) -> Callable[..., Any]:
        import cupy
        import xpnet_kernels.cuda

        kernel = getattr(xpnet_kernels.cuda, name)
        current_stream = cupy.cuda.get_current_stream
        options = {"tf32": True} if self.tf32 and name in _WITH_PRODUCTS else {}

        def launch(*arguments: Any, **keywords: Any) -> Any:
            return kernel(*arguments, stream=current_stream().ptr, **options, **keywords)

        vars(self)[name] = launch  # so that the next access does not call __getattr__
        return launch
