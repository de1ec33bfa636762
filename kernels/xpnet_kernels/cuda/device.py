"""The primitives on the GPU: pointers, 128-bit loads and stores, conversions, warp shuffles."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import cuda, types
from numba.core import cgutils
from numba.cuda.extending import intrinsic

WARP = 32  # threads that exchange values without a barrier
BLOCK = 512  # threads in a block, at most
HELD_BYTES = 256  # of a row in a thread's registers: 64 of the 128 that each thread of a full block has

_LOG2_E = np.float32(math.log2(math.e))
_FLOAT = ir.FloatType()
_WORD = ir.IntType(32)
_HALF_WORD = ir.IntType(16)
_STORED = {  # element type: its form in memory
    types.float32: _FLOAT,
    types.float64: ir.DoubleType(),
    types.float16: _HALF_WORD,
    types.uint16: _HALF_WORD,  # bfloat16: the upper half of a float32
}


def device_function(function: Callable) -> Callable:
    """Let kernels call the function."""
    return cuda.jit(function, device=True)


@device_function
def thread_index() -> int:
    """The thread's place in its block."""
    return cuda.threadIdx.y * cuda.blockDim.x + cuda.threadIdx.x


@device_function
def barrier() -> None:
    """Wait for every thread of the block."""
    cuda.syncthreads()


@intrinsic
def scratch(typing_context: Any, value: types.Type) -> Any:
    """Shared memory for one value a warp, of the type of ``value``."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        element = context.get_data_type(value)
        memory = ir.GlobalVariable(
            builder.module, ir.ArrayType(element, 32), builder.module.get_unique_name("scratch"), addrspace=3
        )
        memory.linkage = "internal"
        memory.initializer = ir.Constant(memory.value_type, ir.Undefined)
        first = builder.bitcast(memory, element.as_pointer(3))
        return builder.addrspacecast(first, element.as_pointer())

    return types.CPointer(value)(value), generate


@device_function
def shuffle_xor(value: Any, offset: int) -> Any:
    """The value of the lane whose index differs in the bit ``offset``; all lanes of the warp take part."""
    return cuda.shfl_xor_sync(0xFFFFFFFF, value, offset)


@intrinsic
def recomputed(typing_context: Any, value: types.Type) -> Any:
    """The value, opaque to the compiler: addresses computed from it are recomputed instead of kept in registers."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        word = ir.IntType(64)
        move = ir.InlineAsm(ir.FunctionType(word, [word]), "mov.b64 $0, $1;", "=l,l", side_effect=True)
        return builder.call(move, arguments)

    return types.int64(types.int64), generate


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


@intrinsic
def exponential(typing_context: Any, x: types.Type) -> Any:
    """The exponential of ``x``, in the type of ``x``: in float32 to a few units in the last place, 0 below 2**-126."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        function_type = ir.FunctionType(arguments[0].type, [arguments[0].type])
        if x == types.float64:
            return builder.call(cgutils.get_or_insert_function(builder.module, function_type, "__nv_exp"), arguments)
        power = ir.InlineAsm(function_type, "ex2.approx.ftz.f32 $0, $1;", "=f,f", side_effect=False)
        return builder.call(power, [builder.fmul(arguments[0], ir.Constant(_FLOAT, _LOG2_E))])

    return x(x), generate


@device_function
def logarithm(x: Any) -> Any:
    """The natural logarithm of ``x``, in the type of ``x``."""
    return math.log(x)


@intrinsic
def add_count(typing_context: Any, pointer: types.Type, index: types.Type, count: types.Type) -> Any:
    """Add a whole number atomically: exact, so the order of the additions does not matter."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        address = builder.gep(arguments[0], [arguments[1]])
        signature_type = ir.FunctionType(ir.VoidType(), [address.type, ir.DoubleType()])
        reduction = ir.InlineAsm(signature_type, "red.add.f64 [$0], $1;", "l,d,~{memory}", side_effect=True)
        builder.call(reduction, [address, arguments[2]])
        return context.get_dummy_value()

    return types.void(pointer, index, types.float64), generate
