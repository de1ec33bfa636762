"""The primitives on the GPU that access memory: pointers, 128-bit loads and stores, conversions."""

from __future__ import annotations

import functools
from typing import Any

from llvmlite import ir
from numba import types

from .numba_cuda import cuda

intrinsic = cuda.extending.intrinsic

_FLOAT = ir.FloatType()
_WORD = ir.IntType(32)
_HALF_WORD = ir.IntType(16)
_DOUBLE_WORD = ir.IntType(64)
_STORED = {  # element type: its form in memory
    types.float32: _FLOAT,
    types.float64: ir.DoubleType(),
    types.float16: _HALF_WORD,
    types.uint16: _HALF_WORD,  # bfloat16: the upper half of a float32
}


@intrinsic
def given(typing_context: Any, pointer: types.Type) -> Any:
    """Whether the optional argument was given (a null pointer stands for None)."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        return builder.icmp_unsigned("!=", arguments[0], ir.Constant(arguments[0].type, None))

    return types.boolean(pointer), generate


@intrinsic
def advance(typing_context: Any, pointer: types.Type, elements: types.Type) -> Any:
    """The pointer to the element at that distance."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        return builder.gep(arguments[0], [arguments[1]])

    return pointer(pointer, elements), generate


_MINUS_INFINITY = {  # the words of two of its numbers or, in float64, of one
    types.float32: (0xFF800000, 0xFF800000),
    types.float64: (0, 0xFFF00000),
    types.float16: (0xFC00FC00, 0xFC00FC00),
    types.uint16: (0xFF80FF80, 0xFF80FF80),
}


@intrinsic
def row_at(typing_context: Any, pointer: types.Type, elements: types.Type) -> Any:
    """The pointer to the element at that distance, opaque to the compiler: the sum is kept, not its parts."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        address = builder.gep(arguments[0], [arguments[1]])
        in_global_memory = address.type.pointee.as_pointer(1)
        number = builder.ptrtoint(builder.addrspacecast(address, in_global_memory), _DOUBLE_WORD)
        move = ir.InlineAsm(ir.FunctionType(_DOUBLE_WORD, [_DOUBLE_WORD]), "mov.b64 $0, $1;", "=l,l", side_effect=True)
        return builder.addrspacecast(builder.inttoptr(builder.call(move, [number]), in_global_memory), address.type)

    return pointer(pointer, elements), generate


def _item_bytes(pointer: types.Type) -> int:
    return pointer.dtype.bitwidth // 8


@intrinsic
def width(typing_context: Any, pointer: types.Type) -> Any:
    """Elements in 16 bytes."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        return ir.Constant(ir.IntType(64), 16 // _item_bytes(pointer))

    return types.int64(pointer), generate


