"""A backend: an array namespace, the device its arrays live on, and the fused kernels that serve it.

This is the only module that knows one device from another. Everything above asks the backend it was given, and
nothing is kept in a global: a model lives on one backend and says which.

>>> import numpy as np
>>> cpu = backend("cpu")
>>> cpu.asarray([1, 2, 3], "float32")
array([1., 2., 3.], dtype=float32)
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import array_api_compat
import numpy as np

from xpnet.errors import BackendError, ConfigurationError, DTypeError, OutOfMemoryError, OutOfRangeError, one_of

Array = np.ndarray | Any  # the array-API standard has no type for arrays; this offers editors NumPy's methods

NAMES = ("auto", "cpu", "cuda", "cpu-reference", "float64")
FLOATING = ("float32", "float64")
ALIGNMENT = 256  # bytes; what the widest vector loads and CuPy's own allocator use
_KERNEL_DTYPES = frozenset(map(np.dtype, FLOATING))


@dataclass(frozen=True)
class Backend:
    """Where arrays live and what computes on them.

    Attributes:
        name: "cpu", "cuda", "cpu-reference", "float64", or a name of the caller's own.
        xp: the array-API namespace.
        device: a device of that namespace.
        to_numpy: copies an array of this backend to the host (waits for the device); shares memory on the CPU.
        synchronize: waits until the device has done all that was asked of it.
        ignoring_overflow: opens a block in which floating-point overflow gives infinities and NaN without a warning,
            for callers that look at the outcome.
        kernels: an object whose attributes are the fused functions of ``kernels/README.md``; None: plain array code.
        synchronous: whether looking at a value costs no wait. Where it does not, bad labels and indices raise at
            once; elsewhere they poison the loss, and the next report raises.
        dtype: the floating-point type of parameters when none is named.
        mark: a point in the device's time, for ``seconds_between``; nothing waits.
        seconds_between: two marks, after ``synchronize``.
        annotate: opens a block that a profiler of the device shows under a name.
        peak_memory: the most bytes in use so far; None where that is not known.

    >>> cpu = backend("cpu")
    >>> cpu.name, cpu.dtype, cpu.synchronous, cpu.kernels is None
    ('cpu', 'float32', True, False)
    """

    name: str
    xp: Any
    device: Any
    to_numpy: Callable[[Array], np.ndarray]
    synchronize: Callable[[], None] = field(default=lambda: None)
    ignoring_overflow: Callable[[], AbstractContextManager[Any]] = nullcontext
    kernels: Any = None
    synchronous: bool = True
    dtype: str = "float32"
    mark: Callable[[], Any] = time.perf_counter
    seconds_between: Callable[[Any, Any], float] = lambda began, ended: ended - began
    annotate: Callable[[str], AbstractContextManager[Any]] = nullcontext
    peak_memory: Callable[[], int | None] = lambda: None

    def __reduce__(self) -> Any:
        return backend, (self.name,)

    def __deepcopy__(self, memo: Any) -> Backend:
        return self

    def asarray(self, value: Any, dtype: str | None = None) -> Array:
        """Bring a NumPy array, a number or a list of numbers here; an array that is already here stays as it is.

        Raises:
            BackendError: ``value`` is an array of another device or library.
            DTypeError: its elements are no numbers.
        """
        wanted = None if dtype is None else getattr(self.xp, dtype)
        # A list comes at every step, and the longer question would take as long as all the rest.
        on_host = isinstance(value, (np.ndarray, np.generic, list)) or not array_api_compat.is_array_api_obj(value)
        if not on_host and not self.owns(value):
            raise self._foreign(value)
        if not on_host:
            return value if wanted in (None, value.dtype) else self.xp.astype(value, wanted)
        host = np.asarray(value)
        if host.dtype.kind not in "biuf":
            raise DTypeError(f"expected numbers, got an array of {host.dtype} of shape {host.shape}")
        if not host.dtype.isnative:
            host = host.astype(host.dtype.newbyteorder("="))
        if self.xp is np and wanted in (None, host.dtype):
            return host
        return self.xp.asarray(host, dtype=wanted, device=self.device)

    def reshape(self, x: Array, shape: tuple[int, ...]) -> Array:
        """The same numbers in another shape, in C order: a view where the layout allows one.

        >>> backend("cpu").reshape(np.arange(4), (2, 2)).tolist()
        [[0, 1], [2, 3]]
        """
        return x.reshape(shape) if self.xp is np else self.xp.reshape(x, shape)  # np.reshape takes five times as long

    def owns(self, value: Any) -> bool:
        """Whether ``value`` is an array of this backend's namespace on this backend's device."""
        if self.xp is np:
            return isinstance(value, np.ndarray)
        return (
            array_api_compat.is_array_api_obj(value)
            and array_api_compat.array_namespace(value) is self.xp
            and array_api_compat.device(value) == self.device
        )

    def require(self, value: Any) -> None:
        """Raise BackendError, naming both sides and the mending call, unless ``value`` lives here."""
        if not self.owns(value):
            raise self._foreign(value)

    def _foreign(self, value: Any) -> BackendError:
        kind = f"{type(value).__module__.partition('.')[0]}.{type(value).__name__}"
        place = f" on {array_api_compat.device(value)}" if array_api_compat.is_array_api_obj(value) else ""
        mend = (
            "call model.backend.asarray(x) on it first"
            if isinstance(value, (np.ndarray, list, tuple, int, float))
            else "copy it to the host with its own backend's to_numpy, then call model.backend.asarray"
        )
        return BackendError(f"got a {kind}{place}, but this model lives on backend {self.name!r}: {mend}")

    @contextmanager
    def memory_for(self, purpose: str) -> Iterator[None]:
        """A block in which running out of memory is an OutOfMemoryError that names the purpose.

        What the library below says, which is how many bytes were asked for, is kept in brackets.

        >>> with backend("cpu").memory_for("10 rows: take fewer"):
        ...     raise MemoryError("Unable to allocate 7 GiB")
        Traceback (most recent call last):
        xpnet.errors.OutOfMemoryError: not enough memory for 10 rows: take fewer (Unable to allocate 7 GiB)
        """
        try:
            yield
        except OutOfMemoryError:
            raise
        except Exception as error:
            if not is_memory_full(error):
                raise
            message = f"not enough memory for {purpose} ({_first_line(error)})"
            raise OutOfMemoryError(message) from error

    def aligned_zeros(self, count: int, dtype: str) -> Array:
        """A vector of ``count`` zeros whose first byte lies on a 256-byte boundary."""
        if self.xp is not np:  # other allocators align, or show no address to align
            return self.xp.zeros((count,), dtype=getattr(self.xp, dtype), device=self.device)
        itemsize = np.dtype(dtype).itemsize
        room = np.zeros(count * itemsize + ALIGNMENT, np.uint8)
        start = -room.ctypes.data % ALIGNMENT
        return room[start : start + count * itemsize].view(dtype)

    def kernel(self, name: str, *arrays: Array) -> Callable[..., Any] | None:
        """The fused function ``name`` when this backend has it and it serves such arrays, else None."""
        if self.kernels is None:
            return None
        for array in arrays:
            if array.dtype not in _KERNEL_DTYPES or not array.flags.c_contiguous:
                return None
        return getattr(self.kernels, name, None)

    def unless(self, condition: Array, written: Iterable[Array], action: Callable[[], None]) -> None:
        """Call ``action``, and undo what it wrote into the arrays where ``condition``, (1,) int32, is not 0.

        >>> cpu, values = backend("cpu"), np.array([1.0])
        >>> cpu.unless(np.array([1], np.int32), [values], lambda: values.fill(7.0))
        >>> values
        array([1.])
        """
        if self.synchronous:
            if not condition[0]:
                action()
            return
        before = [(array, self.xp.asarray(array, copy=True)) for array in written]
        action()
        for array, values in before:
            array[...] = self.xp.where(condition == 0, array, values)

    def require_integers(self, indices: Array, what: str) -> None:
        """Raise DTypeError unless the elements are of an integer type."""
        if not self.xp.isdtype(indices.dtype, "integral"):
            raise DTypeError(f"{what} must be integers, not {indices.dtype}")

    def require_in_range(self, indices: Array, below: int, what: str) -> None:
        """Raise OutOfRangeError, naming the first offender, unless 0 <= indices < below.

        Where reading would make the device wait this does nothing; the caller must then poison its result.
        """
        if not self.synchronous:
            return
        require_indices(self.to_numpy(indices), below, what)


def require_indices(values: np.ndarray, below: int, what: str) -> None:
    """Raise OutOfRangeError, naming the first offender, unless 0 <= values < below; for arrays on the host.

    >>> require_indices(np.array([0, 3]), 3, "label")
    Traceback (most recent call last):
    xpnet.errors.OutOfRangeError: label 3 at row 1 is outside 0 to 2
    """
    bad = (values < 0) | (values >= below)
    if bad.any():
        row = int(bad.argmax())
        raise OutOfRangeError(f"{what} {values[row]} at row {row} is outside 0 to {below - 1}")


def backend(name: str = "auto") -> Backend:
    """The backend called ``name``.

    Args:
        name: "auto" is CUDA when a compiled test kernel really ran there, else the CPU. "cpu" is NumPy with fused
            kernels, "cpu-reference" NumPy alone, "float64" the same in double precision; "cuda" is CuPy on the
            current device (choose one of several with CUDA_VISIBLE_DEVICES).

    Raises:
        BackendError: "cuda" was asked for and is unusable; the message says why and what mends it.
        ConfigurationError: there is no such backend; or XPNET_NUM_THREADS, which says how many threads kernels may use
            on the CPU, is no whole number of at least 1.

    >>> backend("float64").asarray([1, 2]).dtype, backend("float64").dtype
    (dtype('int64'), 'float64')
    >>> backend("gpu")
    Traceback (most recent call last):
    xpnet.errors.ConfigurationError: unknown device 'gpu'...; the choices are auto, cpu, cuda, cpu-reference, float64
    """
    one_of("device", name, NAMES)
    if name == "auto":
        name = "cpu" if cuda_problem() else "cuda"
    elif name == "cuda" and (problem := cuda_problem()):
        raise BackendError(f"device 'cuda' cannot be used: {problem}")
    if name == "cuda":
        return _cuda_backend()
    if name == "cpu":
        import xpnet_kernels.cpu
        from xpnet_kernels.cpu.threads.limit import thread_limit

        try:
            thread_limit()
        except ValueError as error:
            raise ConfigurationError(str(error)) from None
        return _numpy_backend("cpu", kernels=xpnet_kernels.cpu)
    return _numpy_backend(name, dtype="float64" if name == "float64" else "float32")


def _numpy_backend(name: str, **options: Any) -> Backend:
    return Backend(
        name=name,
        xp=np,
        device="cpu",
        to_numpy=np.asarray,
        ignoring_overflow=_ignoring_overflow,
        peak_memory=_peak_resident_memory,
        **options,
    )


def _peak_resident_memory() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _ignoring_overflow() -> AbstractContextManager[Any]:
    return np.errstate(over="ignore", invalid="ignore")


def _cuda_backend() -> Backend:
    import array_api_compat.cupy as cupy_namespace
    import cupy

    return Backend(
        name="cuda",
        xp=cupy_namespace,
        device=cupy.cuda.Device(),
        to_numpy=cupy.asnumpy,
        synchronize=lambda: cupy.cuda.get_current_stream().synchronize(),
        kernels=_CudaKernels(cupy) if importlib.util.find_spec("numba_cuda") else None,
        synchronous=False,
        mark=lambda: cupy.cuda.get_current_stream().record(),
        seconds_between=lambda began, ended: cupy.cuda.get_elapsed_time(began, ended) / 1e3,
        annotate=_nvtx_range,
        peak_memory=lambda: int(cupy.get_default_memory_pool().total_bytes()),
    )


def _nvtx_range(name: str) -> AbstractContextManager[Any]:
    from cupyx.profiler import time_range

    return time_range(name)


class _CudaKernels:
    """The CUDA kernels, each launched on CuPy's current stream."""

    def __init__(self, cupy: Any) -> None:
        import xpnet_kernels.cuda

        self._cupy = cupy
        self._kernels = xpnet_kernels.cuda

    def __getattr__(self, name: str) -> Callable[..., Any]:
        kernel = getattr(self._kernels, name)
        current_stream = self._cupy.cuda.get_current_stream

        def launch(*arguments: Any, **keywords: Any) -> Any:
            return kernel(*arguments, stream=current_stream().ptr, **keywords)

        return launch


