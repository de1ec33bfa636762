"""The primitives in Python, for Numba's CUDA simulator (``NUMBA_ENABLE_CUDASIM=1``)."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Integral
from typing import Any

import numpy as np

from .numba_cuda import cuda

_get_kernel_context = cuda.simulator.kernel._get_kernel_context

WARP = 4  # small, since every thread is a Python thread
BLOCK = 16
HELD_VECTORS = 2

Values = Any  # a flat array inside a simulated kernel


def device_function(function: Callable) -> Callable:
    """Leave the function as it is: simulated kernels call Python functions."""
    return function


def thread_index() -> int:
    """The thread's place in its block."""
    kernel = _get_kernel_context()
    return kernel.threadIdx.y * kernel.blockDim.x + kernel.threadIdx.x


def barrier() -> None:
    """Wait for every thread of the block."""
    _get_kernel_context().syncthreads()


def _shared(name: str) -> list:
    """Memory shared by a launch; ``setdefault`` is atomic, whereas the simulator's own allocation has a race."""
    return vars(_get_kernel_context()).setdefault(name, [None] * 1024)


def warp_scratch(value: Any) -> list:
    """Shared memory for one value a warp; whole numbers have their own, since both may be in use at one time."""
    return _shared("integers of warps" if isinstance(value, Integral) else "numbers of warps")


def thread_scratch(value: Any) -> list:
    """Shared memory for two values a thread, of the type of ``value``."""
    return _shared("thread scratch")


def shuffle_xor(value: Any, offset: int) -> Any:
    """The value of the thread whose index differs in the bit ``offset``; all threads of the block take part."""
    values = _shared("shuffle")
    thread = thread_index()
    values[thread] = value
    barrier()
    value = values[thread ^ offset]
    barrier()
    return value


def recomputed(value: int) -> int:
    """The value."""
    return value


def maximum(a: Any, b: Any) -> Any:
    """The larger of two numbers, or NaN if one is NaN."""
    return np.maximum(a, b)


def given(pointer: Values | None) -> bool:
    """Whether the optional argument was given."""
    return pointer is not None


def advance(pointer: Values, elements: int) -> Values:
    """The pointer to the element at that distance."""
    return pointer[elements:]


def row_at(pointer: Values, elements: int) -> Values:
    """The pointer to the element at that distance."""
    return pointer[elements:]


def width(pointer: Values) -> int:
    """Elements in 16 bytes."""
    return 16 // pointer.dtype.itemsize


def lead(pointer: Values) -> int:
    """Elements between the last 16-byte boundary and the pointer."""
    return pointer.ctypes.data % 16 // pointer.dtype.itemsize


def load(pointer: Values, index: int) -> Any:
    """One element in its accumulation type; uint16 holds the upper half of a float32 (bfloat16)."""
    value = pointer[index]
    if value.dtype == np.uint16:
        return (np.uint32(value) << np.uint32(16)).view(np.float32)
    return np.float32(value) if value.dtype == np.float16 else value


def store(pointer: Values, index: int, value: Any) -> None:
    """Round ``value`` to the element type, to nearest and to even, and store it."""
    if pointer.dtype == np.uint16:
        bits = np.float32(value).view(np.uint32)
        rounded = (int(bits) + 0x7FFF + (int(bits) >> 16 & 1)) >> 16
        pointer[index] = 0x7FFF if np.isnan(value) else rounded
    else:
        pointer[index] = value


def load_vector(pointer: Values, index: int, buffer: Values, offset: int) -> None:
    """Fill ``buffer[offset:]`` with the 16 bytes at ``index``, in the accumulation type."""
    for k in range(width(pointer)):
        buffer[offset + k] = load(pointer, index + k)


def store_vector(pointer: Values, index: int, buffer: Values, offset: int) -> None:
    """Round 16 bytes' worth of ``buffer[offset:]`` to the element type and store them at ``index``."""
    for k in range(width(pointer)):
        store(pointer, index + k, buffer[offset + k])


def load_words(pointer: Values, index: int, words: Values, slot: int) -> None:
    """Fill ``words[4 * slot:]`` with the 16 bytes at ``index``."""
    for k in range(width(pointer)):
        load_element(pointer, index + k, words, slot, k)


def fill_words(like: Values, words: Values, slot: int) -> None:
    """Fill the 16 bytes ``words[4 * slot:]`` with −∞ in the element type of ``like``."""
    elements = words.view(like.dtype)
    for k in range(width(like)):
        store(elements, width(like) * slot + k, -np.inf)


def load_element(pointer: Values, index: int, words: Values, slot: int, place: int) -> None:
    """Replace element number ``place`` of the 16 bytes ``words[4 * slot:]`` by the one at ``index``."""
    words.view(pointer.dtype)[width(pointer) * slot + place] = pointer[index]


def unpack(like: Values, words: Values, slot: int, values: Values) -> None:
    """Fill ``values`` with the elements, of the type of ``like``'s, that the 16 bytes ``words[4 * slot:]`` hold."""
    elements = words.view(like.dtype)
    for k in range(width(like)):
        values[k] = load(elements, width(like) * slot + k)


def largest(like: Values, words: Values, slot: int) -> Any:
    """The largest of the elements that the 16 bytes ``words[4 * slot:]`` hold, or NaN if one is NaN."""
    values = np.empty(width(like), np.float64 if like.dtype == np.float64 else np.float32)
    unpack(like, words, slot, values)
    return values.max()


def load_bytes(pointer: Values, index: int, like: Values, buffer: Values) -> None:
    """Fill ``buffer`` with the unsigned bytes at ``index``, as many as ``like`` has elements in 16 bytes."""
    for k in range(width(like)):
        buffer[k] = pointer[index + k]


def exponential(x: Any) -> Any:
    """The exponential of ``x``, in the type of ``x``."""
    return type(x)(math.exp(x)) if not math.isnan(x) else x


def logarithm(x: Any) -> Any:
    """The natural logarithm of ``x``, in the type of ``x``."""
    return np.log(x)


def add_count(pointer: Values, index: int, count: float) -> None:
    """Add a whole number atomically: exact, so the order of the additions does not matter."""
    _get_kernel_context().atomic.add(pointer, index, count)
