"""The primitives on the GPU that access memory: pointers, loads and stores with their conversions."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from .numba_cuda import cuda

intrinsic = cuda.extending.intrinsic

FLOAT = ir.FloatType()
WORD = ir.IntType(32)
HALF_WORD = ir.IntType(16)
DOUBLE_WORD = ir.IntType(64)
STORED = {  # element type: its form in memory
    types.float32: FLOAT,
    types.float64: ir.DoubleType(),
    types.float16: HALF_WORD,
    types.uint16: HALF_WORD,  # bfloat16: the upper half of a float32
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


@intrinsic
def row_at(typing_context: Any, pointer: types.Type, elements: types.Type) -> Any:
    """The pointer to the element at that distance, opaque to the compiler: the sum is kept, not its parts."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        address = builder.gep(arguments[0], [arguments[1]])
        in_global_memory = address.type.pointee.as_pointer(1)
        number = builder.ptrtoint(builder.addrspacecast(address, in_global_memory), DOUBLE_WORD)
        move = ir.InlineAsm(ir.FunctionType(DOUBLE_WORD, [DOUBLE_WORD]), "mov.b64 $0, $1;", "=l,l", side_effect=True)
        return builder.addrspacecast(builder.inttoptr(builder.call(move, [number]), in_global_memory), address.type)

    return pointer(pointer, elements), generate


def item_bytes(pointer: types.Type) -> int:
    """The size of an element."""
    return pointer.dtype.bitwidth // 8


@intrinsic
def width(typing_context: Any, pointer: types.Type) -> Any:
    """Elements in 16 bytes."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        return ir.Constant(ir.IntType(64), 16 // item_bytes(pointer))

    return types.int64(pointer), generate


@intrinsic
def lead(typing_context: Any, pointer: types.Type) -> Any:
    """Elements between the last 16-byte boundary and the pointer."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        address = builder.ptrtoint(arguments[0], ir.IntType(64))
        past = builder.and_(address, ir.Constant(address.type, 15))
        return builder.udiv(past, ir.Constant(address.type, item_bytes(pointer)))

    return types.int64(pointer), generate


def element_address(
    builder: ir.IRBuilder, pointer: ir.Value, index: ir.Value, element: types.Type, as_type: ir.Type
) -> ir.Value:
    """The address of an element, as a pointer to ``as_type``."""
    stored = builder.bitcast(pointer, STORED[element].as_pointer())
    return builder.bitcast(builder.gep(stored, [index]), as_type.as_pointer())


def widened(builder: ir.IRBuilder, element: types.Type, stored: ir.Value) -> ir.Value:
    """From the element type to the accumulation type."""
    if element == types.uint16:
        word = builder.shl(builder.zext(stored, WORD), ir.Constant(WORD, 16))
        return builder.bitcast(word, FLOAT)
    if element == types.float16:
        return builder.fpext(builder.bitcast(stored, ir.HalfType()), FLOAT)
    return stored


def narrowed(builder: ir.IRBuilder, element: types.Type, value: ir.Value) -> ir.Value:
    """From the accumulation type to the element type, to nearest and to even."""
    if element == types.uint16:
        convert = ir.InlineAsm(
            ir.FunctionType(HALF_WORD, [FLOAT]), "cvt.rn.bf16.f32 $0, $1;", "=h,f", side_effect=False
        )
        return builder.call(convert, [value])
    if element == types.float16:
        return builder.bitcast(builder.fptrunc(value, ir.HalfType()), HALF_WORD)
    return value


def accumulation_type(element: types.Type) -> types.Type:
    """The type in which values of this element type are computed with."""
    return types.float64 if element == types.float64 else types.float32


@intrinsic
def load(typing_context: Any, pointer: types.Type, index: types.Type) -> Any:
    """One element in its accumulation type."""
    element = pointer.dtype

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        address = element_address(builder, *arguments, element, STORED[element])
        return widened(builder, element, builder.load(address))

    return accumulation_type(element)(pointer, index), generate


@intrinsic
def store(typing_context: Any, pointer: types.Type, index: types.Type, value: types.Type) -> Any:
    """Round ``value`` to the element type and store it."""
    element = pointer.dtype

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        address = element_address(builder, *arguments[:2], element, STORED[element])
        builder.store(narrowed(builder, element, arguments[2]), address)
        return context.get_dummy_value()

    return types.void(pointer, index, accumulation_type(element)), generate


def buffer_address(
    context: Any, builder: ir.IRBuilder, array_type: types.Type, array: ir.Value, offset: ir.Value, k: int
) -> ir.Value:
    """The address of a local array's element at ``offset + k``."""
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
        stored = STORED[element]
        halves = stored is HALF_WORD
        lane_type = WORD if halves else stored  # eight half words travel as four words
        lanes = 16 // item_bytes(pointer) // (2 if halves else 1)
        address = element_address(builder, data, index, element, ir.VectorType(lane_type, lanes))
        vector = builder.load(address, align=16)
        parts = [builder.extract_element(vector, ir.Constant(WORD, k)) for k in range(lanes)]
        if halves:
            shift = ir.Constant(WORD, 16)
            parts = [builder.trunc(half, HALF_WORD) for word in parts for half in (word, builder.lshr(word, shift))]
        for k, part in enumerate(parts):
            target = buffer_address(context, builder, signature.args[2], array, start, k)
            builder.store(widened(builder, element, part), target)
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
        for k in range(16 // item_bytes(pointer)):
            source = buffer_address(context, builder, signature.args[2], array, start, k)
            parts.append(narrowed(builder, element, builder.load(source)))
        if STORED[element] is HALF_WORD:
            shift = ir.Constant(WORD, 16)
            words = [builder.zext(part, WORD) for part in parts]
            pairs = zip(words[::2], words[1::2], strict=True)
            parts = [builder.or_(low, builder.shl(high, shift)) for low, high in pairs]
        vector: ir.Value = ir.Constant(ir.VectorType(parts[0].type, len(parts)), ir.Undefined)
        for k, part in enumerate(parts):
            vector = builder.insert_element(vector, part, ir.Constant(WORD, k))
        builder.store(vector, element_address(builder, data, index, element, vector.type), align=16)
        return context.get_dummy_value()

    return types.void(pointer, index, buffer, offset), generate