def cuda_problem() -> str | None:
    """Why CUDA cannot be used here, with what mends it, in one sentence; None when a test kernel ran.

    >>> backend("auto").name == ("cuda" if cuda_problem() is None else "cpu")
    True
    """
    specification = importlib.util.find_spec("cupy")
    if specification is None:
        return "CuPy is not installed: pip install 'xpnet[cuda13]' (or 'xpnet[cuda12]' for a CUDA 12 driver)"
    if specification.origin is None:  # a folder without a package in it; importing it would succeed, and mislead
        folder = next(iter(specification.submodule_search_locations or ["cupy"]))
        return f"{folder} is what an uninstalled CuPy left behind: delete that folder"
    names = (distribution.name or "" for distribution in importlib.metadata.distributions())
    wheels = sorted({name for name in names if re.fullmatch(r"cupy(-cuda\d+x|-rocm-.+)?", name.lower())})
    if len(wheels) > 1:
        return (
            f"two CuPy packages are installed ({', '.join(wheels)}) and overwrite each other: "
            f"uninstall both with 'pip uninstall {' '.join(wheels)}', then install one"
        )
    try:
        import cupy
    except Exception as error:  # a broken installation fails in many ways, and each is a reason
        return f"CuPy is installed but cannot be imported ({_first_line(error)}): reinstall it"
    package = wheels[0] if wheels else "cupy"
    return _device_problem(cupy, package) or _kernel_problem(cupy, package)


