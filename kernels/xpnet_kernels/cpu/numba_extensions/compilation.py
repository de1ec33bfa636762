"""Compiling kernels: once per element type, at the first call, to code that runs without the GIL.

A kernel is a function for Numba whose parameters are annotated with the types below. "Real" is the element type that
it is compiled for, float32 or float64. Vectors are contiguous; matrices may have any strides.
"""

from __future__ import annotations

import typing
from collections.abc import Callable
from typing import Annotated, Any

import numba
import numpy as np
from numba import types

from xpnet_kernels.cpu.numba_extensions.array_arguments import ArrayArgument
from xpnet_kernels.source_hash import source_hash

# "contract" allows fused multiply-adds; "reassoc" would remove the rounding step of the exponential. Division follows
# NumPy: Python's check for zero is a branch, and prevents vectorisation.
ARITHMETIC = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "nsz"}}

# For functions that only compiled code calls: the wrappers for Python would take a fifth of the compile time. Calling
# such a function from Python crashes; a test wraps it in a function compiled with ARITHMETIC.
INNER = ARITHMETIC | {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}

# A sum or a maximum vectorises only if its terms may be reordered; the compiled order is always the same.
REDUCTION = INNER | {"fastmath": {"contract", "nsz", "reassoc"}}


class _Array(typing.NamedTuple):
    dimensions: int
    written: bool
    item: types.Type | None = None  # None: real

    def numba_type(self, real: types.Type) -> types.Type:
        return ArrayArgument(self.item or real, self.dimensions, self.written)


InVector, OutVector = Annotated[np.ndarray, _Array(1, False)], Annotated[np.ndarray, _Array(1, True)]
InMatrix, OutMatrix = Annotated[np.ndarray, _Array(2, False)], Annotated[np.ndarray, _Array(2, True)]
InDoubles, OutDoubles = (
    Annotated[np.ndarray, _Array(1, False, types.float64)],
    Annotated[np.ndarray, _Array(1, True, types.float64)],
)
InIntegers, OutIntegers = (
    Annotated[np.ndarray, _Array(1, False, types.int64)],
    Annotated[np.ndarray, _Array(1, True, types.int64)],
)
InFlags, OutFlags = (
    Annotated[np.ndarray, _Array(1, False, types.int32)],
    Annotated[np.ndarray, _Array(1, True, types.int32)],
)
InBytes = Annotated[np.ndarray, _Array(2, False, types.uint8)]

REALS = (np.dtype(np.float32), np.dtype(np.float64))
_SCALARS = {int: types.int64, float: types.float64, bool: types.boolean}


class kernel(dict[np.dtype, Callable[..., Any]]):  # noqa: N801
    """Decorates a function; ``decorated[dtype]`` is its machine code for an element type.

    It is the compiled function's own entry point: Numba's dispatcher, which selects a version by the arguments' types,
    would make a call half as expensive again. It raises ArgumentMismatchError for an array that does not match its
    annotation. Shapes, and the strides of matrices, are for the kernel or its caller to check.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def signature(self, real: types.Type) -> tuple[types.Type, ...]:
        """The types of the arguments, for the element type ``real``."""
        hints = typing.get_type_hints(self.function, include_extras=True)
        hints.pop("return")
        return tuple(
            _SCALARS[hint] if hint in _SCALARS else hint.__metadata__[0].numba_type(real) for hint in hints.values()
        )

    def __missing__(self, dtype: np.dtype) -> Callable[..., Any]:
        if dtype not in REALS:
            raise KeyError(dtype)
        self.function.__qualname__ = f"{self.function.__name__}_{source_hash('cpu')}"  # its name in the cache
        signature = self.signature(numba.from_dtype(dtype))
        try:
            compiled = numba.njit([signature], cache=True, **ARITHMETIC)(self.function)
        except RuntimeError as error:
            if "cannot cache" not in str(error):
                raise
            # no cache folder is writable
            compiled = numba.njit([signature], **ARITHMETIC)(self.function)
        return self.setdefault(dtype, compiled.get_overload(signature))  # the first, if two threads compiled it
