"""CuPy's functions that move elements, or look at them in another shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .arrays import host, ndarray, new, view, written
from .record import note_synchronization, note_transfer


def _viewing(name: str) -> Callable:
    """A function that returns another view of the same memory."""
    function = getattr(np, name)

    def call(a: ndarray, *arguments: Any, **keywords: Any) -> ndarray:
        return view(a, function(a.host, *arguments, **keywords))

    call.__name__ = call.__qualname__ = name
    return call


for _name in (
    "broadcast_to",
    "diagonal",
    "expand_dims",
    "flip",
    "matrix_transpose",
    "moveaxis",
    "squeeze",
    "swapaxes",
    "transpose",
):
    globals()[_name] = _viewing(_name)


def shape(a: ndarray) -> tuple[int, ...]:
    """The shape."""
    return a.shape


def reshape(a: ndarray, newshape: Any, order: str = "C") -> ndarray:
    """The same elements in another shape: a view where there can be one."""
    return a.reshape(newshape, order=order)


def ravel(a: ndarray, order: str = "C") -> ndarray:
    """The same elements in a vector."""
    return a.reshape(-1, order=order)


def broadcast_arrays(*arrays: ndarray) -> list[ndarray]:
    """Views of one shape."""
    shape = np.broadcast_shapes(*(array.shape for array in arrays))
    return [view(array, np.broadcast_to(array.host, shape)) for array in arrays]


def concatenate(arrays: Sequence[ndarray], axis: int | None = 0, out: ndarray | None = None) -> ndarray:
    """The arrays one after the other: a copy each; if they are more than eight, one kernel with a list of them."""
    hosts = []
    for item in arrays:
        if not isinstance(item, ndarray):
            raise TypeError("Only cupy arrays can be concatenated")
        hosts.append(host(item))
    values = np.concatenate(hosts, axis)
    if len(hosts) > 8 and len({item.dtype for item in hosts}) == 1:
        note_transfer()  # of their addresses
        return new("concatenate", values, *arrays)
    result = ndarray(values.shape, values.dtype)
    result.host[...] = values
    for item in arrays:
        if item.size:
            written("copy", result, item)
    return result


def stack(arrays: Sequence[ndarray], axis: int = 0) -> ndarray:
    """The arrays along a new axis."""
    hosts = [host(item) for item in arrays]
    axis = np.stack(hosts, axis).shape and axis % (hosts[0].ndim + 1)
    return concatenate([view(item, np.expand_dims(item.host, axis)) for item in arrays], axis)


def _copying(name: str) -> Callable:
    """A function that moves elements, as one kernel."""
    function = getattr(np, name)

    def call(a: ndarray, *arguments: Any, **keywords: Any) -> ndarray:
        return new(name, function(host(a), *arguments, **keywords), a)

    call.__name__ = call.__qualname__ = name
    return call


for _name in ("argsort", "repeat", "roll", "sort", "tile", "tril", "triu"):
    globals()[_name] = _copying(_name)


def searchsorted(a: ndarray, v: ndarray, side: str = "left", sorter: Any = None) -> ndarray:
    """Where the elements of v belong in the sorted a."""
    return new("searchsorted", np.searchsorted(host(a), host(v), side), a, v)


def take_along_axis(a: ndarray, indices: ndarray, axis: int | None) -> ndarray:
    """The element at the index in each row."""
    return new("take_along_axis", np.take_along_axis(host(a), host(indices) % a.shape[axis or 0], axis), a, indices)


def nonzero(a: ndarray) -> tuple[ndarray, ...]:
    """The places of the elements that are not 0; waits for the device, which counts them."""
    new("scan", np.cumsum(host(a) != 0, dtype=np.int64), a)
    note_synchronization("nonzero")
    return tuple(new("nonzero", place, a) for place in np.nonzero(host(a)))


def unique(a: ndarray, **keywords: Any) -> Any:
    """The distinct elements; waits for the device, which counts them."""
    note_synchronization("unique")
    values = np.unique(host(a), **keywords)
    return tuple(new("unique", item, a) for item in values) if isinstance(values, tuple) else new("unique", values, a)


def result_type(*arrays_and_dtypes: Any) -> np.dtype:
    """The type that NumPy's rules give."""
    return np.result_type(*(item.host if isinstance(item, ndarray) else item for item in arrays_and_dtypes))
