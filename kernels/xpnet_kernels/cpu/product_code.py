"""The matrix product as one piece of compiled code, which all kernels call by its address.

A copy in each of them would take seconds to compile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array

from xpnet_kernels.cpu.compilation import ARITHMETIC, kernel
from xpnet_kernels.cpu.outlining import call_outlined, on_stack, outlined
from xpnet_kernels.cpu.panels import product
from xpnet_kernels.cpu.vectors import FLOAT, INDEX

_MATRIX = types.Array(types.float32, 2, "A", aligned=False)


@njit(**ARITHMETIC)
def multiply_by(code: int, A: Any, B: Any, transposed: bool, C: Any) -> None:
    """As :func:`product`, by the code that :func:`product_code` has found."""
    call_outlined(code, on_stack((_words(A), _words(B), transposed, _words(C))), 0)


@njit(**ARITHMETIC)
def plain(matrix: Any) -> Any:
    """The same matrix, of the one type that products are compiled for, whether it may be written or not."""
    return _matrix(_words(matrix))


@kernel
def product_code() -> int:
    """The address of the code."""
    nothing = (0, 0, 0, 0, 0)
    return _PRODUCT((nothing, nothing, False, nothing))[0]


@njit(**ARITHMETIC)
def _product_of_words(A: Any, B: Any, transposed: bool, C: Any, block: int) -> None:
    product(_matrix(A), _matrix(B), transposed, _matrix(C))


_PRODUCT = outlined(_product_of_words)


@njit(**ARITHMETIC)
def _words(matrix: Any) -> tuple[int, int, int, int, int]:
    (rows, columns), (row_stride, column_stride) = matrix.shape, matrix.strides
    return _address(matrix), rows, columns, row_stride, column_stride


@intrinsic
def _address(typing_context: Any, matrix: Any) -> tuple[Any, Callable[..., Any]]:
    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        return builder.ptrtoint(make_array(signature.args[0])(context, builder, arguments[0]).data, INDEX)

    return types.int64(matrix), generate


@intrinsic
def _matrix(typing_context: Any, words: Any) -> tuple[Any, Callable[..., Any]]:
    """The float32 matrix with this address, shape and strides in bytes."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        address, rows, columns, *strides = (builder.extract_value(arguments[0], place) for place in range(5))
        result = make_array(_MATRIX)(context, builder)
        start = builder.inttoptr(address, FLOAT.as_pointer())
        populate_array(result, start, [rows, columns], strides, INDEX(4), None)
        return result._getvalue()

    return _MATRIX(types.UniTuple(types.int64, 5)), generate
