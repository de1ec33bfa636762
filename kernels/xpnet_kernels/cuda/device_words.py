"""The primitives on the GPU for 16 bytes of memory that a thread holds as they are, in four 32-bit words."""

from __future__ import annotations

import functools
from typing import Any

from llvmlite import ir
from numba import types

from .device_memory import (
    DOUBLE_WORD,
    HALF_WORD,
    STORED,
    WORD,
    accumulation_type,
    buffer_address,
    element_address,
    intrinsic,
    item_bytes,
    widened,
)

_MINUS_INFINITY = {  # the words of two of its numbers or, in float64, of one
    types.float32: (0xFF800000, 0xFF800000),
    types.float64: (0, 0xFFF00000),
    types.float16: (0xFC00FC00, 0xFC00FC00),
    types.uint16: (0xFF80FF80, 0xFF80FF80),
}


def _word_address(
    context: Any, builder: ir.IRBuilder, words_type: types.Type, words: ir.Value, slot: ir.Value, k: int
) -> ir.Value:
    first = builder.mul(slot, ir.Constant(slot.type, 4))
    return buffer_address(context, builder, words_type, words, first, k)


@intrinsic
def load_words(typing_context: Any, pointer: types.Type, index: types.Type, words: types.Type, slot: types.Type) -> Any:
    """Fill ``words[4 * slot:]`` with the 16 bytes at ``index`` as they are, so that many loads can be in flight."""
    element = pointer.dtype

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        data, index, array, slot = arguments
        address = element_address(builder, data, index, element, ir.VectorType(WORD, 4))
        vector = builder.load(address, align=16)
        for k in range(4):
            target = _word_address(context, builder, signature.args[2], array, slot, k)
            builder.store(builder.extract_element(vector, ir.Constant(WORD, k)), target)
        return context.get_dummy_value()

    return types.void(pointer, index, words, slot), generate


