"""What compiled code needs and Numba lacks: rows as contiguous vectors, and a maximum that vectorises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array


@intrinsic
def row(typing_context: Any, matrix: types.Array, index: types.Integer) -> tuple[Any, Callable[..., Any]]:
    """Row ``index`` of a matrix whose last axis has stride 1 item, as a contiguous vector; no bounds are checked.

    ``matrix[index]`` keeps a stride that is known only at run time, and loops over it do not vectorise.
    """
    vector = types.Array(matrix.dtype, 1, "C", readonly=not matrix.mutable, aligned=matrix.aligned)

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        source = make_array(signature.args[0])(context, builder, arguments[0])
        result = make_array(vector)(context, builder)
        columns = cgutils.unpack_tuple(builder, source.shape)[1]
        offset = builder.mul(cgutils.unpack_tuple(builder, source.strides)[0], arguments[1])
        start = cgutils.pointer_add(builder, source.data, offset, result.data.type)
        populate_array(result, start, [columns], [source.itemsize], source.itemsize, None)
        return result._getvalue()

    return vector(matrix, types.intp), generate


@intrinsic
def larger(typing_context: Any, a: types.Float, b: types.Float) -> tuple[Any, Callable[..., Any]]:
    """The larger of two numbers, NaN when one of them is: a loop over it vectorises, one over ``max`` does not."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        number = arguments[0].type
        function = builder.module.declare_intrinsic("llvm.maximum", [number], ir.FunctionType(number, [number] * 2))
        return builder.call(function, arguments)

    return a(a, a), generate
