"""``cupy.ndarray``: an array on a device, in the host's memory, which NumPy does not take for one of its own."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from .memory import pool
from .record import note_synchronization, note_transfer
from .streams import Device, access, current_device, get_current_stream, queue, wait_for

SCALARS = (bool, int, float, complex, np.generic)
_SUPPORTED = "?bhilqBHILQefdFDE"  # CuPy's element types; E is bfloat16, of ml_dtypes


class ndarray:  # noqa: N801 (CuPy's name)
    """An array on a device.

    Attributes:
        host: the same memory as a NumPy array; for this package alone.
        block: the memory.
    """

    __slots__ = ("__weakref__", "block", "host")

    def __init__(self, shape: int | Sequence[int], dtype: Any = float, *, order: str = "C") -> None:
        dtype = np.dtype(dtype)
        if dtype.char not in _SUPPORTED:
            raise ValueError(f"Unsupported dtype {dtype}")
        shape = (int(shape),) if np.ndim(shape) == 0 else tuple(map(int, shape))  # type: ignore[arg-type]
        nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        self.block = pool().allocate(nbytes, current_device(), get_current_stream().ptr)
        self.host = np.ndarray(shape, dtype, self.block.contents.data if nbytes else None, order=order)

    # What needs no device

    dtype = property(lambda self: self.host.dtype)
    size = property(lambda self: self.host.size)
    ndim = property(lambda self: self.host.ndim)
    nbytes = property(lambda self: self.host.nbytes)
    itemsize = property(lambda self: self.host.itemsize)
    strides = property(lambda self: self.host.strides)
    device = property(lambda self: Device(self.block.device))
    T = property(lambda self: view(self, self.host.T))
    real = property(lambda self: self)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.host.shape

    @shape.setter
    def shape(self, shape: Any) -> None:
        try:
            self.host = np.reshape(self.host, shape, copy=False)
        except ValueError:
            raise AttributeError("incompatible shape") from None

    @property
    def flags(self) -> SimpleNamespace:
        flags = self.host.flags
        return SimpleNamespace(
            c_contiguous=flags.c_contiguous, f_contiguous=flags.f_contiguous, owndata=self.host.base is None
        )

    @property
    def data(self) -> SimpleNamespace:
        pointer = self.host.__array_interface__["data"][0] if self.size else 0
        return SimpleNamespace(ptr=pointer, device=self.device, device_id=self.block.device)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        contiguous = self.host.flags.c_contiguous
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "descr": self.dtype.descr,
            "data": (self.data.ptr, False),
            "strides": None if contiguous else self.strides,
            "stream": get_current_stream().ptr or 1,
            "version": 3,
        }

    def __len__(self) -> int:
        return len(self.host)

    def __iter__(self) -> Iterator[ndarray]:
        return (self[place] for place in range(len(self)))

    def reshape(self, *shape: Any, order: str = "C") -> ndarray:
        shape = shape[0] if len(shape) == 1 else shape
        try:
            return view(self, np.reshape(self.host, shape, order=order, copy=False))
        except ValueError:
            np.broadcast_to(0, self.shape).reshape(shape)  # raises if that is not the shape of as many elements
            return new("copy", np.reshape(self.host, shape, order=order), self)

    def ravel(self, order: str = "C") -> ndarray:
        return self.reshape(-1, order=order)

    def flatten(self, order: str = "C") -> ndarray:
        return new("copy", self.host.flatten(order), self)

    def transpose(self, *axes: Any) -> ndarray:
        return view(self, self.host.transpose(*axes))

    def squeeze(self, axis: Any = None) -> ndarray:
        return view(self, self.host.squeeze(axis))

    def swapaxes(self, one: int, other: int) -> ndarray:
        return view(self, self.host.swapaxes(one, other))

    def view(self, dtype: Any = None) -> ndarray:
        return view(self, self.host.view() if dtype is None else self.host.view(dtype))

    # What NumPy and Python may ask

    def __array__(self, *arguments: Any, **keywords: Any) -> np.ndarray:
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. "
            "Please use `.get()` to construct a NumPy array explicitly."
        )

    def get(self, stream: Any = None, order: str = "C", out: np.ndarray | None = None, blocking: bool = True) -> Any:
        copy = self._waited("get")
        if out is None:
            return copy
        out[...] = copy
        return out

    def _waited(self, name: str) -> np.ndarray:
        """A copy on the host, after a wait for the device."""
        if self.size == 0:
            return self.host.copy()
        handle = get_current_stream().ptr
        queue("to host", [self.block.chunk], [], handle)
        note_synchronization(name)
        wait_for(handle)
        return self.host.copy()

    def item(self, *place: Any) -> Any:
        return self._waited("item").item(*place)

    def tolist(self) -> Any:
        return self._waited("tolist").tolist()

    def tobytes(self, order: str = "C") -> bytes:
        return self._waited("tobytes").tobytes(order)

    def __bool__(self) -> bool:
        return bool(self._waited("bool"))

    def __int__(self) -> int:
        return int(self._waited("int"))

    def __float__(self) -> float:
        return float(self._waited("float"))

    def __complex__(self) -> complex:
        return complex(self._waited("complex"))

    def __index__(self) -> int:
        return self._waited("index").__index__()

    def __repr__(self) -> str:
        return repr(self._waited("repr"))

    def __str__(self) -> str:
        return str(self._waited("str"))

    def __format__(self, specification: str) -> str:
        return format(self._waited("format"), specification)

    def __reduce__(self) -> Any:
        return on_device, (self._waited("pickle"),)

    __hash__ = None  # type: ignore[assignment]

    # What the device does

    def copy(self, order: str = "C") -> ndarray:
        return new("copy", self.host.copy(order), self)

    def __copy__(self) -> ndarray:
        return self.copy()

    def __deepcopy__(self, memo: Any) -> ndarray:
        return self.copy()

    def astype(
        self, dtype: Any, order: str = "K", casting: Any = None, subok: Any = None, copy: bool = True
    ) -> ndarray:
        if not copy and self.dtype == np.dtype(dtype):
            return self
        with np.errstate(all="ignore"):
            return new("copy", self.host.astype(dtype, order=order), self)

    def fill(self, value: Any) -> None:
        if isinstance(value, np.ndarray):
            if value.shape != ():
                raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
            value = value.item()
        if isinstance(value, ndarray):
            self[...] = value  # type: ignore[index]
            return
        if not isinstance(value, SCALARS):
            raise TypeError(f"Unsupported type {type(value)}")
        with np.errstate(all="ignore"):
            self.host.fill(value)
        written("fill", self)

    def set(self, array: np.ndarray) -> None:
        if not isinstance(array, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if (array.dtype, array.shape) != (self.dtype, self.shape):
            raise ValueError(f"{array.dtype} {array.shape} cannot be set to {self.dtype} {self.shape}")
        self._send(array)

    def _send(self, values: np.ndarray) -> None:
        self.host[...] = values
        note_transfer()
        access("to device", [], [self.block.chunk])


def on_device(values: np.ndarray) -> ndarray:
    """A copy of an array of the host; a number is filled in."""
    result = ndarray(values.shape, values.dtype)
    if values.ndim == 0:
        result.fill(values)
    elif values.size:
        result._send(values)
    return result


def view(array: ndarray, host: np.ndarray) -> ndarray:
    """Another view of the array's memory."""
    result = ndarray.__new__(ndarray)
    result.block, result.host = array.block, host
    return result


