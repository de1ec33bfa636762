"""Array arguments, checked. They are read from ``__cuda_array_interface__``, and CuPy's from their attributes.

A step of a small network is limited by the work on the host; ``bench/launch_overhead.py`` measures it.
"""

from __future__ import annotations

import ctypes
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.np.numpy_support import from_dtype

from .primitives import SIMULATED

BFLOAT16 = types.uint16  # its bits: the upper half of a float32
REALS = (types.float32, types.float64, BFLOAT16, types.float16)
INTEGERS = (
    types.int8, types.int16, types.int32, types.int64, types.uint8, types.uint16, types.uint32, types.uint64,
)  # fmt: skip

_INTERFACE = "__array_interface__" if SIMULATED else "__cuda_array_interface__"


class Memory(NamedTuple):
    """What an array says of itself."""

    address: int
    read_only: bool
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None
    dtype: Any  # NumPy's, or the interface's string for it


@dataclass(slots=True, eq=False)
class DeviceArray:
    """An array on the device whose rows are contiguous. It is never changed; frozen, it would take longer to make.

    Attributes:
        row_stride: the distance between rows, in elements.
        read_only: whether it is an input, which kernels only read.
        owner: keeps the memory alive, where no array of the caller does.
    """

    name: str
    address: int
    shape: tuple[int, ...]
    row_stride: int
    element: types.Type
    read_only: bool
    owner: Any = None

    def rows(self, first: int, count: int) -> DeviceArray:
        """The ``count`` rows from ``first`` on."""
        offset = first * self.row_stride * (self.element.bitwidth // 8)
        return replace(self, address=self.address + offset, shape=(count, *self.shape[1:]))

    def as_row(self) -> DeviceArray:
        """The vector as a matrix of one row."""
        return replace(self, shape=(1, *self.shape), row_stride=self.shape[0])

    def as_numpy(self) -> np.ndarray:
        """The array in NumPy; only in the simulator, whose arrays are in the host's memory."""
        item = self.element.bitwidth // 8
        strides = (self.row_stride * item, item)[-len(self.shape) :]
        size = sum((n - 1) * stride for n, stride in zip(self.shape, strides, strict=True)) + item
        buffer = (ctypes.c_byte * (0 if 0 in self.shape else size)).from_address(self.address)
        return np.ndarray(self.shape, self.element.name, buffer, strides=strides)


def as_simulated(argument: Any) -> Any:
    """A kernel argument in the simulator, in which pointers are flat arrays."""
    if not isinstance(argument, DeviceArray):
        return argument
    from numba.cuda.simulator.cudadrv.devicearray import FakeCUDAArray

    shape, row_stride = argument.shape, argument.row_stride
    extent = 0 if 0 in shape else (shape[0] - 1) * row_stride + math.prod(shape[1:])
    return FakeCUDAArray(replace(argument, shape=(extent,), row_stride=1).as_numpy())


def accumulator(element: types.Type) -> types.Type:
    """The type in which values of this element type are summed."""
    return types.float64 if element is types.float64 else types.float32


def memory(value: Any) -> Memory | Any:
    """What an array says of itself; anything else is returned as it is."""
    return _reader(type(value))(value)


@cache
def _reader(kind: type) -> Callable[[Any], Memory | Any]:
    """The function that reads arrays of this class."""
    cupy = sys.modules.get("cupy")
    return _read_cupy if cupy is not None and issubclass(kind, cupy.ndarray) else _read_interface


def _read_cupy(value: Any) -> Memory:
    return Memory(value.data.ptr, False, value.shape, value.strides, value.dtype)


def _read_interface(value: Any) -> Memory | Any:
    interface = None if isinstance(value, np.generic) else getattr(value, _INTERFACE, None)
    if interface is None:
        return value
    address, read_only = interface["data"]
    strides = interface.get("strides")
    return Memory(address, read_only, tuple(interface["shape"]), strides and tuple(strides), interface["typestr"])


def array(
    name: str,
    value: Any,
    elements: Sequence[types.Type],
    *,
    shape: tuple[int, ...] | None = None,
    dimensions: int | None = None,
) -> DeviceArray:
    """Check an input: one of these element types, of this shape or number of dimensions, with contiguous rows."""
    if type(value) is not Memory:
        raise TypeError(
            f"{name} must be an array on the GPU (one with __cuda_array_interface__, such as CuPy's or PyTorch's), "
            f"not {type(value).__name__}"
        )
    address, _, actual, strides, dtype = value
    element = _element(dtype)
    for accepted in elements:  # not ``in``, since Numba's types compare slowly
        if accepted is element:
            break
    else:
        expected = " or ".join(_name(element) for element in elements)
        raise TypeError(f"{name} must be {expected}, not {_name(element) if element else _typestr(dtype)}")
    if shape is not None and actual != shape:
        raise ValueError(f"{name} must have the shape {shape}, not {actual}")
    if dimensions is not None and len(actual) != dimensions:
        raise ValueError(f"{name} must have {dimensions} dimension(s), not the shape {actual}")
    item = element.bitwidth // 8
    if address % item and 0 not in actual:
        raise ValueError(
            f"{name} must be aligned to its {item}-byte items, but its address is {address:#x}; make a copy"
        )
    row_stride = _row_stride(name, actual, strides, item)
    return DeviceArray(name, address, actual, row_stride, element, read_only=True)


def output(
    name: str,
    value: Any,
    elements: Sequence[types.Type],
    *,
    shape: tuple[int, ...] | None = None,
    dimensions: int | None = None,
) -> DeviceArray:
    """Check an output: as an input, but writable, with rows that do not overlap."""
    result = array(name, value, elements, shape=shape, dimensions=dimensions)
    if value.read_only:
        raise ValueError(f"{name} is an output, but this array is read-only")
    actual = result.shape
    if len(actual) == 2 and actual[0] > 1 and abs(result.row_stride) < actual[1]:
        raise ValueError(f"{name} is an output, but its rows overlap: they are {result.row_stride} elements apart")
    result.read_only = False
    return result


def optional(name: str, value: Any, element: types.Type, shape: tuple[int, ...]) -> DeviceArray | None:
    """Check an optional input."""
    return None if value is None else array(name, value, (element,), shape=shape)


def optional_output(name: str, value: Any, element: types.Type, shape: tuple[int, ...]) -> DeviceArray | None:
    """Check an optional output."""
    return None if value is None else output(name, value, (element,), shape=shape)


@cache
def _element(dtype: Any) -> types.Type | None:
    if _typestr(dtype) == "<V2":  # bfloat16, as PyTorch and ml_dtypes spell it
        return BFLOAT16
    dtype = np.dtype(dtype)
    return from_dtype(dtype) if dtype.kind in "iuf" and dtype.isnative and dtype.itemsize <= 8 else None


def _typestr(dtype: Any) -> str:
    return getattr(dtype, "str", dtype)


def _name(element: types.Type) -> str:
    return "bfloat16 (or its bits, uint16)" if element == BFLOAT16 else element.name


def _row_stride(name: str, shape: tuple[int, ...], strides: tuple[int, ...] | None, item: int) -> int:
    """The distance between rows in elements; arrays of more than two dimensions must be contiguous."""
    packed = shape[-1] if len(shape) > 1 else 1
    if strides is None or 0 in shape:
        return packed
    distance = item
    for axis in reversed(range(len(shape))):
        outermost_of_two = axis == 0 and len(shape) == 2
        if shape[axis] > 1 and strides[axis] != distance and not (outermost_of_two and strides[axis] % item == 0):
            raise ValueError(
                f"{name} must have contiguous rows, but its strides are {strides} with {item}-byte items; make a copy"
            )
        distance *= shape[axis]
    return strides[0] // item if len(shape) == 2 and shape[0] > 1 else packed
