"""Matrix descriptors: one Numba type for all float32 matrices, so that the matrix product is compiled once.

The type has any strides and is writable; a descriptor is (address, rows, columns, row stride, column stride).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array

from xpnet_kernels.cpu.numba_extensions.compilation import INNER
from xpnet_kernels.cpu.numba_extensions.simd import FLOAT, INDEX

_STRIDED = types.Array(types.float32, 2, "A", aligned=False)


@njit(**INNER)
def as_strided(matrix: Any) -> Any:
    """The same matrix, as that type."""
    return from_descriptor(descriptor(matrix))


@njit(**INNER)
def descriptor(matrix: Any) -> tuple[int, int, int, int, int]:
    """The matrix's address, shape, and strides in bytes."""
    (rows, columns), (row_stride, column_stride) = matrix.shape, matrix.strides
    return address_of(matrix), rows, columns, row_stride, column_stride


@intrinsic
def address_of(typing_context: Any, array: Any) -> tuple[Any, Callable[..., Any]]:
    """The address of an array's first element."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        return builder.ptrtoint(make_array(signature.args[0])(context, builder, arguments[0]).data, INDEX)

    return types.int64(array), generate


@intrinsic
def from_descriptor(typing_context: Any, descriptor: Any) -> tuple[Any, Callable[..., Any]]:
    """The matrix that has this descriptor."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        address, rows, columns, *strides = (builder.extract_value(arguments[0], place) for place in range(5))
        result = make_array(_STRIDED)(context, builder)
        start = builder.inttoptr(address, FLOAT.as_pointer())
        populate_array(result, start, [rows, columns], strides, INDEX(4), None)
        return result._getvalue()

    return _STRIDED(types.UniTuple(types.int64, 5)), generate
