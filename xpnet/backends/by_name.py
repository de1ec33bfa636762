"""Choosing a backend."""

from __future__ import annotations

import copyreg
import re
from dataclasses import replace
from typing import Any

from xpnet.backends.backend import Backend
from xpnet.backends.cuda_problem import cuda_problem
from xpnet.backends.cupy_backend import CuPyBackend, cupy_backend
from xpnet.backends.numpy_backend import NumPyBackend
from xpnet.backends.precision import PRECISIONS
from xpnet.errors import BackendError, ConfigurationError, one_of

NAMES = ("auto", "cpu", "cuda", "cpu-reference", "float64")
_NUMBERED = re.compile(r"cuda:(0|[1-9]\d{0,3})")  # one of several GPUs


def backend(name: str = "auto") -> Backend:
    """The backend called ``name``.

    Args:
        name: "cpu" is NumPy with fused kernels, "cpu-reference" NumPy alone, "float64" the same in double precision;
            "cuda" is CuPy on the current device, "cuda:0", "cuda:1", … on the device of that number. "auto" is "cuda"
            if a compiled test kernel runs there, else "cpu".

    Raises:
        BackendError: CUDA, or that device, cannot be used; the message says why, and what to do.
        ConfigurationError: there is no such backend; or XPNET_NUM_THREADS, the number of threads for CPU kernels, is
            not a whole number of at least 1.

    >>> backend("float64").asarray([1, 2]).dtype, backend("float64").dtype
    (dtype('int64'), 'float64')
    >>> backend("gpu")
    Traceback (most recent call last):
    xpnet.errors.ConfigurationError: unknown device 'gpu'...; the choices are auto, cpu, cuda, cpu-reference, float64
    """
    number = None
    if numbered := _NUMBERED.fullmatch(name):
        number = int(numbered[1])
    else:
        one_of("device", name, NAMES)
    if name == "auto":
        name = "cpu" if cuda_problem() else "cuda"
    elif name.startswith("cuda") and (problem := cuda_problem(number)):
        raise BackendError(f"device {name!r} cannot be used: {problem}")
    if name.startswith("cuda"):
        return cupy_backend(number)
    if name == "cpu":
        return _with_kernels()
    return NumPyBackend(name, dtype="float64" if name == "float64" else "float32")


def cuda_devices() -> dict[str, str]:
    """The GPUs that CuPy sees, such as "NVIDIA H200, 140 GiB", by the names that ``backend`` takes; none without CUDA.

    >>> all(name.startswith("cuda:") for name in cuda_devices())
    True
    """
    if cuda_problem():
        return {}
    from cupy.cuda import runtime

    found = [runtime.getDeviceProperties(number) for number in range(runtime.getDeviceCount())]
    return {
        f"cuda:{number}": f"{gpu['name'].decode()}, {gpu['totalGlobalMem'] / 2**30:.0f} GiB"
        for number, gpu in enumerate(found)
    }


def _pickled(one: Backend) -> tuple[Any, ...]:
    """A pickle holds name, dtype and precision alone; unpickling opens the backend of that name."""
    if one.name not in NAMES and not _NUMBERED.fullmatch(one.name):
        return one.__reduce__()  # raises
    return _unpickled, (one.name, one.dtype, one.precision)


def _unpickled(name: str, dtype: str, precision: str = PRECISIONS[0]) -> Backend:
    return replace(backend(name), dtype=dtype).at_precision(precision)


def _with_kernels() -> Backend:
    import xpnet_kernels.cpu
    from xpnet_kernels.cpu.threads.limit import thread_limit

    try:
        thread_limit()
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    return NumPyBackend("cpu", kernels=xpnet_kernels.cpu)


for _kind in (NumPyBackend, CuPyBackend):
    copyreg.pickle(_kind, _pickled)
