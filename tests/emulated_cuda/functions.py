"""The functions of CuPy's namespace: computed by NumPy, each counted as the operations that CuPy would queue."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .arrays import ndarray, host, new, quietly, view, written
from .record import note_synchronization, note_transfer
from .streams import access

# What CuPy takes from NumPy as it is.
_SAME = (
    "bool_", "broadcast_shapes", "can_cast", "complex64", "complex128", "complexfloating", "dtype", "e", "finfo",
    "float16", "float32", "float64", "floating", "iinfo", "inf", "int8", "int16", "int32", "int64", "integer", "intp",
    "isdtype", "issubdtype", "nan", "newaxis", "number", "pi", "promote_types", "signedinteger", "uint8", "uint16",
    "uint32", "uint64", "unsignedinteger",
)  # fmt: skip
_UFUNCS = (
    "absolute", "add", "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctan2", "arctanh", "bitwise_and",
    "bitwise_or", "bitwise_xor", "cbrt", "ceil", "conjugate", "copysign", "cos", "cosh", "divide", "equal", "exp", "exp2",
    "expm1", "fabs", "floor", "floor_divide", "fmax", "fmin", "fmod", "greater", "greater_equal", "hypot", "invert",
    "isfinite", "isinf", "isnan", "left_shift", "less", "less_equal", "log", "log10", "log1p", "log2", "logaddexp",
    "logical_and", "logical_not", "logical_or", "logical_xor", "maximum", "minimum", "multiply", "negative",
    "nextafter", "not_equal", "positive", "power", "reciprocal", "remainder", "right_shift", "rint", "sign", "signbit",
    "sin", "sinh", "sqrt", "square", "subtract", "tan", "tanh", "true_divide", "trunc",
)  # fmt: skip


def _elementwise(name: str, function: Callable) -> Callable:
    """A function of the broadcast elements, as one kernel."""

    @quietly
    def call(*arguments: Any, out: ndarray | None = None, dtype: Any = None, casting: str = "same_kind") -> ndarray:
        if len(arguments) > function.nin:
            *arguments, out = arguments  # type: ignore[assignment]
        inputs = [host(argument) for argument in arguments]
        if out is None:
            return new(name, function(*inputs, dtype=dtype), *arguments)
        function(*inputs, out=host(out), dtype=dtype, casting=casting)
        written(name, out, *arguments)
        return out

    call.__name__ = call.__qualname__ = name
    return call


for _name in _UFUNCS:
    globals()[_name] = _elementwise(_name, getattr(np, _name))
abs = globals()["absolute"]  # noqa: A001
conj, mod, bitwise_not = globals()["conjugate"], globals()["remainder"], globals()["invert"]


def _reduction(name: str, function: Callable) -> Callable:
    """A function of all elements along axes, as one kernel; 0-d results stay on the device."""

    @quietly
    def call(a: ndarray, axis: Any = None, *arguments: Any, out: ndarray | None = None, **keywords: Any) -> ndarray:
        values = function(host(a), axis, *arguments, **keywords)
        if out is None:
            return new(name, values, a)
        host(out)[...] = values
        written(name, out, a)
        return out

    call.__name__ = call.__qualname__ = name
    return call


for _name in ("all", "any", "argmax", "argmin", "count_nonzero", "cumprod", "cumsum", "max", "mean", "min", "prod", "std", "sum", "var"):
    globals()[_name] = _reduction(_name, getattr(np, _name))
amax, amin = globals()["max"], globals()["min"]


@quietly
def where(condition: Any, x: Any, y: Any) -> ndarray:
    """The elements of x where the condition holds, else those of y."""
    return new("where", np.where(host(condition), host(x), host(y)), condition, x, y)


@quietly
def clip(a: ndarray, a_min: Any = None, a_max: Any = None, out: ndarray | None = None) -> ndarray:
    """The elements, those outside replaced by the bound."""
    bounds = [bound if bound is None else host(bound) for bound in (a_min, a_max)]
    if out is None:
        return new("clip", np.clip(host(a), *bounds), a, a_min, a_max)
    np.clip(host(a), *bounds, out=host(out))
    written("clip", out, a, a_min, a_max)
    return out


def round(a: ndarray, decimals: int = 0) -> ndarray:  # noqa: A001
    """The nearest numbers of so many decimals."""
    return new("round", np.round(host(a), decimals), a)


# Creation


def array(
    obj: Any, dtype: Any = None, copy: bool | None = True, order: str = "K", ndmin: int = 0
) -> ndarray:
    """A copy of an array of the device or of the host, or of a number or a list of numbers."""
    if isinstance(obj, ndarray):
        result = obj.astype(obj.dtype if dtype is None else dtype, copy=bool(copy))
        return result
    if isinstance(obj, (list, tuple)) and _holds_device_arrays(obj):
        stacked = stack([array(item, copy=False) for item in obj])
        return stacked if dtype is None else stacked.astype(dtype, copy=False)
    values = np.array(obj, dtype=dtype, ndmin=ndmin)
    result = ndarray(values.shape, values.dtype)
    if values.ndim == 0:
        result.fill(values)
    elif values.size:
        result.host[...] = values
        note_transfer()
        access("to device", [], [result.block.chunk])
    return result


def _holds_device_arrays(values: Sequence[Any]) -> builtins.bool:
    return builtins.any(
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


def asnumpy(a: Any, stream: Any = None, order: str = "C", out: Any = None, *, blocking: builtins.bool = True) -> Any:
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


def empty_like(prototype: ndarray, dtype: Any = None, order: str = "K", subok: Any = None, shape: Any = None) -> ndarray:
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
    return new("arange", np.arange(start, step=step, dtype=dtype) if stop is None else np.arange(start, stop, step, dtype))


def linspace(start: Any, stop: Any, num: int = 50, endpoint: builtins.bool = True, dtype: Any = None) -> ndarray:
    """So many numbers at equal distances."""
    return new("linspace", np.linspace(start, stop, num, endpoint, dtype=dtype))


def eye(N: int, M: int | None = None, k: int = 0, dtype: Any = float) -> ndarray:
    """Ones on a diagonal."""
    return new("eye", np.eye(N, M, k, dtype))


# Shapes


def _viewing(name: str) -> Callable:
    """A function that returns another view of the same memory."""
    function = getattr(np, name)

    def call(a: ndarray, *arguments: Any, **keywords: Any) -> ndarray:
        return view(a, function(a.host, *arguments, **keywords))

    call.__name__ = call.__qualname__ = name
    return call


for _name in ("broadcast_to", "diagonal", "expand_dims", "flip", "matrix_transpose", "moveaxis", "squeeze", "swapaxes", "transpose"):
    globals()[_name] = _viewing(_name)


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


# Products


@quietly
def matmul(a: Any, b: Any, out: ndarray | None = None) -> ndarray:
    """The matrix product by cuBLAS; half-precision numbers are summed in float32."""
    left, right = host(a), host(b)
    if np.result_type(left, right) == np.float16:
        values = (left.astype(np.float32) @ right.astype(np.float32)).astype(np.float16)
    else:
        values = left @ right
    if out is None:
        return new("matmul", values, a, b)
    host(out)[...] = values
    written("matmul", out, a, b)
    return out


@quietly
def tensordot(a: ndarray, b: ndarray, axes: Any = 2) -> ndarray:
    """The product over some axes."""
    return new("matmul", np.tensordot(host(a), host(b), axes), a, b)


@quietly
def dot(a: ndarray, b: ndarray, out: ndarray | None = None) -> ndarray:
    """The product of matrices or vectors."""
    return new("matmul", np.dot(host(a), host(b)), a, b)


def result_type(*arrays_and_dtypes: Any) -> np.dtype:
    """The type that NumPy's rules give."""
    return np.result_type(*(item.host if isinstance(item, ndarray) else item for item in arrays_and_dtypes))


def is_available() -> builtins.bool:
    """Whether there is a device."""
    return True


def take(a: ndarray, indices: Any, axis: int | None = None, out: ndarray | None = None) -> ndarray:
    """The elements at the indices, which wrap around where they are outside."""
    from .indexing import take

    return take(a, indices, axis, out)


def namespace() -> dict[str, Any]:
    """The public names of the module ``cupy``."""
    own = {name: value for name, value in globals().items() if getattr(value, "__module__", None) == __name__}
    same = {name: getattr(np, name) for name in _SAME}
    return {name: value for name, value in (own | same).items() if not name.startswith("_") and name != "namespace"}
