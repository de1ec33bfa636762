"""A call that is noted now and made later, by any thread: as an address of code, and one of its arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_WORD, _POINTER = ir.IntType(64), ir.IntType(8).as_pointer()
_CODE = ir.FunctionType(ir.VoidType(), [_POINTER, _WORD])


def outlined(function: Any) -> Any:
    """For compiled code: ``outlined(function)(arguments)`` is (code, data) of ``function(*arguments, block)``.

    The function is compiled and returns nothing. It must neither raise nor allocate, which may fail: nobody would be
    told. The addresses are good until the function in which they are taken returns, for its stack holds the arguments.
    """

    @intrinsic
    def note(typing_context: Any, arguments: Any) -> tuple[Any, Callable[..., Any]]:
        inner = typing_context.resolve_function_type(types.Dispatcher(function), (*arguments.types, types.intp), {})

        def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
            compiled = function.get_compile_result(inner)
            context.active_code_library.add_linking_library(compiled.library)
            data = cgutils.alloca_once_value(builder, values[0])
            code = ir.Function(builder.module, _CODE, builder.module.get_unique_name("outlined"))
            code.linkage = "internal"
            body = ir.IRBuilder(code.append_basic_block())
            items = cgutils.unpack_tuple(body, body.load(body.bitcast(code.args[0], data.type)))
            callee = context.declare_function(body.module, compiled.fndesc)
            context.call_conv.call_function(body, callee, inner.return_type, inner.args, [*items, code.args[1]])
            body.ret_void()
            addresses = [builder.ptrtoint(code, _WORD), builder.ptrtoint(data, _WORD)]
            return context.make_tuple(builder, signature.return_type, addresses)

        return types.UniTuple(types.int64, 2)(arguments), generate

    return note


@intrinsic
def on_stack(typing_context: Any, arguments: Any) -> tuple[Any, Callable[..., Any]]:
    """Data as that of :func:`outlined`, for code that was made elsewhere from arguments of the same types."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        return builder.ptrtoint(cgutils.alloca_once_value(builder, values[0]), _WORD)

    return types.int64(arguments), generate


@intrinsic
def call_outlined(typing_context: Any, code: Any, data: Any, block: Any) -> tuple[Any, Callable[..., Any]]:
    """Make the call, with this block."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        code, data, block = values
        function = builder.inttoptr(code, _CODE.as_pointer())
        builder.call(function, [builder.inttoptr(data, _POINTER), block])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.intp), generate