def _kernel_problem(cupy: Any, package: str) -> str | None:
    """Why the fused kernels do not run on a device that works otherwise; None, too, where they are not installed."""
    if importlib.util.find_spec("numba_cuda") is None:
        return None
    extra = "xpnet[cuda12]" if package == "cupy-cuda12x" else "xpnet[cuda13]"
    try:
        from xpnet_kernels.cuda import sgd_update

        values = cupy.ones(4)
        sgd_update(values, cupy.ones(4), cupy.full(1, 0.5), stream=cupy.cuda.get_current_stream().ptr)
        if cupy.asnumpy(values).tolist() != [0.5] * 4:
            return "a fused test kernel ran and gave wrong numbers: the GPU or its driver is faulty"
    except Exception as error:
        if is_memory_full(error):
            return _explain(error, package)
        text = f"{type(error).__name__}: {_first_line(error)}"
        return f"the fused kernels do not run ({text}): pip install --force-reinstall '{extra}', or update the driver"
    return None


def _device_problem(cupy: Any, package: str) -> str | None:
    runtime = cupy.cuda.runtime
    try:
        driver = runtime.driverGetVersion()
        if driver == 0:
            return "no NVIDIA driver was found: install one, or use --device cpu"
        built_for = runtime.runtimeGetVersion()
        if driver // 1000 < built_for // 1000:
            return (
                f"the NVIDIA driver is too old: it supports CUDA {driver // 1000}, and this CuPy is built for CUDA "
                f"{built_for // 1000}: update the driver, or install 'xpnet[cuda{driver // 1000}]' instead"
            )
        if runtime.getDeviceCount() == 0:
            return "the driver shows no GPU: see nvidia-smi and CUDA_VISIBLE_DEVICES"
        values = cupy.arange(4) * 2 + 1  # the first kernel: needs the compiler, the GPU and some memory
        if cupy.asnumpy(values).tolist() != [1, 3, 5, 7]:
            return "a test kernel ran and gave wrong numbers: the GPU or its driver is faulty"
        ones = cupy.ones((2, 2))
        if cupy.asnumpy(cupy.matmul(ones, ones)).tolist() != [[2, 2], [2, 2]]:  # the first product: needs cuBLAS
            return "a test product ran and gave wrong numbers: the GPU or its driver is faulty"
    except Exception as error:  # whatever CuPy raises here is a reason, and this function's job is to tell it
        return _explain(error, package)
    return None


