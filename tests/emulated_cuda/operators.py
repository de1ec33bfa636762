"""What an array on the device does by the functions of the namespace: operators, methods, and NumPy's own functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import creation, elementwise, indexing, manipulation
from .arrays import ndarray

_BINARY = {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "true_divide", "floordiv": "floor_divide",
    "mod": "remainder", "pow": "power", "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor",
    "lshift": "left_shift", "rshift": "right_shift", "matmul": "matmul",
}  # fmt: skip
_OTHERS = {
    "eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal",
    "neg": "negative", "abs": "absolute", "invert": "invert", "pos": "positive",
}  # fmt: skip
_METHODS = (
    "all", "any", "argmax", "argmin", "argsort", "clip", "cumsum", "dot", "max", "mean", "min", "nonzero", "prod",
    "round", "std", "sum", "take", "var",
)  # fmt: skip

# What CuPy takes from NumPy as it is.
_SAME = (
    "bool_", "broadcast_shapes", "can_cast", "complex64", "complex128", "complexfloating", "dtype", "e", "finfo",
    "float16", "float32", "float64", "floating", "iinfo", "inf", "int8", "int16", "int32", "int64", "integer", "intp",
    "isdtype", "issubdtype", "nan", "newaxis", "number", "pi", "promote_types", "signedinteger", "uint8", "uint16",
    "uint32", "uint64", "unsignedinteger",
)  # fmt: skip


def functions() -> dict[str, Any]:
    """The public names of the module ``cupy``, but for those of devices."""
    found = {name: getattr(np, name) for name in _SAME}
    for module in (creation, elementwise, manipulation):
        found |= {
            name: value
            for name, value in vars(module).items()
            if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
        }
    return found | {"take": indexing.take}


FUNCTIONS = functions()


def _reflected(function: Callable) -> Callable:
    return lambda self, other: function(other, self)


def _in_place(function: Callable) -> Callable:
    return lambda self, other: function(self, other, out=self)


def _array_ufunc(self: ndarray, ufunc: np.ufunc, method: str, *inputs: Any, **keywords: Any) -> Any:
    if method != "__call__" or ufunc.__name__ not in FUNCTIONS:
        return NotImplemented
    if "out" in keywords:
        (keywords["out"],) = keywords["out"]
    return FUNCTIONS[ufunc.__name__](*inputs, **keywords)


def _array_function(self: ndarray, function: Callable, types: Any, arguments: Any, keywords: Any) -> Any:
    own = FUNCTIONS.get(function.__name__, function)
    if own is function or not all(kind is ndarray for kind in types):
        return NotImplemented
    return own(*arguments, **keywords)


def _define() -> None:
    methods: dict[str, Callable] = {name: FUNCTIONS[name] for name in _METHODS}
    for name, function in _BINARY.items():
        methods[f"__{name}__"] = FUNCTIONS[function]
        methods[f"__r{name}__"] = _reflected(FUNCTIONS[function])
        methods[f"__i{name}__"] = _in_place(FUNCTIONS[function])
    methods |= {f"__{name}__": FUNCTIONS[function] for name, function in _OTHERS.items()}
    methods |= {"__getitem__": indexing.get_item, "__setitem__": indexing.set_item}
    methods |= {"__array_ufunc__": _array_ufunc, "__array_function__": _array_function}
    for name, method in methods.items():
        setattr(ndarray, name, method)


_define()
