"""CuPy's functions that make arrays, and copy them to and from the host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .arrays import ndarray, new, on_device
from .manipulation import stack


def array(obj: Any, dtype: Any = None, copy: bool | None = True, order: str = "K", ndmin: int = 0) -> ndarray:
    """A copy of an array of the device or of the host, or of a number or a list of numbers."""
    if isinstance(obj, ndarray):
        return obj.astype(obj.dtype if dtype is None else dtype, copy=bool(copy))
    if isinstance(obj, (list, tuple)) and _holds_device_arrays(obj):
        stacked = stack([array(item, copy=False) for item in obj])
        return stacked if dtype is None else stacked.astype(dtype, copy=False)
    return on_device(np.array(obj, dtype=dtype, ndmin=ndmin))


def _holds_device_arrays(values: Sequence[Any]) -> bool:
    return any(
        _holds_device_arrays(item) if isinstance(item, (list, tuple)) else isinstance(item, ndarray) for item in values
    )


def asarray(a: Any, dtype: Any = None, order: str | None = None) -> ndarray:
    """As ``array``, without a copy of an array of that type on the device."""
    return array(a, dtype=dtype, copy=False)


def ascontiguousarray(a: Any, dtype: Any = None) -> ndarray:
    """The array itself if it is contiguous, else a copy."""
    a = asarray(a, dtype)
    return a if a.flags.c_contiguous else a.copy()


def copy(a: ndarray, order: str = "C") -> ndarray:
    """A copy on the device."""
    return asarray(a).copy()


def asnumpy(a: Any, stream: Any = None, order: str = "C", out: Any = None, *, blocking: bool = True) -> Any:
    """A copy on the host."""
    return a.get(out=out) if isinstance(a, ndarray) else np.asarray(a, order=order)


def empty(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    """An array whose elements are not set; here they are NaN, or -1."""
    return ndarray(shape, dtype, order=order)


def full(shape: Any, fill_value: Any, dtype: Any = None, order: str = "C") -> ndarray:
    """An array of one value."""
    if dtype is None:
        dtype = fill_value.dtype if isinstance(fill_value, ndarray) else np.array(fill_value).dtype
    result = ndarray(shape, dtype, order=order)
    result.fill(fill_value)
    return result


def zeros(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    """An array of zeros."""
    return full(shape, 0, dtype)


def ones(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    """An array of ones."""
    return full(shape, 1, dtype)


def empty_like(
    prototype: ndarray, dtype: Any = None, order: str = "K", subok: Any = None, shape: Any = None
) -> ndarray:
    """An array of that shape and type whose elements are not set."""
    return ndarray(prototype.shape if shape is None else shape, prototype.dtype if dtype is None else dtype)


def full_like(a: ndarray, fill_value: Any, dtype: Any = None) -> ndarray:
    """An array of that shape and type, of one value."""
    return full(a.shape, fill_value, a.dtype if dtype is None else dtype)


def zeros_like(a: ndarray, dtype: Any = None) -> ndarray:
    """An array of that shape and type, of zeros."""
    return full_like(a, 0, dtype)


def ones_like(a: ndarray, dtype: Any = None) -> ndarray:
    """An array of that shape and type, of ones."""
    return full_like(a, 1, dtype)


def arange(start: Any, stop: Any = None, step: Any = 1, dtype: Any = None) -> ndarray:
    """Numbers at equal distances."""
    return new(
        "arange", np.arange(start, step=step, dtype=dtype) if stop is None else np.arange(start, stop, step, dtype)
    )


def linspace(start: Any, stop: Any, num: int = 50, endpoint: bool = True, dtype: Any = None) -> ndarray:
    """So many numbers at equal distances."""
    return new("linspace", np.linspace(start, stop, num, endpoint, dtype=dtype))


def eye(N: int, M: int | None = None, k: int = 0, dtype: Any = float) -> ndarray:
    """Ones on a diagonal."""
    return new("eye", np.eye(N, M, k, dtype))
