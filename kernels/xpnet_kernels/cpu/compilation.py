"""How kernels are compiled: once per element type, at the first call, without the interpreter's lock.

A kernel is a function for Numba whose parameters are annotated with the types below. "Real" is the element type that
it is compiled for, float32 or float64. Vectors are contiguous; so are the rows of matrices, which may be apart.
"""

from __future__ import annotations

import functools
import hashlib
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numba
import numpy as np
from numba import types

from xpnet_kernels.cpu.arguments import Argument

# "contract" lets a product and a sum become one instruction; a wider freedom would undo the rounding that the
# exponential relies on. Division as in NumPy: Python's check for zero is a branch, and stops the vectoriser.
ARITHMETIC = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "nsz"}}

# For functions that only compiled code calls: a way in from Python would take a fifth of the time to compile. Called
# from Python they crash; a test wraps them in a function with ARITHMETIC.
INNER = ARITHMETIC | {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}

# A sum or a maximum vectorises only when it may be taken in another (but always the same) order.
REDUCTION = INNER | {"fastmath": {"contract", "nsz", "reassoc"}}


class _Array(typing.NamedTuple):
    dimensions: int
    written: bool
    item: types.Type | None = None  # None: real

    def numba_type(self, real: types.Type) -> types.Type:
        return Argument(self.item or real, self.dimensions, self.written)


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


@functools.cache
def _sources() -> str:
    """A word that changes with every file of the package.

    Numba's cache on disk goes by a function's name and file, and so misses changes in what the function calls.
    """
    stamps = [(path.name, path.stat().st_mtime_ns) for path in sorted(Path(__file__).parent.glob("*.py"))]
    return hashlib.sha256(repr(stamps).encode()).hexdigest()[:12]


class kernel(dict[np.dtype, Callable[..., Any]]):  # noqa: N801
    """Decorates a function; ``decorated[dtype]`` is its machine code for an element type.

    It is the compiled function's own entry point, which does not choose among versions by the arguments' types: that
    would cost half as much again as the call. It raises UnfitError for an array that is not as annotated. At shapes,
    and at the strides of matrices, the kernel or its caller must look.
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
        self.function.__qualname__ = f"{self.function.__name__}_{_sources()}"
        signature = self.signature(numba.from_dtype(dtype))
        try:
            compiled = numba.njit([signature], cache=True, **ARITHMETIC)(self.function)
        except RuntimeError as error:
            if "cannot cache" not in str(error):
                raise
            # no folder can be written to
            compiled = numba.njit([signature], **ARITHMETIC)(self.function)
        self[dtype] = compiled.get_overload(signature)
        return self[dtype]
