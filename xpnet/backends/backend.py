"""The base class of backends: an array namespace, the device of its arrays, and its fused kernels."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Self

import array_api_compat
import numpy as np

from xpnet.backends.host import host_array
from xpnet.backends.memory import first_line, is_memory_full
from xpnet.backends.precision import PRECISIONS, bfloat16
from xpnet.errors import BackendError, DTypeError, OutOfMemoryError, one_of

Array = np.ndarray | Any  # of any array-API namespace: the standard defines no type to name

FLOATING = ("float32", "float64")
_ANYWHERE = nullcontext()
ALIGNMENT = 256  # bytes; what the widest vector loads and CuPy's own allocator use
_KERNEL_DTYPES = frozenset(map(np.dtype, FLOATING))


@dataclass(frozen=True)
class Backend:
    """Where arrays live and what computes on them.

    This class works with any array-API namespace. It assumes asynchronous execution, where reading a value waits for
    the device: scalars stay 0-d arrays, and invalid labels and indices are found when the training report is read.
    Subclasses override what their library does differently or faster.

    Attributes:
        name: "cpu", "cuda", "cuda:1", "cpu-reference", "float64", or the caller's own name.
        xp: the array-API namespace.
        device: a device of that namespace.
        dtype: the default floating-point type of parameters.
        kernels: an object whose attributes are the fused kernels of ``kernels/README.md``; None: plain array code.
        precision: in which passes compute, see :meth:`at_precision`.
        synchronous: whether execution is synchronous, so that reading a value does not wait. It is for planning ahead;
            operations use the methods below instead.

    >>> import array_api_strict
    >>> strict = Backend("strict", array_api_strict, array_api_strict.Device("CPU_DEVICE"))
    >>> strict.asarray([1, 2, 3], "float32")
    Array([1., 2., 3.], dtype=array_api_strict.float32)
    >>> strict.to_numpy(strict.aligned_zeros(2, "float64")), strict.synchronous
    (array([0., 0.]), False)
    """

    name: str
    xp: Any
    device: Any
    dtype: str = "float32"
    kernels: Any = None
    precision: str = PRECISIONS[0]
    synchronous: ClassVar[bool] = False

    # Arrays

    def to_numpy(self, array: Array) -> np.ndarray:
        """The array on the host: a copy, which waits for the device; on the CPU it may share memory."""
        return np.from_dlpack(array, device="cpu", copy=True)

    def asarray(self, value: Any, dtype: str | None = None) -> Array:
        """An array of this backend from a NumPy array, a number or a list of numbers; its own arrays are not copied.

        Raises:
            BackendError: ``value`` is an array of another device or library.
            DTypeError: its elements are not numbers.
        """
        wanted = None if dtype is None else getattr(self.xp, dtype)
        if isinstance(value, (np.ndarray, np.generic, list)) or not array_api_compat.is_array_api_obj(value):
            return self.xp.asarray(host_array(value), dtype=wanted, device=self.device)
        self.require(value)
        return value if wanted in (None, value.dtype) else self.xp.astype(value, wanted)

    def reshape(self, x: Array, shape: tuple[int, ...]) -> Array:
        """The same numbers in another shape, in C order: a view where the layout allows one."""
        return self.xp.reshape(x, shape)

    def matmul(self, a: Array, b: Array) -> Array:
        """The product a b of two matrices, (M, K) and (K, N) of one type: (M, N).

        >>> from xpnet.backends import backend
        >>> cpu = backend("cpu")
        >>> cpu.matmul(cpu.asarray([[1.0, 2.0]]), cpu.asarray([[3.0], [4.0]]))
        array([[11.]])
        """
        return self.xp.matmul(a, b)

    def aligned_zeros(self, count: int, dtype: str) -> Array:
        """A vector of ``count`` zeros, aligned to 256 bytes where the library gives access to addresses."""
        return self.xp.zeros((count,), dtype=getattr(self.xp, dtype), device=self.device)

    def owns(self, value: Any) -> bool:
        """Whether ``value`` is an array of this backend's namespace on this backend's device."""
        return (
            array_api_compat.is_array_api_obj(value)
            and array_api_compat.array_namespace(value) is self.xp
            and array_api_compat.device(value) == self.device
        )

    def require(self, value: Any) -> None:
        """Raise BackendError, with the call that converts it, unless ``value`` is an array of this backend."""
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

    # Precision

    def at_precision(self, precision: str) -> Self:
        """This backend with another precision of passes; the models on it stay in the element type that they have.

        Args:
            precision: "float32": in the models' element type. "tf32": factors of float32 products may be rounded to
                TF32. "bf16": what layers pass on to each other is bfloat16.

        Raises:
            ConfigurationError: there is no such precision.
            BackendError: this backend does not compute in it.

        >>> from xpnet.backends import backend
        >>> backend("cpu-reference").at_precision("bf16").activation_dtype
        dtype(bfloat16)
        >>> backend("cpu").at_precision("bf16")
        Traceback (most recent call last):
        xpnet.errors.BackendError: bf16 needs a CUDA device, not backend 'cpu'; 'cpu-reference' emulates it, slowly
        """
        if one_of("precision", precision, PRECISIONS) == self.precision:
            return self
        if precision != PRECISIONS[0]:
            self._require_precision(precision)
        return replace(self, precision=precision)

    def _require_precision(self, precision: str) -> None:
        emulated = "; 'cpu-reference' emulates it, slowly" if precision == "bf16" else ""
        raise BackendError(f"{precision} needs a CUDA device, not backend {self.name!r}{emulated}")

    @cached_property
    def activation_dtype(self) -> Any:
        """bfloat16 where passes compute in it; None: the activations have the parameters' type."""
        return bfloat16() if self.precision == "bf16" else None

    @cached_property
    def in_float32(self) -> Self:
        """This backend at the precision "float32"."""
        return self.at_precision("float32")

    def narrowed(self, x: Array) -> Array:
        """A float32 array rounded to the activations' type; others as they are.

        >>> from xpnet.backends import backend
        >>> emulation = backend("cpu-reference").at_precision("bf16")
        >>> emulation.widened(emulation.narrowed(emulation.asarray([1.01], "float32")))
        array([1.0078125], dtype=float32)
        """
        if self.activation_dtype is None or x.dtype != self.xp.float32:
            return x
        return self.xp.astype(x, self.activation_dtype)

    def widened(self, x: Array) -> Array:
        """A bfloat16 array in float32; others as they are."""
        return self.xp.astype(x, self.xp.float32) if self.is_bfloat16(x) else x

    def is_bfloat16(self, x: Array) -> bool:
        """Whether an array of this backend is bfloat16."""
        return self.activation_dtype is not None and bool(x.dtype == self.activation_dtype)

    # Scalars: 0-d float64 arrays, or Python numbers where execution is synchronous

    def scalar(self, value: Array | float) -> Array | float:
        """A scalar for arithmetic from a 0-d array: here the array itself."""
        return value

    def is_finite(self, scalar: Array) -> Array | bool:
        """Whether a scalar is neither infinite nor NaN: a condition for the methods below."""
        return self.xp.isfinite(scalar)

    def select(self, condition: Array | bool, if_true: Any, if_false: Any) -> Any:
        """``if_true`` if the condition holds, else ``if_false``: scalars, or lists of as many scalars.

        >>> from xpnet.backends import backend
        >>> backend("cpu").select(True, [1.0, 2.0], [3.0, 4.0])
        [1.0, 2.0]
        """
        if isinstance(condition, bool):
            return self._from_scalars(if_true if condition else if_false)
        return self.xp.where(condition, self._from_scalars(if_true), self._from_scalars(if_false))

    def numbers(self, vector: Array) -> list[Any]:
        """The elements of a short float64 vector, as scalars.

        >>> from xpnet.backends import backend
        >>> cpu = backend("cpu")
        >>> cpu.numbers(cpu.asarray([1.0, 2.0]))
        [1.0, 2.0]
        """
        return [vector[place, ...] for place in range(vector.shape[0])]

    def assign(self, vector: Array, numbers: Any) -> None:
        """Write a list of scalars, or what ``select`` returned for lists, into a vector of that length."""
        vector[...] = self._from_scalars(numbers)

    def fill_unless(self, condition: Array | bool, target: Array, value: float) -> None:
        """Fill the target with the value, unless the condition holds."""
        target[...] = self.xp.where(condition, target, self.xp.full_like(target, value))

    def unless(self, condition: Array, written: Iterable[Array], action: Callable[[], None]) -> None:
        """Call ``action``; if the condition, (1,) int32, is not 0, restore the arrays that it wrote.

        >>> from xpnet.backends import backend
        >>> cpu, values = backend("cpu"), np.array([1.0])
        >>> cpu.unless(np.array([1], np.int32), [values], lambda: values.fill(7.0))
        >>> values
        array([1.])
        """
        before = [(array, self.xp.asarray(array, copy=True)) for array in written]
        action()
        for array, values in before:
            array[...] = self.xp.where(condition == 0, array, values)

    def _from_scalars(self, value: Any) -> Array:
        if isinstance(value, list):
            return self.xp.stack([self._from_scalars(item) for item in value])
        if isinstance(value, (int, float)):  # a fill, since a transfer might wait
            return self.xp.full((), value, dtype=self.xp.float64, device=self.device)
        return value

    # Indices

    def take(self, rows: Array, indices: Array, dtype: str) -> Array:
        """The rows at the indices, (N,) integers in [0, M), as floating point.

        Raises:
            DTypeError: indices that are not integers.
            OutOfRangeError: an index is outside [0, M) and execution is synchronous; otherwise its row is NaN.
        """
        self.require_integers(indices, "row indices")
        xp = self.xp
        indices = xp.astype(indices, xp.int64, copy=False)
        valid = (indices >= 0) & (indices < rows.shape[0])
        taken = xp.take(rows, xp.where(valid, indices, xp.zeros_like(indices)), axis=0)
        taken = xp.astype(taken, getattr(xp, dtype))
        valid = xp.reshape(valid, (-1,) + (1,) * (rows.ndim - 1))
        return xp.where(valid, taken, xp.full_like(taken, float("nan")))

    def require_integers(self, indices: Array, what: str) -> None:
        """Raise DTypeError unless the elements are of an integer type."""
        if not self.xp.isdtype(indices.dtype, "integral"):
            raise DTypeError(f"{what} must be integers, not {indices.dtype}")

    def require_in_range(self, indices: Array, below: int, what: str) -> Array | None:
        """Raise OutOfRangeError for the first of (N,) indices that is not in [0, below).

        Where execution is asynchronous, nothing is raised. The position of that index is returned instead, or -1, as a
        0-d float64 array: the caller sets its own result to NaN, and the training report raises the error. Elsewhere
        None is returned.
        """
        xp, count = self.xp, indices.shape[0]
        indices = xp.astype(indices, xp.int64, copy=False)  # narrow types cannot hold every bound
        places = xp.arange(count, dtype=xp.float64, device=self.device)
        bad = (indices < 0) | (indices >= below)
        none = xp.full((1,), count, dtype=xp.float64, device=self.device)  # so that the minimum of no indices exists
        first = xp.min(xp.concat([xp.where(bad, places, xp.full_like(places, count)), none]))
        return xp.where(first < count, first, xp.full_like(first, -1.0))

    # The device

    def on_device(self) -> AbstractContextManager[Any]:
        """A context to compute with this backend's arrays in: its device is the current one, where there are several.

        >>> from xpnet.backends import backend
        >>> cpu = backend("cpu")
        >>> with cpu.on_device():
        ...     cpu.asarray([1.0]) + 1.0
        array([2.])
        """
        return _ANYWHERE

    def require_on_device(self) -> None:
        """Raise BackendError unless the code runs in that context, where it matters."""

    def synchronize(self) -> None:
        """Wait until the device has finished its queued work; here nothing, as the array API has no such call."""

    def mark(self) -> Any:
        """A time stamp of the device, for ``seconds_between``; it does not wait."""
        return time.perf_counter()

    def seconds_between(self, began: Any, ended: Any) -> float:
        """The seconds between two marks; call ``synchronize`` first."""
        return ended - began

    def annotate(self, name: str) -> AbstractContextManager[Any]:
        """A context that the device's profiler shows under this name."""
        return nullcontext()

    def peak_memory(self) -> int | None:
        """The most bytes in use so far; None where that is not known."""
        return None

    def ignoring_overflow(self) -> AbstractContextManager[Any]:
        """A context in which overflow gives infinities and NaN without a warning, for callers that check the result."""
        return nullcontext()

    @contextmanager
    def memory_for(self, purpose: str) -> Iterator[None]:
        """A context in which running out of memory raises OutOfMemoryError with the purpose.

        The array library's own message, which has the number of bytes, follows in brackets.

        >>> from xpnet.backends import backend
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
            message = f"not enough memory for {purpose} ({first_line(error)})"
            raise OutOfMemoryError(message) from error

    def kernel(self, name: str, *arrays: Array) -> Callable[..., Any] | None:
        """The fused kernel ``name``; None if this backend lacks it, or it does not support such arrays."""
        if self.kernels is None:
            return None
        for array in arrays:
            if array.dtype not in _KERNEL_DTYPES and not self.is_bfloat16(array):
                return None
            if not array.flags.c_contiguous:
                return None
        return getattr(self.kernels, name, None)

    # Copies

    def __copy__(self) -> Backend:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Backend:
        return self  # immutable, and independent of any model

    def __reduce__(self) -> tuple[Any, ...]:
        """Those of :func:`xpnet.backend` are pickled by name, see ``by_name.py``; others cannot be."""
        raise BackendError(f"only the backends that xpnet.backend(name) returns can be pickled, not {self.name!r}")