def _explain(error: Exception, package: str) -> str:
    text = f"{type(error).__name__}: {_first_line(error)}"
    lowered = text.lower()
    if is_memory_full(error):
        return f"the GPU's memory is full ({text}): end other programs on it (nvidia-smi lists them)"
    if any(word in lowered for word in ("nokernelimage", "no_binary", "invalidptx", "unsupported", "gpu-architecture")):
        return f"this GPU is not supported by the installed CuPy ({text}): install the CuPy that fits it"
    if "cublas" in lowered:
        cure = "" if isinstance(error, ImportError) else "if the GPU's memory is full end other programs on it, else "
        return (
            f"cuBLAS, CUDA's matrix products, is missing or does not work ({text}): {cure}pip install '{package}[ctk]'"
        )
    if "nvrtc" in lowered or "cannot open source file" in lowered or "compileexception" in lowered:
        return f"CuPy's kernel compiler is missing or does not work ({text}): pip install '{package}[ctk]'"
    if "nodevice" in lowered:
        return f"the driver shows no GPU ({text}): see nvidia-smi and CUDA_VISIBLE_DEVICES"
    if "insufficientdriver" in lowered:
        return f"the NVIDIA driver is missing or too old for this CuPy ({text}): update the driver"
    return f"a test kernel failed ({text}): 'python -c \"import cupy; cupy.show_config()\"' tells more"


def is_memory_full(error: Exception) -> bool:
    """Whether an error of NumPy's, CuPy's, cuBLAS's or Numba's says that there is no memory left.

    >>> is_memory_full(RuntimeError("CUBLAS_STATUS_ALLOC_FAILED")), is_memory_full(OSError())
    (True, False)
    """
    text = f"{type(error).__name__}: {error}".lower().replace("_", "")
    words = ("outofmemory", "memoryallocation", "allocfailed")
    return isinstance(error, MemoryError) or any(word in text for word in words)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or "no message").splitlines()[0]
