"""The primitives on the GPU: threads, exchange between them, arithmetic. Memory accesses: see ``device_memory``."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types, uint32
from numba.core import cgutils

from .numba_cuda import cuda

intrinsic = cuda.extending.intrinsic

WARP = 32  # threads that exchange values without a barrier
BLOCK = 384  # threads in a block, at most: a multiprocessor runs two with 80 registers a thread
HELD_VECTORS = (
    8  # of a row, of 16 bytes, in a thread's registers: half of the 64 that let a multiprocessor run two blocks
)

_LOG2_E = np.float32(math.log2(math.e))
_FLOAT = ir.FloatType()


def device_function(function: Callable) -> Callable:
    """Let kernels call the function."""
    return cuda.jit(function, device=True)


@device_function
def thread_index() -> int:
    """The thread's place in its block."""
    return uint32(cuda.threadIdx.y * cuda.blockDim.x + cuda.threadIdx.x)


@device_function
def barrier() -> None:
    """Wait for every thread of the block."""
    cuda.syncthreads()


def _shared(value: types.Type, size: int) -> Any:
    """Static shared memory for ``size`` values of a type: what an intrinsic returns."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        element = context.get_data_type(value)
        memory = ir.GlobalVariable(
            builder.module, ir.ArrayType(element, size), builder.module.get_unique_name("scratch"), addrspace=3
        )
        memory.linkage = "internal"
        memory.initializer = ir.Constant(memory.value_type, ir.Undefined)
        first = builder.bitcast(memory, element.as_pointer(3))
        return builder.addrspacecast(first, element.as_pointer())

    return types.CPointer(value)(value), generate


@intrinsic
def warp_scratch(typing_context: Any, value: types.Type) -> Any:
    """Shared memory for one value a warp, of the type of ``value``."""
    return _shared(value, BLOCK // WARP)


@intrinsic
def thread_scratch(typing_context: Any, value: types.Type) -> Any:
    """Shared memory for two values a thread, of the type of ``value``."""
    return _shared(value, 2 * BLOCK)


@device_function
def shuffle_xor(value: Any, offset: int) -> Any:
    """The value of the lane whose index differs in the bit ``offset``; all lanes of the warp take part."""
    return cuda.shfl_xor_sync(0xFFFFFFFF, value, offset)


@intrinsic
def recomputed(typing_context: Any, value: types.Type) -> Any:
    """The value, opaque to the compiler: addresses computed from it are recomputed instead of kept in registers."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        word = ir.IntType(value.bitwidth)
        assembly, constraints = (("mov.b64 $0, $1;", "=l,l"), ("mov.b32 $0, $1;", "=r,r"))[value.bitwidth == 32]
        move = ir.InlineAsm(ir.FunctionType(word, [word]), assembly, constraints, side_effect=True)
        return builder.call(move, arguments)

    return value(value), generate


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
