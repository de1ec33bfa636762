"""CuPy's functions that compute: of elements, along axes, and products; by NumPy, each counted as one kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .arrays import host, ndarray, new, quietly, written

_UFUNCS = (
    "absolute", "add", "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctan2", "arctanh", "bitwise_and",
    "bitwise_or", "bitwise_xor", "cbrt", "ceil", "conjugate", "copysign", "cos", "cosh", "divide", "equal", "exp",
    "exp2", "expm1", "fabs", "floor", "floor_divide", "fmax", "fmin", "fmod", "greater", "greater_equal", "hypot",
    "invert", "isfinite", "isinf", "isnan", "left_shift", "less", "less_equal", "log", "log10", "log1p", "log2",
    "logaddexp", "logical_and", "logical_not", "logical_or", "logical_xor", "maximum", "minimum", "multiply",
    "negative", "nextafter", "not_equal", "positive", "power", "reciprocal", "remainder", "right_shift", "rint", "sign",
    "signbit", "sin", "sinh", "sqrt", "square", "subtract", "tan", "tanh", "true_divide", "trunc",
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
abs = globals()["absolute"]
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


for _name in (
    "all",
    "any",
    "argmax",
    "argmin",
    "count_nonzero",
    "cumprod",
    "cumsum",
    "max",
    "mean",
    "min",
    "prod",
    "std",
    "sum",
    "var",
):
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


def round(a: ndarray, decimals: int = 0) -> ndarray:
    """The nearest numbers of so many decimals."""
    return new("round", np.round(host(a), decimals), a)


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
