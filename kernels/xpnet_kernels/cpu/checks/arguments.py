"""Checks of array arguments in Python, with error messages: kind, element type, shape, layout and overlap."""

from __future__ import annotations

import numpy as np

from xpnet_kernels.cpu.numba_extensions.compilation import REALS


def check_kind(name: str, array: np.ndarray, dimensions: int) -> None:
    """Raise unless ``array`` is a float32 or float64 NumPy array with this many dimensions."""
    _check_array(name, array)
    if array.dtype not in REALS:
        raise TypeError(f"{name} must be float32 or float64, not {array.dtype}; {name}.astype('float32') casts it")
    if array.ndim != dimensions:
        raise ValueError(f"{name} must have {dimensions} dimension(s), not the shape {array.shape}")


def check_input(name: str, array: np.ndarray, dtype: np.dtype, shape: tuple[int, ...]) -> None:
    """Raise unless ``array``, of one or two dimensions, has this type and shape, and contiguous rows."""
    _check_array(name, array)
    if array.dtype != dtype:
        raise TypeError(f"{name} must be {dtype}, not {array.dtype}; {name}.astype('{dtype}') casts it")
    if array.shape != shape:
        raise ValueError(f"{name} must have the shape {shape}, not {array.shape}")
    if not array.flags.c_contiguous and array.strides[-1] != array.itemsize and array.shape[-1] > 1:
        raise ValueError(
            f"{name} must have contiguous rows, but its strides are {array.strides} with {array.itemsize}-byte items; "
            f"numpy.ascontiguousarray({name}) makes a copy that has"
        )


def check_output(name: str, array: np.ndarray, dtype: np.dtype, shape: tuple[int, ...]) -> None:
    """Raise unless ``array`` passes :func:`check_input`, is writable, and has rows that do not overlap."""
    check_input(name, array, dtype, shape)
    if not array.flags.writeable:
        raise ValueError(f"{name} is an output, but this array is read-only")
    if array.ndim == 2 and array.shape[0] > 1 and abs(array.strides[0]) < array.shape[1] * array.itemsize:
        raise ValueError(f"{name} is an output, but the rows of this array overlap: its strides are {array.strides}")


def check_integers(name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    """Raise unless ``array`` holds integers of any type and has this shape."""
    _check_array(name, array)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers, not {array.dtype}; {name}.astype('int64') casts them")
    if array.shape != shape:
        raise ValueError(f"{name} must have the shape {shape}, not {array.shape}")


def is_in_place(name: str, output: np.ndarray, other_name: str, other: np.ndarray) -> bool:
    """Whether an output is the same memory as another argument; raise if they overlap in any other way."""
    if output is other:
        return True
    if not _share_memory(output, other):
        return False
    (start, _), (other_start, _) = (array.__array_interface__["data"] for array in (output, other))
    same_rows = output.strides == other.strides or output.shape[0] == 1
    if start != other_start or not same_rows:
        raise ValueError(f"{name} overlaps with {other_name} at other elements; give it an array of its own")
    return True


def check_apart(name: str, output: np.ndarray, other_name: str, other: np.ndarray) -> None:
    """Raise if an output shares memory with another argument."""
    if _share_memory(output, other):
        raise ValueError(f"{name} is an output, but shares memory with {other_name}; give it an array of its own")


def _share_memory(one: np.ndarray, other: np.ndarray) -> bool:
    # An exact answer where the bounds overlap: columns of one matrix interleave without sharing an element.
    return np.may_share_memory(one, other, max_work=1000)


def _check_array(name: str, array: np.ndarray) -> None:
    if not isinstance(array, np.ndarray) or isinstance(array, (np.matrix, np.ma.MaskedArray)):
        raise TypeError(f"{name} must be a NumPy array, not {type(array).__name__}; numpy.asarray makes one")