@intrinsic
def load_element(
    typing_context: Any, pointer: types.Type, index: types.Type, words: types.Type, slot: types.Type, place: types.Type
) -> Any:
    """Replace element number ``place`` of the 16 bytes ``words[4 * slot:]`` by the one at ``index``."""
    element = pointer.dtype

    # Whole words are written, so that the compiler keeps words, not their halves, in registers.
    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        data, index, array, slot, place = arguments
        bits = 8 * item_bytes(pointer)
        integer = ir.IntType(bits)
        stored = builder.load(element_address(builder, data, index, element, integer))
        place = builder.mul(place, ir.Constant(place.type, bits))
        number = builder.udiv(place, ir.Constant(place.type, 32))
        first = builder.add(builder.mul(slot, ir.Constant(slot.type, 4)), builder.zext(number, slot.type))
        if bits < 32:
            target = buffer_address(context, builder, signature.args[2], array, first, 0)
            shift = builder.trunc(builder.and_(place, ir.Constant(place.type, 31)), WORD)
            kept = builder.and_(builder.load(target), builder.not_(builder.shl(ir.Constant(WORD, 2**bits - 1), shift)))
            builder.store(builder.or_(kept, builder.shl(builder.zext(stored, WORD), shift)), target)
        else:
            for k in range(bits // 32):
                word = builder.lshr(stored, ir.Constant(integer, 32 * k))
                target = buffer_address(context, builder, signature.args[2], array, first, k)
                builder.store(builder.trunc(word, WORD) if bits > 32 else word, target)
        return context.get_dummy_value()

    return types.void(pointer, index, words, slot, place), generate


@intrinsic
def fill_words(typing_context: Any, like: types.Type, words: types.Type, slot: types.Type) -> Any:
    """Fill the 16 bytes ``words[4 * slot:]`` with −∞ in the element type of ``like``."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        _, array, slot = arguments
        for k in range(4):
            target = _word_address(context, builder, signature.args[1], array, slot, k)
            builder.store(ir.Constant(WORD, _MINUS_INFINITY[like.dtype][k % 2]), target)
        return context.get_dummy_value()

    return types.void(like, words, slot), generate


def _elements(builder: ir.IRBuilder, element: types.Type, words: list[ir.Value]) -> list[ir.Value]:
    """The elements in 32-bit words, in their form in memory."""
    if STORED[element] is HALF_WORD:
        shift = ir.Constant(WORD, 16)
        return [builder.trunc(half, HALF_WORD) for word in words for half in (word, builder.lshr(word, shift))]
    if element == types.float64:
        low, high = ([builder.zext(word, DOUBLE_WORD) for word in words[k::2]] for k in (0, 1))
        pairs = zip(low, high, strict=True)
        words = [builder.or_(a, builder.shl(b, ir.Constant(DOUBLE_WORD, 32))) for a, b in pairs]
    return [builder.bitcast(word, STORED[element]) for word in words]


@intrinsic
def unpack(typing_context: Any, like: types.Type, words: types.Type, slot: types.Type, values: types.Type) -> Any:
    """Fill ``values`` with the elements, of the type of ``like``'s, that the 16 bytes ``words[4 * slot:]`` hold."""
    element = like.dtype

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        _, array, slot, values = arguments
        zero = ir.Constant(slot.type, 0)
        parts = [builder.load(_word_address(context, builder, signature.args[1], array, slot, k)) for k in range(4)]
        for k, part in enumerate(_elements(builder, element, parts)):
            value = widened(builder, element, part)
            builder.store(value, buffer_address(context, builder, signature.args[3], values, zero, k))
        return context.get_dummy_value()

    return types.void(like, words, slot, values), generate


def _larger(builder: ir.IRBuilder, kind: str, x: ir.Value, y: ir.Value) -> ir.Value:
    """The larger value, or NaN if one is NaN; of two pairs in half precision, the larger of each two."""
    if kind == "f64":
        take_x = builder.or_(builder.fcmp_ordered("<=", y, x), builder.fcmp_unordered("uno", x, x))
        return builder.select(take_x, x, y)
    constraints = "=f,f,f" if kind == "f32" else "=r,r,r"
    function_type = ir.FunctionType(x.type, [x.type, x.type])
    function = ir.InlineAsm(function_type, f"max.NaN.{kind} $0, $1, $2;", constraints, side_effect=False)
    return builder.call(function, [x, y])


@intrinsic
def maximum(typing_context: Any, a: types.Type, b: types.Type) -> Any:
    """The larger of two numbers of one type, or NaN if one is NaN."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        return _larger(builder, {types.float32: "f32", types.float64: "f64"}[a], *arguments)

    return a(a, b), generate


@intrinsic
def largest(typing_context: Any, like: types.Type, words: types.Type, slot: types.Type) -> Any:
    """The largest of the elements that the 16 bytes ``words[4 * slot:]`` hold, or NaN if one is NaN."""
    element = like.dtype
    accumulator = accumulation_type(element)

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        _, array, slot = arguments
        parts = [builder.load(_word_address(context, builder, signature.args[1], array, slot, k)) for k in range(4)]
        if STORED[element] is HALF_WORD:
            pairs = "bf16x2" if element == types.uint16 else "f16x2"
            pair = functools.reduce(functools.partial(_larger, builder, pairs), parts)
            parts = [pair]
        values = [widened(builder, element, part) for part in _elements(builder, element, parts)]
        kind = "f64" if accumulator == types.float64 else "f32"
        return functools.reduce(functools.partial(_larger, builder, kind), values)

    return accumulator(like, words, slot), generate


@intrinsic
def load_bytes(
    typing_context: Any, pointer: types.Type, index: types.Type, like: types.Type, buffer: types.Type
) -> Any:
    """Fill ``buffer`` with the unsigned bytes at ``index``, as many as ``like`` has elements in 16 bytes, in one load.

    Their address is a multiple of their number.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        data, index, _, array = arguments
        count = 16 // item_bytes(like)
        bits = min(8 * count, 32)  # a word; eight bytes are two
        address = builder.gep(data, [index])
        vector = ir.VectorType(ir.IntType(bits), 8 * count // bits)
        words = builder.load(builder.bitcast(address, vector.as_pointer()), align=count)
        for k in range(count):
            word = builder.extract_element(words, ir.Constant(WORD, 8 * k // bits))
            byte = builder.and_(builder.lshr(word, ir.Constant(word.type, 8 * k % bits)), ir.Constant(word.type, 255))
            value = builder.uitofp(byte, context.get_data_type(buffer.dtype))
            builder.store(value, buffer_address(context, builder, signature.args[3], array, index.type(0), k))
        return context.get_dummy_value()

    return types.void(pointer, index, like, buffer), generate
