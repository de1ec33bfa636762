"""One type of float32 matrix for all products, which are compiled once: of any strides, to be written or not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array

from xpnet_kernels.cpu.compilation import INNER
from xpnet_kernels.cpu.vectors import FLOAT, INDEX

_PLAIN = types.Array(types.float32, 2, "A", aligned=False)


@njit(**INNER)
def plain(matrix: Any) -> Any:
    """The same matrix, of this type."""
    return plain_matrix(words_of(matrix))


@njit(**INNER)
def words_of(matrix: Any) -> tuple[int, int, int, int, int]:
    """Its address, its shape and its strides in bytes."""
    (rows, columns), (row_stride, column_stride) = matrix.shape, matrix.strides
    return address_of(matrix), rows, columns, row_stride, column_stride


@intrinsic
def address_of(typing_context: Any, array: Any) -> tuple[Any, Callable[..., Any]]:
    """Where the first element of an array is."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        return builder.ptrtoint(make_array(signature.args[0])(context, builder, arguments[0]).data, INDEX)

    return types.int64(array), generate


@intrinsic
def plain_matrix(typing_context: Any, words: Any) -> tuple[Any, Callable[..., Any]]:
    """The matrix that has these words."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        address, rows, columns, *strides = (builder.extract_value(arguments[0], place) for place in range(5))
        result = make_array(_PLAIN)(context, builder)
        start = builder.inttoptr(address, FLOAT.as_pointer())
        populate_array(result, start, [rows, columns], strides, INDEX(4), None)
        return result._getvalue()

    return _PLAIN(types.UniTuple(types.int64, 5)), generate
