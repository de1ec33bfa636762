"""Callbacks as in C: a function pointer and a pointer to its arguments, which any thread can invoke for a block."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_WORD, _POINTER = ir.IntType(64), ir.IntType(8).as_pointer()
_CODE = ir.FunctionType(ir.VoidType(), [_POINTER, _WORD])


def callback(function: Any) -> Any:
    """In compiled code, ``callback(function)(arguments)`` is (function pointer, pointer to the arguments).

    Invoking it calls ``function(*arguments, block)``. The function is compiled and returns nothing. It must neither
    raise nor allocate, since the error would be lost. The arguments lie on the stack of the function that makes the
    callback, so the callback is valid until that function returns.
    """

    @intrinsic
    def make(typing_context: Any, arguments: Any) -> tuple[Any, Callable[..., Any]]:
        inner = typing_context.resolve_function_type(types.Dispatcher(function), (*arguments.types, types.intp), {})

        def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
            compiled = function.get_compile_result(inner)
            context.active_code_library.add_linking_library(compiled.library)
            data = cgutils.alloca_once_value(builder, values[0])
            code = ir.Function(builder.module, _CODE, builder.module.get_unique_name("callback"))
            code.linkage = "internal"
            body = ir.IRBuilder(code.append_basic_block())
            items = cgutils.unpack_tuple(body, body.load(body.bitcast(code.args[0], data.type)))
            callee = context.declare_function(body.module, compiled.fndesc)
            context.call_conv.call_function(body, callee, inner.return_type, inner.args, [*items, code.args[1]])
            body.ret_void()
            addresses = [builder.ptrtoint(code, _WORD), builder.ptrtoint(data, _WORD)]
            return context.make_tuple(builder, signature.return_type, addresses)

        return types.UniTuple(types.int64, 2)(arguments), generate

    return make


@intrinsic
def arguments_on_stack(typing_context: Any, arguments: Any) -> tuple[Any, Callable[..., Any]]:
    """A pointer to the arguments, for the function pointer of a callback made elsewhere for the same types."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        return builder.ptrtoint(cgutils.alloca_once_value(builder, values[0]), _WORD)

    return types.int64(arguments), generate


@intrinsic
def invoke(typing_context: Any, function: Any, arguments: Any, block: Any) -> tuple[Any, Callable[..., Any]]:
    """Call the function of a callback for a block."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        code, data, block = values
        function = builder.inttoptr(code, _CODE.as_pointer())
        builder.call(function, [builder.inttoptr(data, _POINTER), block])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.intp), generate