def new(name: str, values: np.ndarray | np.generic, *inputs: Any) -> ndarray:
    """A new array with these values, which an operation of that name has computed from the inputs."""
    values = np.asarray(values)
    fortran = values.flags.f_contiguous and not values.flags.c_contiguous
    result = ndarray(values.shape, values.dtype, order="F" if fortran else "C")
    result.host[...] = values
    written(name, result, *inputs)
    return result


def written(name: str, output: ndarray, *inputs: Any) -> None:
    """Count an operation that read the inputs and wrote the output; with nothing to write there is none."""
    if output.size:
        reads = [value.block.chunk for value in inputs if isinstance(value, ndarray)]
        queue(name, reads, [output.block.chunk])


def host(value: Any) -> Any:
    """An argument as NumPy takes it: an array of the current device, or a scalar.

    Raises:
        TypeError: anything else, such as an array on the host.
        ValueError: an array on another device.
    """
    if type(value) is ndarray:
        if value.block.device != current_device():
            raise ValueError(
                "Array device must be same as the current device: "
                f"array device = {value.block.device} while current = {current_device()}"
            )
        return value.host
    if isinstance(value, SCALARS):
        return value
    raise TypeError(f"Unsupported type {type(value)}")


def quietly(function: Callable) -> Callable:
    """A device gives infinities and NaN without a warning."""

    @functools.wraps(function)
    def call(*arguments: Any, **keywords: Any) -> Any:
        with np.errstate(all="ignore"):
            return function(*arguments, **keywords)

    return call