@intrinsic
def lead(typing_context: Any, pointer: types.Type) -> Any:
    """Elements between the last 16-byte boundary and the pointer."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        address = builder.ptrtoint(arguments[0], ir.IntType(64))
        past = builder.and_(address, ir.Constant(address.type, 15))
        return builder.udiv(past, ir.Constant(address.type, _item_bytes(pointer)))

    return types.int64(pointer), generate


def _address(
    builder: ir.IRBuilder, pointer: ir.Value, index: ir.Value, element: types.Type, as_type: ir.Type
) -> ir.Value:
    """The address of an element, as a pointer to ``as_type``."""
    stored = builder.bitcast(pointer, _STORED[element].as_pointer())
    return builder.bitcast(builder.gep(stored, [index]), as_type.as_pointer())


def _widen(builder: ir.IRBuilder, element: types.Type, stored: ir.Value) -> ir.Value:
    """From the element type to the accumulation type."""
    if element == types.uint16:
        word = builder.shl(builder.zext(stored, _WORD), ir.Constant(_WORD, 16))
        return builder.bitcast(word, _FLOAT)
    if element == types.float16:
        return builder.fpext(builder.bitcast(stored, ir.HalfType()), _FLOAT)
    return stored


def _narrow(builder: ir.IRBuilder, element: types.Type, value: ir.Value) -> ir.Value:
    """From the accumulation type to the element type, to nearest and to even."""
    if element == types.uint16:
        convert = ir.InlineAsm(
            ir.FunctionType(_HALF_WORD, [_FLOAT]), "cvt.rn.bf16.f32 $0, $1;", "=h,f", side_effect=False
        )
        return builder.call(convert, [value])
    if element == types.float16:
        return builder.bitcast(builder.fptrunc(value, ir.HalfType()), _HALF_WORD)
    return value


def _accumulator(element: types.Type) -> types.Type:
    return types.float64 if element == types.float64 else types.float32


@intrinsic
def load(typing_context: Any, pointer: types.Type, index: types.Type) -> Any:
    """One element in its accumulation type."""
    element = pointer.dtype

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        address = _address(builder, *arguments, element, _STORED[element])
        return _widen(builder, element, builder.load(address))

    return _accumulator(element)(pointer, index), generate


@intrinsic
def store(typing_context: Any, pointer: types.Type, index: types.Type, value: types.Type) -> Any:
    """Round ``value`` to the element type and store it."""
    element = pointer.dtype

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        address = _address(builder, *arguments[:2], element, _STORED[element])
        builder.store(_narrow(builder, element, arguments[2]), address)
        return context.get_dummy_value()

    return types.void(pointer, index, _accumulator(element)), generate


def _buffer_address(
    context: Any, builder: ir.IRBuilder, array_type: types.Type, array: ir.Value, offset: ir.Value, k: int
) -> ir.Value:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [builder.add(offset, ir.Constant(offset.type, k))])


@intrinsic
def load_vector(
    typing_context: Any, pointer: types.Type, index: types.Type, buffer: types.Type, offset: types.Type
) -> Any:
    """Fill ``buffer[offset:]`` with the 16 bytes at ``index``, in the accumulation type."""
    element = pointer.dtype

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        data, index, array, start = arguments
        stored = _STORED[element]
        halves = stored is _HALF_WORD
        lane_type = _WORD if halves else stored  # eight half words travel as four words
        lanes = 16 // _item_bytes(pointer) // (2 if halves else 1)
        address = _address(builder, data, index, element, ir.VectorType(lane_type, lanes))
        vector = builder.load(address, align=16)
        parts = [builder.extract_element(vector, ir.Constant(_WORD, k)) for k in range(lanes)]
        if halves:
            shift = ir.Constant(_WORD, 16)
            parts = [builder.trunc(half, _HALF_WORD) for word in parts for half in (word, builder.lshr(word, shift))]
        for k, part in enumerate(parts):
            target = _buffer_address(context, builder, signature.args[2], array, start, k)
            builder.store(_widen(builder, element, part), target)
        return context.get_dummy_value()

    return types.void(pointer, index, buffer, offset), generate


@intrinsic
def store_vector(
    typing_context: Any, pointer: types.Type, index: types.Type, buffer: types.Type, offset: types.Type
) -> Any:
    """Round 16 bytes' worth of ``buffer[offset:]`` to the element type and store them at ``index``."""
    element = pointer.dtype

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        data, index, array, start = arguments
        parts = []
        for k in range(16 // _item_bytes(pointer)):
            source = _buffer_address(context, builder, signature.args[2], array, start, k)
            parts.append(_narrow(builder, element, builder.load(source)))
        if _STORED[element] is _HALF_WORD:
            shift = ir.Constant(_WORD, 16)
            words = [builder.zext(part, _WORD) for part in parts]
            pairs = zip(words[::2], words[1::2], strict=True)
            parts = [builder.or_(low, builder.shl(high, shift)) for low, high in pairs]
        vector: ir.Value = ir.Constant(ir.VectorType(parts[0].type, len(parts)), ir.Undefined)
        for k, part in enumerate(parts):
            vector = builder.insert_element(vector, part, ir.Constant(_WORD, k))
        builder.store(vector, _address(builder, data, index, element, vector.type), align=16)
        return context.get_dummy_value()

    return types.void(pointer, index, buffer, offset), generate


def _word_address(
    context: Any, builder: ir.IRBuilder, words_type: types.Type, words: ir.Value, slot: ir.Value, k: int
) -> ir.Value:
    first = builder.mul(slot, ir.Constant(slot.type, 4))
    return _buffer_address(context, builder, words_type, words, first, k)


@intrinsic
def load_words(typing_context: Any, pointer: types.Type, index: types.Type, words: types.Type, slot: types.Type) -> Any:
    """Fill ``words[4 * slot:]`` with the 16 bytes at ``index`` as they are, so that many loads can be in flight."""
    element = pointer.dtype

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        data, index, array, slot = arguments
        address = _address(builder, data, index, element, ir.VectorType(_WORD, 4))
        vector = builder.load(address, align=16)
        for k in range(4):
            target = _word_address(context, builder, signature.args[2], array, slot, k)
            builder.store(builder.extract_element(vector, ir.Constant(_WORD, k)), target)
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
        bits = 8 * _item_bytes(pointer)
        integer = ir.IntType(bits)
        stored = builder.load(_address(builder, data, index, element, integer))
        place = builder.mul(place, ir.Constant(place.type, bits))
        number = builder.udiv(place, ir.Constant(place.type, 32))
        first = builder.add(builder.mul(slot, ir.Constant(slot.type, 4)), builder.zext(number, slot.type))
        if bits < 32:
            target = _buffer_address(context, builder, signature.args[2], array, first, 0)
            shift = builder.trunc(builder.and_(place, ir.Constant(place.type, 31)), _WORD)
            kept = builder.and_(builder.load(target), builder.not_(builder.shl(ir.Constant(_WORD, 2**bits - 1), shift)))
            builder.store(builder.or_(kept, builder.shl(builder.zext(stored, _WORD), shift)), target)
        else:
            for k in range(bits // 32):
                word = builder.lshr(stored, ir.Constant(integer, 32 * k))
                target = _buffer_address(context, builder, signature.args[2], array, first, k)
                builder.store(builder.trunc(word, _WORD) if bits > 32 else word, target)
        return context.get_dummy_value()

    return types.void(pointer, index, words, slot, place), generate


@intrinsic
def fill_words(typing_context: Any, like: types.Type, words: types.Type, slot: types.Type) -> Any:
    """Fill the 16 bytes ``words[4 * slot:]`` with −∞ in the element type of ``like``."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        _, array, slot = arguments
        for k in range(4):
            target = _word_address(context, builder, signature.args[1], array, slot, k)
            builder.store(ir.Constant(_WORD, _MINUS_INFINITY[like.dtype][k % 2]), target)
        return context.get_dummy_value()

    return types.void(like, words, slot), generate


def _elements(builder: ir.IRBuilder, element: types.Type, words: list[ir.Value]) -> list[ir.Value]:
    """The elements in 32-bit words, in their form in memory."""
    if _STORED[element] is _HALF_WORD:
        shift = ir.Constant(_WORD, 16)
        return [builder.trunc(half, _HALF_WORD) for word in words for half in (word, builder.lshr(word, shift))]
    if element == types.float64:
        low, high = ([builder.zext(word, _DOUBLE_WORD) for word in words[k::2]] for k in (0, 1))
        pairs = zip(low, high, strict=True)
        words = [builder.or_(a, builder.shl(b, ir.Constant(_DOUBLE_WORD, 32))) for a, b in pairs]
    return [builder.bitcast(word, _STORED[element]) for word in words]


@intrinsic
def unpack(typing_context: Any, like: types.Type, words: types.Type, slot: types.Type, values: types.Type) -> Any:
    """Fill ``values`` with the elements, of the type of ``like``'s, that the 16 bytes ``words[4 * slot:]`` hold."""
    element = like.dtype

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        _, array, slot, values = arguments
        zero = ir.Constant(slot.type, 0)
        parts = [builder.load(_word_address(context, builder, signature.args[1], array, slot, k)) for k in range(4)]
        for k, part in enumerate(_elements(builder, element, parts)):
            value = _widen(builder, element, part)
            builder.store(value, _buffer_address(context, builder, signature.args[3], values, zero, k))
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
    accumulator = _accumulator(element)

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        _, array, slot = arguments
        parts = [builder.load(_word_address(context, builder, signature.args[1], array, slot, k)) for k in range(4)]
        if _STORED[element] is _HALF_WORD:
            pairs = "bf16x2" if element == types.uint16 else "f16x2"
            pair = functools.reduce(functools.partial(_larger, builder, pairs), parts)
            parts = [pair]
        values = [_widen(builder, element, part) for part in _elements(builder, element, parts)]
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
        count = 16 // _item_bytes(like)
        bits = min(8 * count, 32)  # a word; eight bytes are two
        address = builder.gep(data, [index])
        vector = ir.VectorType(ir.IntType(bits), 8 * count // bits)
        words = builder.load(builder.bitcast(address, vector.as_pointer()), align=count)
        for k in range(count):
            word = builder.extract_element(words, ir.Constant(_WORD, 8 * k // bits))
            byte = builder.and_(builder.lshr(word, ir.Constant(word.type, 8 * k % bits)), ir.Constant(word.type, 255))
            value = builder.uitofp(byte, context.get_data_type(buffer.dtype))
            builder.store(value, _buffer_address(context, builder, signature.args[3], array, index.type(0), k))
        return context.get_dummy_value()

    return types.void(pointer, index, like, buffer), generate
