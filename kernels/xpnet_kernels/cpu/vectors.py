"""Vectors of float32 in code being generated: as wide as the processor's registers, loaded and stored under masks.

Loops that LLVM is to find such vectors in are for it to judge; here it is told.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.np.arrayobj import make_array

FEATURES = cpu_target.target_context.codegen().magic_tuple()[2].split(",")

# Floats in a vector; 0 where the processor, or Numba's setting for it, has no fused multiply-add of eight.
LANES = 16 if "+avx512f" in FEATURES else 8 if {"+avx2", "+fma"} <= set(FEATURES) else 0
VECTOR_BYTES = 4 * LANES

BYTE, FLOAT, INDEX, LANE = ir.IntType(8), ir.FloatType(), ir.IntType(64), ir.IntType(32)
VECTOR, MASK = ir.VectorType(FLOAT, LANES), ir.VectorType(ir.IntType(1), LANES)


class Matrix:
    """The address, the shape and the strides in bytes of an array, in code being generated."""

    def __init__(self, context: Any, builder: ir.IRBuilder, kind: types.Array, value: Any) -> None:
        array = make_array(kind)(context, builder, value)
        self.builder = builder
        self.start = builder.bitcast(array.data, BYTE.as_pointer())
        self.shape = cgutils.unpack_tuple(builder, array.shape)
        self.strides = cgutils.unpack_tuple(builder, array.strides)

    def at(self, row: Any, column: Any = None) -> Any:
        """The address of an element; of the row's first when no column is named."""
        offset = self.builder.mul(row, self.strides[0])
        if column is not None:
            offset = self.builder.add(offset, self.builder.mul(column, self.strides[1]))
        return self.at_byte(offset)

    def at_byte(self, offset: Any) -> Any:
        """The address so many bytes on."""
        return self.builder.gep(self.start, [offset])


def step(builder: ir.IRBuilder, start: Any, floats: Any) -> Any:
    """The address so many floats on."""
    return builder.gep(start, [builder.mul(floats, INDEX(4))])


def splat(builder: ir.IRBuilder, value: Any, kind: ir.VectorType) -> Any:
    """A vector of one value."""
    single = builder.insert_element(ir.Constant(kind, ir.Undefined), value, LANE(0))
    zeros = ir.Constant(ir.VectorType(LANE, LANES), None)
    return builder.shuffle_vector(single, ir.Constant(kind, ir.Undefined), zeros)


def mask_before(builder: ir.IRBuilder, position: Any, end: Any) -> Any:
    """Which of the lanes that begin at ``position`` lie before ``end``."""
    counts = ir.VectorType(INDEX, LANES)
    lanes = ir.Constant(counts, list(range(LANES)))
    return builder.icmp_signed("<", lanes, splat(builder, builder.sub(end, position), counts))


def load(builder: ir.IRBuilder, start: Any, mask: Any = None) -> Any:
    """A vector from memory, all of it, or zero where the mask is; nothing is read there."""
    pointer = builder.bitcast(start, VECTOR.as_pointer())
    if mask is None:
        return builder.load(pointer, align=1)
    kind = ir.FunctionType(VECTOR, [pointer.type, LANE, MASK, VECTOR])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.masked.load.v{LANES}f32.p0")
    return builder.call(function, [pointer, LANE(1), mask, ir.Constant(VECTOR, None)])


def store(builder: ir.IRBuilder, values: Any, start: Any, mask: Any = None) -> None:
    """A vector to memory, all of it or where the mask is."""
    pointer = builder.bitcast(start, VECTOR.as_pointer())
    if mask is None:
        builder.store(values, pointer, align=1)
        return
    kind = ir.FunctionType(ir.VoidType(), [VECTOR, pointer.type, LANE, MASK])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.masked.store.v{LANES}f32.p0")
    builder.call(function, [values, pointer, LANE(1), mask])


def fetch(builder: ir.IRBuilder, address: Any) -> None:
    """Fetch a cache line, which may lie beyond the end of what is there, from memory, and do not wait for it."""
    byte = BYTE.as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [byte, LANE, LANE, LANE])
    function = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
    for_reading, into_every_cache, as_data = LANE(0), LANE(3), LANE(1)
    builder.call(function, [builder.bitcast(address, byte), for_reading, into_every_cache, as_data])


def multiply_add(builder: ir.IRBuilder, a: Any, b: Any, c: Any) -> Any:
    """``a b + c``, rounded once."""
    fma = cgutils.get_or_insert_function(builder.module, ir.FunctionType(VECTOR, [VECTOR] * 3), f"llvm.fma.v{LANES}f32")
    return builder.call(fma, [a, b, c])


def transposed(builder: ir.IRBuilder, square: list[Any]) -> list[Any]:
    """A square of vectors, transposed by exchanging ever larger squares beside the diagonal."""
    square, distance = list(square), 1
    while distance < LANES:
        upper = [lane if not lane & distance else LANES + lane - distance for lane in range(LANES)]
        lower = [lane + distance if not lane & distance else LANES + lane for lane in range(LANES)]
        masks = [ir.Constant(ir.VectorType(LANE, LANES), lanes) for lanes in (upper, lower)]
        for r in range(LANES):
            if not r & distance:
                pair = square[r], square[r + distance]
                square[r], square[r + distance] = (builder.shuffle_vector(*pair, mask) for mask in masks)
        distance *= 2
    return square
