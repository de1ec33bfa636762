"""LLVM intrinsics on arrays that Numba lacks; each becomes a few instructions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array

from xpnet_kernels.cpu.numba_extensions.simd import prefetch_line


@intrinsic
def row(typing_context: Any, matrix: types.Array, index: types.Integer) -> tuple[Any, Callable[..., Any]]:
    """Row ``index`` of a matrix whose last axis has stride 1 item, as a contiguous vector, without a bounds check.

    The stride of ``matrix[index]`` is known only at run time, so loops over it do not vectorise.
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
    """The larger of two numbers, or NaN if one is NaN; unlike ``max``, it vectorises."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        number = arguments[0].type
        function = builder.module.declare_intrinsic("llvm.maximum", [number], ir.FunctionType(number, [number] * 2))
        return builder.call(function, arguments)

    return a(a, a), generate


@intrinsic(prefer_literal=True)
def stack_array(typing_context: Any, dtype: types.DType, size: types.IntegerLiteral) -> tuple[Any, Callable[..., Any]]:
    """An uninitialised vector of constant size on the stack (``alloca``), which LLVM knows to alias nothing."""
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
    """Prefetch the cache line of an element, which may lie beyond the end."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        source = make_array(signature.args[0])(context, builder, arguments[0])
        prefetch_line(builder, builder.gep(source.data, [arguments[1]]))
        return context.get_dummy_value()

    return types.none(vector, types.intp), generate


@intrinsic
def prefer_512_bit_vectors(typing_context: Any) -> tuple[Any, Callable[..., Any]]:
    """Let the loops of the calling function use 512-bit registers, where the processor has them.

    LLVM prefers 256 bits on many such processors, to keep their clock frequency; dense float arithmetic, such as the
    exponentials of a softmax, gains a quarter from the full width.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        # Bypasses llvmlite's list of attributes, which has only those without a value.
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.none(), generate


@intrinsic
def no_inline(typing_context: Any) -> tuple[Any, Callable[..., Any]]:
    """Do not inline the function that calls this: a copy in each of its callers would take long to compile."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.none(), generate
