"""What the kernels need and Numba lacks: each function here becomes a few instructions of compiled code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array

from xpnet_kernels.cpu.vectors import fetch


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


@intrinsic(prefer_literal=True)
def scratch(typing_context: Any, dtype: types.DType, size: types.IntegerLiteral) -> tuple[Any, Callable[..., Any]]:
    """A vector of constant size on the stack, uninitialised, which the compiler knows to overlap with nothing."""
    vector = types.Array(dtype.dtype, 1, "C")
    length = size.literal_value

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        item = context.get_data_type(vector.dtype)
        with builder.goto_entry_block():  # unlike cgutils.alloca_once, which fills it with zeros
            memory = builder.alloca(ir.ArrayType(item, length))
        itemsize = context.get_constant(types.intp, context.get_abi_sizeof(item))
        result = make_array(vector)(context, builder)
        start = builder.bitcast(memory, item.as_pointer())
        populate_array(result, start, [context.get_constant(types.intp, length)], [itemsize], itemsize, None)
        return result._getvalue()

    return vector(dtype, size), generate


@intrinsic
def prefetch(typing_context: Any, vector: types.Array, index: types.Integer) -> tuple[Any, Callable[..., Any]]:
    """Fetch the cache line of an element, which may lie beyond the end, from memory, and do not wait for it."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        source = make_array(signature.args[0])(context, builder, arguments[0])
        fetch(builder, builder.gep(source.data, [arguments[1]]))
        return context.get_dummy_value()

    return types.none(vector, types.intp), generate


@intrinsic
def wide_vectors(typing_context: Any) -> tuple[Any, Callable[..., Any]]:
    """Let the loops of the function that calls this use registers of 512 bits, where the processor has them.

    For many such processors LLVM keeps to 256 bits, out of concern for their clock; arithmetic on floats that is dense
    enough to matter, as the exponentials of a softmax, gains a quarter from the full width.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        # Past llvmlite's own list of attributes, which has those without a value only.
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.none(), generate


@intrinsic
def stay_apart(typing_context: Any) -> tuple[Any, Callable[..., Any]]:
    """Keep the function that calls this out of those that call it: a copy in each would take long to compile."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.none(), generate
