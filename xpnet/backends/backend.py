"""What a backend is: an array namespace, the device its arrays live on, and the fused kernels that serve it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

import array_api_compat
import numpy as np

from xpnet.backends.host import host_array
from xpnet.backends.memory import first_line, is_memory_full
from xpnet.errors import BackendError, DTypeError, OutOfMemoryError

Array = np.ndarray | Any  # of any array-API namespace: the standard defines no type to name

FLOATING = ("float32", "float64")
ALIGNMENT = 256  # bytes; what the widest vector loads and CuPy's own allocator use
_KERNEL_DTYPES = frozenset(map(np.dtype, FLOATING))


@dataclass(frozen=True)
class Backend:
    """Where arrays live and what computes on them.

    This class serves any array-API namespace, and takes it that a look at a value waits for the device: so scalars
    stay 0-d arrays, and what is wrong with a label or an index is found when a report is read. Subclasses override
    what their library does otherwise or better.

    Attributes:
        name: "cpu", "cuda", "cpu-reference", "float64", or a name of the caller's own.
        xp: the array-API namespace.
        device: a device of that namespace.
        dtype: the floating-point type of parameters when none is named.
        kernels: an object whose attributes are the fused functions of ``kernels/README.md``; None: plain array code.
        synchronous: whether looking at a value costs no wait; for those who plan, as an operation has methods for it.

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
    synchronous: ClassVar[bool] = False

    # Arrays

    def to_numpy(self, array: Array) -> np.ndarray:
        """The array on the host: a copy that waits for the device, or on the CPU perhaps the same memory."""
        return np.from_dlpack(array, device="cpu", copy=True)

    def asarray(self, value: Any, dtype: str | None = None) -> Array:
        """Bring a NumPy array, a number or a list of numbers here; an array that is already here stays as it is.

        Raises:
            BackendError: ``value`` is an array of another device or library.
            DTypeError: its elements are no numbers.
        """
        wanted = None if dtype is None else getattr(self.xp, dtype)
        if isinstance(value, (np.ndarray, np.generic, list)) or not array_api_compat.is_array_api_obj(value):
            return self.xp.asarray(host_array(value), dtype=wanted, device=self.device)
        self.require(value)
        return value if wanted in (None, value.dtype) else self.xp.astype(value, wanted)

    def reshape(self, x: Array, shape: tuple[int, ...]) -> Array:
        """The same numbers in another shape, in C order: a view where the layout allows one."""
        return self.xp.reshape(x, shape)

    def aligned_zeros(self, count: int, dtype: str) -> Array:
        """A vector of ``count`` zeros whose first byte lies on a 256-byte boundary, where addresses can be seen."""
        return self.xp.zeros((count,), dtype=getattr(self.xp, dtype), device=self.device)

    def owns(self, value: Any) -> bool:
        """Whether ``value`` is an array of this backend's namespace on this backend's device."""
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

    # Scalars: of float64, and Python numbers where a look at them costs nothing

    def scalar(self, value: Array | float) -> Array | float:
        """The number in a 0-d array, for arithmetic: here the array itself."""
        return value

    def is_finite(self, scalar: Array) -> Array | bool:
        """Whether a scalar is neither infinite nor NaN: a condition for the methods below."""
        return self.xp.isfinite(scalar)

    def select(self, condition: Array | bool, these: Any, those: Any) -> Any:
        """``these`` if the condition holds, else ``those``: scalars, or lists of as many scalars.

        >>> from xpnet.backends import backend
        >>> backend("cpu").select(True, [1.0, 2.0], [3.0, 4.0])
        [1.0, 2.0]
        """
        if isinstance(condition, bool):
            return self._from_scalars(these if condition else those)
        return self.xp.where(condition, self._from_scalars(these), self._from_scalars(those))

    def numbers(self, vector: Array) -> list[Any]:
        """The elements of a short float64 vector, as scalars.

        >>> from xpnet.backends import backend
        >>> cpu = backend("cpu")
        >>> cpu.numbers(cpu.asarray([1.0, 2.0]))
        [1.0, 2.0]
        """
        return [vector[place, ...] for place in range(vector.shape[0])]

    def assign(self, vector: Array, numbers: Any) -> None:
        """Write scalars, a list or what ``select`` gave for lists, into a vector of that length."""
        vector[...] = self._from_scalars(numbers)

    def fill_unless(self, condition: Array | bool, target: Array, value: float) -> None:
        """Write the value into the whole target, unless the condition holds."""
        target[...] = self.xp.where(condition, target, self.xp.full_like(target, value))

    def unless(self, condition: Array, written: Iterable[Array], action: Callable[[], None]) -> None:
        """Call ``action``, and undo what it wrote into the arrays where the condition, (1,) int32, is not 0.

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
        if isinstance(value, (int, float)):  # by a fill, for a transfer might wait
            return self.xp.full((), value, dtype=self.xp.float64, device=self.device)
        return value

    # Indices

    def take(self, rows: Array, indices: Array, dtype: str) -> Array:
        """The rows at the indices, (N,) integers in [0, M), as floating point.

        Raises:
            DTypeError: indices that are not integers.
            OutOfRangeError: an index outside [0, M), naming its place, where a look at it costs nothing; elsewhere its
                row is NaN.
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
        """Raise OutOfRangeError, naming the first offender, unless 0 <= indices < below, for (N,) indices.

        Where a look would wait for the device nothing is raised: the caller poisons its result, and keeps for the
        report what this returns, which is the first offender's place, or -1, as a 0-d float64 array. Elsewhere None.
        """
        xp, count = self.xp, indices.shape[0]
        indices = xp.astype(indices, xp.int64, copy=False)  # narrow types cannot hold every bound
        places = xp.arange(count, dtype=xp.float64, device=self.device)
        bad = (indices < 0) | (indices >= below)
        none = xp.full((1,), count, dtype=xp.float64, device=self.device)  # after all others: the minimum has a number
        first = xp.min(xp.concat([xp.where(bad, places, xp.full_like(places, count)), none]))
        return xp.where(first < count, first, xp.full_like(first, -1.0))

    # The device

    def synchronize(self) -> None:
        """Wait until the device has done all that was asked of it; here nothing, as of a library that does not say."""

    def mark(self) -> Any:
        """A point in the device's time, for ``seconds_between``; nothing waits."""
        return time.perf_counter()

    def seconds_between(self, began: Any, ended: Any) -> float:
        """The time between two marks, after ``synchronize``."""
        return ended - began

    def annotate(self, name: str) -> AbstractContextManager[Any]:
        """A block that a profiler of the device shows under a name."""
        return nullcontext()

    def peak_memory(self) -> int | None:
        """The most bytes in use so far; None where that is not known."""
        return None

    def ignoring_overflow(self) -> AbstractContextManager[Any]:
        """A block in which floating-point overflow gives infinities and NaN without a warning.

        For callers that look at the outcome.
        """
        return nullcontext()

    @contextmanager
    def memory_for(self, purpose: str) -> Iterator[None]:
        """A block in which running out of memory is an OutOfMemoryError that names the purpose.

        What the library below says, which is how many bytes were asked for, is kept in brackets.

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
        """The fused function ``name`` when this backend has it and it serves such arrays, else None."""
        if self.kernels is None:
            return None
        for array in arrays:
            if array.dtype not in _KERNEL_DTYPES or not array.flags.c_contiguous:
                return None
        return getattr(self.kernels, name, None)

    # Copies

    def __copy__(self) -> Backend:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Backend:
        return self  # it holds nothing of a model's, and nothing that changes

    def __reduce__(self) -> tuple[Any, ...]:
        """A pickle keeps the name, and is opened as the backend of that name there."""
        from xpnet.backends.by_name import NAMES, unpickled

        if self.name not in NAMES:
            raise BackendError(f"only the backends {', '.join(NAMES)} can be pickled, not {self.name!r}")
        return unpickled, (self.name, self.dtype)
