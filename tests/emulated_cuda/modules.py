"""The modules of CuPy that the stand-in takes the place of, and putting them there."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from . import arrays, cublas, memory, operators, streams

_ROOTS = ("cupy", "cupyx", "cupy_backends", "array_api_compat.cupy")

# What array_api_compat.cupy looks up when it is imported, and nobody here calls.
_LINALG = (
    "cholesky",
    "cross",
    "eigh",
    "lstsq",
    "matmul",
    "matrix_rank",
    "matrix_transpose",
    "pinv",
    "qr",
    "slogdet",
    "svd",
)
_FFT = (
    "fft", "fftfreq", "fftn", "fftshift", "hfft", "ifft", "ifftn", "ifftshift", "ihfft", "irfft", "irfftn", "rfft",
    "rfftfreq", "rfftn",
)  # fmt: skip


def _module(name: str, **contents: Any) -> ModuleType:
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None, origin="emulated")
    module.__path__ = []
    vars(module).update(contents)
    return module


def _missing(name: str) -> Any:
    def call(*arguments: Any, **keywords: Any) -> Any:
        raise NotImplementedError(f"the emulated CUDA device has no {name}")

    return call


@cache
def modules() -> dict[str, ModuleType]:
    """The stand-in's modules, by name."""
    runtime = _module(
        "cupy.cuda.runtime",
        CUDARuntimeError=streams.CUDARuntimeError,
        driverGetVersion=lambda: 13000,
        runtimeGetVersion=lambda: 13000,
        getDeviceCount=lambda: streams.DEVICES,
        getDevice=streams.current_device,
        setDevice=lambda number: streams.Device(number).use(),
        memGetInfo=streams.memory_info,
        deviceSynchronize=lambda: streams.Device().synchronize(),
        streamSynchronize=lambda handle: streams.ExternalStream(handle).synchronize(),
        getDeviceProperties=lambda number: {"name": b"Emulated device", "totalGlobalMem": memory.CAPACITY},
    )
    device = _module("cupy.cuda.device", Device=streams.Device, get_cublas_handle=lambda: cublas.HANDLE)
    cuda = _module(
        "cupy.cuda",
        runtime=runtime,
        device=device,
        Device=streams.Device,
        Event=streams.Event,
        ExternalStream=streams.ExternalStream,
        Stream=streams.Stream,
        get_current_stream=streams.get_current_stream,
        get_elapsed_time=streams.get_elapsed_time,
        is_available=_is_available,
        set_allocator=_set_allocator,
        memory=_module("cupy.cuda.memory", OutOfMemoryError=memory.OutOfMemoryError),
    )
    linalg = _module("cupy.linalg", **{name: _missing(f"linalg.{name}") for name in _LINALG})
    fft = _module("cupy.fft", **{name: _missing(f"fft.{name}") for name in _FFT})
    cupy = _module(
        "cupy", **operators.FUNCTIONS, is_available=_is_available, ndarray=arrays.ndarray, cuda=cuda, linalg=linalg,
        fft=fft, __version__="14.2.0", get_default_memory_pool=memory.pool,
    )  # fmt: skip
    profiler = _module("cupyx.profiler", time_range=lambda name, *arguments, **keywords: nullcontext())
    products = {name: value for name, value in vars(cublas).items() if not name.startswith("_")}
    libs = _module("cupy_backends.cuda.libs", cublas=_module("cupy_backends.cuda.libs.cublas", **products))
    backends = _module("cupy_backends", cuda=_module("cupy_backends.cuda", libs=libs))
    result = {}
    todo = [cupy, _module("cupyx", profiler=profiler), backends]
    while todo:
        module = todo.pop()
        result[module.__name__] = module
        todo += [value for value in vars(module).values() if isinstance(value, ModuleType) and _belongs(value.__name__)]
    return result


def _is_available() -> bool:
    return True


def _set_allocator(allocator: Any = None) -> None:
    memory.pool().keeps = allocator is not None


@contextmanager
def in_place_of_cupy() -> Iterator[None]:
    """A context in which importing CuPy gives the stand-in, and array_api_compat's namespace is one over it."""
    import array_api_compat

    hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if _belongs(name)}
    attribute = vars(array_api_compat).pop("cupy", None)
    sys.modules.update(modules())
    sys.modules.update(_namespace)
    if _namespace:
        array_api_compat.cupy = _namespace["array_api_compat.cupy"]
    try:
        yield
    finally:
        # The namespace stays the same object from one time to the next: array_api_compat remembers it by class.
        _namespace.update({name: module for name, module in sys.modules.items() if name.startswith(_ROOTS[-1])})
        for name in [name for name in sys.modules if _belongs(name)]:
            del sys.modules[name]
        vars(array_api_compat).pop("cupy", None)
        sys.modules.update(hidden)
        if attribute is not None:
            array_api_compat.cupy = attribute


_namespace: dict[str, ModuleType] = {}


def _belongs(name: str) -> bool:
    return any(name == root or name.startswith(f"{root}.") for root in _ROOTS)
