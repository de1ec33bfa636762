"""Indexing as CuPy does it: indices outside wrap around, and a mask waits for the device to count what it selects."""

from __future__ import annotations

from typing import Any

import numpy as np

from .arrays import SCALARS, ndarray, new, view, written
from .creation import array, asarray


def get_item(x: ndarray, key: Any) -> ndarray:
    """``x[key]``."""
    keys = _keys(key)
    indices = [item for item in keys if isinstance(item, ndarray)]
    if not indices:
        return view(x, _viewed(x, keys))
    _count_masks(indices)
    name = "getitem_mask" if any(item.dtype.kind == "b" for item in indices) else "take"
    return new(name, x.host[_host_keys(x, keys)], x, *indices)


def set_item(x: ndarray, key: Any, value: Any) -> None:
    """``x[key] = value``."""
    keys = _keys(key)
    indices = [item for item in keys if isinstance(item, ndarray)]
    if not indices:
        target = view(x, _viewed(x, keys))
        if not isinstance(value, ndarray):
            target.fill(value)
        elif not (
            target.data.ptr == value.data.ptr and target.strides == value.strides and target.shape == value.shape
        ):
            _copy(target, value)
        return
    _count_masks(indices)
    source = value if isinstance(value, ndarray) else array(value, dtype=x.dtype)
    masked = any(item.dtype.kind == "b" for item in indices)
    with np.errstate(all="ignore"):
        x.host[_host_keys(x, keys)] = source.host
    written("scatter_update_mask" if masked else "scatter_update", x, source, *indices)


def take(a: ndarray, indices: Any, axis: int | None = None, out: ndarray | None = None) -> ndarray:
    """The elements at the indices, which wrap around."""
    indices = indices if isinstance(indices, (ndarray, *SCALARS)) else asarray(indices, dtype=int)
    host = indices.host if isinstance(indices, ndarray) else indices
    if a.size == 0 and np.size(host):
        raise IndexError("cannot do a non-empty take from an empty axes.")
    values = np.take(a.host, host, axis=axis, mode="wrap")
    if out is None:
        return new("take", values, a, indices)
    out.host[...] = values
    written("take", out, a, indices)
    return out


def _copy(target: ndarray, value: ndarray) -> None:
    if value.block.device != target.block.device:
        raise ValueError(
            "Array device must be same as the current device: "
            f"array device = {value.block.device} while current = {target.block.device}"
        )
    source = value.host
    while source.ndim > target.ndim and source.shape[0] == 1:
        source = source[0]
    with np.errstate(all="ignore"):
        target.host[...] = source
    written("copy", target, value)


def _viewed(x: ndarray, keys: list[Any]) -> np.ndarray:
    if not any(item is Ellipsis for item in keys):
        keys = [*keys, Ellipsis]  # so that NumPy returns an array, not a scalar
    return x.host[tuple(keys)]


def _keys(key: Any) -> list[Any]:
    """The parts of a key; lists and arrays on the host become arrays on the device."""
    keys = list(key) if isinstance(key, tuple) else [key]
    for place, item in enumerate(keys):
        if item is None or item is Ellipsis or isinstance(item, (slice, ndarray)):
            continue
        if np.isscalar(item) and not isinstance(item, (bool, np.bool_)):
            continue
        converted = array(item, copy=False)
        keys[place] = (
            converted.astype(np.int32) if converted.size == 0 and isinstance(item, (list, tuple)) else converted
        )
    for item in keys:
        if isinstance(item, ndarray) and item.dtype.kind not in "biu":
            raise IndexError(f"arrays used as indices must be of integer or boolean type. (actual: {item.dtype.type})")
    return keys


def _count_masks(indices: list[ndarray]) -> None:
    """How many elements a mask selects is computed by a scan, and read by the host."""
    for index in indices:
        if index.dtype.kind == "b" and index.size:
            scanned = new("scan", np.cumsum(index.host.ravel(), dtype=np.int32), index)
            int(scanned[-1])


def _host_keys(x: ndarray, keys: list[Any]) -> tuple[Any, ...]:
    """The keys for NumPy, with indices wrapped around."""
    axis, result = 0, []
    taken = sum(
        item.ndim if isinstance(item, ndarray) and item.dtype.kind == "b" else 1
        for item in keys
        if item is not None and item is not Ellipsis
    )
    for item in keys:
        if item is None:
            result.append(item)
        elif item is Ellipsis:
            axis += x.ndim - taken
            result.append(item)
        elif isinstance(item, ndarray) and item.dtype.kind == "b":
            axis += item.ndim
            result.append(item.host)
        else:
            wraps = isinstance(item, ndarray) and x.shape[axis] > 0
            result.append(
                np.mod(item.host, np.int64(x.shape[axis])).astype(np.int64) if wraps else getattr(item, "host", item)
            )
            axis += 1
    return tuple(result)
