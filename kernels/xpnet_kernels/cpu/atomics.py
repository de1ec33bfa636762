"""Words that threads share while none of them holds the interpreter's lock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

_WORD = ir.IntType(64)


def _at(context: Any, builder: ir.IRBuilder, kind: types.Array, words: Any, place: Any) -> Any:
    return builder.gep(make_array(kind)(context, builder, words).data, [place])


@intrinsic
def load_word(typing_context: Any, words: Any, place: Any) -> tuple[Any, Callable[..., Any]]:
    """``words[place]``, of contiguous int64; what was written before its :func:`store_word` is seen from here on."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        return builder.load_atomic(_at(context, builder, signature.args[0], *arguments), "acquire", 8)

    return types.int64(words, types.intp), generate


@intrinsic
def store_word(typing_context: Any, words: Any, place: Any, value: Any) -> tuple[Any, Callable[..., Any]]:
    """``words[place] = value``, after all that was written before."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        words, place, value = arguments
        builder.store_atomic(value, _at(context, builder, signature.args[0], words, place), "release", 8)
        return context.get_dummy_value()

    return types.void(words, types.intp, types.int64), generate


@intrinsic
def exchange_word(
    typing_context: Any, words: Any, place: Any, before: Any, after: Any
) -> tuple[Any, Callable[..., Any]]:
    """Make ``words[place]`` what comes after, if it is what was before; whether it was so: for one thread alone."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        words, place, before, after = arguments
        target = _at(context, builder, signature.args[0], words, place)
        return builder.extract_value(builder.cmpxchg(target, before, after, "acq_rel", "acquire"), 1)

    return types.boolean(words, types.intp, types.int64, types.int64), generate


@intrinsic
def increment_word(typing_context: Any, words: Any, place: Any) -> tuple[Any, Callable[..., Any]]:
    """Add 1 to ``words[place]``; what it was before, which no other thread is told."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        return builder.atomic_rmw("add", _at(context, builder, signature.args[0], *arguments), _WORD(1), "acq_rel")

    return types.int64(words, types.intp), generate


@intrinsic
def pause(typing_context: Any) -> tuple[Any, Callable[..., Any]]:
    """Wait for about a hundred cycles, and leave the core's other thread what it has."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def cycles(typing_context: Any) -> tuple[Any, Callable[..., Any]]:
    """The processor's clock, which counts some billions a second."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(_WORD, [])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.readcyclecounter"), [])

    return types.int64(), generate
