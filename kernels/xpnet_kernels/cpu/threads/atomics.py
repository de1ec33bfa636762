"""Atomic operations on int64 words that threads share without the GIL, and what a spinning thread needs."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

# Sequential consistency is the easiest memory order to reason about, and costs nothing measurable here.
_ORDER = "seq_cst"
_WORD, _BYTES = ir.IntType(64), ir.IntType(8).as_pointer()

_IS_X86 = platform.machine().lower() in ("x86_64", "amd64")
_IS_ARM64 = platform.machine().lower() in ("aarch64", "arm64")
_IS_POSIX = os.name == "posix"
HAS_CLOCK = _IS_X86 or _IS_POSIX  # whether cycle_count works; without it no work is shared


def _at(context: Any, builder: ir.IRBuilder, kind: types.Array, words: Any, place: Any) -> Any:
    return builder.gep(make_array(kind)(context, builder, words).data, [place])


@intrinsic
def atomic_load(typing_context: Any, words: Any, place: Any) -> tuple[Any, Callable[..., Any]]:
    """``words[place]``; ``words`` is a contiguous int64 vector."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        return builder.load_atomic(_at(context, builder, signature.args[0], *arguments), _ORDER, 8)

    return types.int64(words, types.intp), generate


@intrinsic
def atomic_store(typing_context: Any, words: Any, place: Any, value: Any) -> tuple[Any, Callable[..., Any]]:
    """``words[place] = value``."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        words, place, value = arguments
        builder.store_atomic(value, _at(context, builder, signature.args[0], words, place), _ORDER, 8)
        return context.get_dummy_value()

    return types.void(words, types.intp, types.int64), generate


@intrinsic
def compare_and_swap(
    typing_context: Any, words: Any, place: Any, before: Any, after: Any
) -> tuple[Any, Callable[..., Any]]:
    """Set ``words[place]`` to ``after`` if it equals ``before``; return whether it did."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        words, place, before, after = arguments
        target = _at(context, builder, signature.args[0], words, place)
        return builder.extract_value(builder.cmpxchg(target, before, after, _ORDER, _ORDER), 1)

    return types.boolean(words, types.intp, types.int64, types.int64), generate


@intrinsic
def fetch_and_add(typing_context: Any, words: Any, place: Any, value: Any) -> tuple[Any, Callable[..., Any]]:
    """``words[place] += value``; return the previous value."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        words, place, value = arguments
        return builder.atomic_rmw("add", _at(context, builder, signature.args[0], words, place), value, _ORDER)

    return types.int64(words, types.intp, types.int64), generate


@intrinsic
def spin_pause(typing_context: Any) -> tuple[Any, Callable[..., Any]]:
    """What a spin loop does between two looks: PAUSE frees the core's other hyperthread for some tens of cycles.

    On arm64 YIELD does nothing on most processors; an ISB waits about as long as PAUSE.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        if _IS_X86:
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
        elif _IS_ARM64:
            full_system = ir.IntType(32)(15)
            kind = ir.FunctionType(ir.VoidType(), [full_system.type])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.aarch64.isb"), [full_system])
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def yield_thread(typing_context: Any) -> tuple[Any, Callable[..., Any]]:
    """``sched_yield``: let the system run another thread on this core, if one is waiting."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        if _IS_POSIX:
            kind = ir.FunctionType(ir.IntType(32), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "sched_yield"), [])
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def cycle_count(typing_context: Any) -> tuple[Any, Callable[..., Any]]:
    """The x86 time-stamp counter, some billions a second; elsewhere the system clock, at three a nanosecond."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        if _IS_X86:
            kind = ir.FunctionType(_WORD, [])
            return builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.readcyclecounter"), [])
        if not _IS_POSIX:
            return _WORD(0)
        moment = cgutils.alloca_once(builder, ir.ArrayType(_WORD, 2))
        kind = ir.FunctionType(ir.IntType(32), [ir.IntType(32), _BYTES])
        read = cgutils.get_or_insert_function(builder.module, kind, "clock_gettime")
        builder.call(read, [ir.IntType(32)(time.CLOCK_MONOTONIC), builder.bitcast(moment, _BYTES)])
        seconds, nanoseconds = (builder.load(cgutils.gep(builder, moment, 0, place)) for place in range(2))
        total = builder.add(builder.mul(seconds, _WORD(10**9)), nanoseconds)
        return builder.mul(total, _WORD(3))

    return types.int64(), generate
