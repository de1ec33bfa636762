"""SIMD building blocks for LLVM IR: float32 vectors as wide as the processor's registers, with masked loads and stores.

They are for the inner loops that must vectorise in a fixed way, instead of as LLVM's vectoriser decides.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.np.arrayobj import make_array

_TRIPLE, _, _FEATURES = cpu_target.target_context.codegen().magic_tuple()
FEATURES = _FEATURES.split(",")


def _lanes() -> int:
    if _TRIPLE.startswith(("aarch64", "arm64")):  # which always have NEON, though it is not among the features
        return 0 if "apple" in _TRIPLE else 4  # Apple's own library uses matrix units that NEON code cannot reach
    return 16 if "+avx512f" in FEATURES else 8 if {"+avx2", "+fma"} <= set(FEATURES) else 0


# Floats in a vector; 0 where matrix products are left to NumPy: Apple's processors, and those without AVX2 and FMA.
LANES = _lanes()
VECTOR_BYTES = 4 * LANES
_HAS_MASKS = LANES >= 8  # without, LLVM replaces a masked load or store by a branch for each lane

BYTE, FLOAT, INDEX, LANE = ir.IntType(8), ir.FloatType(), ir.IntType(64), ir.IntType(32)
VECTOR, MASK = ir.VectorType(FLOAT, LANES), ir.VectorType(ir.IntType(1), LANES)


class Matrix:
    """The address, the shape and the strides in bytes of an array, as LLVM values."""

    def __init__(self, context: Any, builder: ir.IRBuilder, kind: types.Array, value: Any) -> None:
        array = make_array(kind)(context, builder, value)
        self.builder = builder
        self.start = builder.bitcast(array.data, BYTE.as_pointer())
        self.shape = cgutils.unpack_tuple(builder, array.shape)
        self.strides = cgutils.unpack_tuple(builder, array.strides)

    def at(self, row: Any, column: Any = None) -> Any:
        """The address of an element, by default of the row's first."""
        offset = self.builder.mul(row, self.strides[0])
        if column is not None:
            offset = self.builder.add(offset, self.builder.mul(column, self.strides[1]))
        return self.at_byte(offset)

    def at_byte(self, offset: Any) -> Any:
        """The address at a byte offset from the start."""
        return self.builder.gep(self.start, [offset])


def advance(builder: ir.IRBuilder, start: Any, floats: Any) -> Any:
    """The address this many floats further."""
    return builder.gep(start, [builder.mul(floats, INDEX(4))])


def splat(builder: ir.IRBuilder, value: Any, kind: ir.VectorType) -> Any:
    """A vector with the same value in every lane."""
    single = builder.insert_element(ir.Constant(kind, ir.Undefined), value, LANE(0))
    zeros = ir.Constant(ir.VectorType(LANE, LANES), None)
    return builder.shuffle_vector(single, ir.Constant(kind, ir.Undefined), zeros)


def lanes_before(builder: ir.IRBuilder, position: Any, end: Any) -> Any:
    """The mask of the lanes whose index, ``position`` + lane, is below ``end``."""
    counts = ir.VectorType(INDEX, LANES)
    lanes = ir.Constant(counts, list(range(LANES)))
    return builder.icmp_signed("<", lanes, splat(builder, builder.sub(end, position), counts))


def load(builder: ir.IRBuilder, start: Any, mask: Any = None) -> Any:
    """Load a vector; under a mask, lanes where it is false are 0 and their memory is not read."""
    pointer = builder.bitcast(start, VECTOR.as_pointer())
    if mask is None:
        return builder.load(pointer, align=1)
    if _HAS_MASKS:
        return _masked_load(builder, pointer, mask)
    result = cgutils.alloca_once(builder, VECTOR)
    with builder.if_else(_all_true(builder, mask)) as (whole, part):
        with whole:
            builder.store(builder.load(pointer, align=1), result)
        with part:
            builder.store(_masked_load(builder, pointer, mask), result)
    return builder.load(result)


def load_if(builder: ir.IRBuilder, condition: Any, start: Any, mask: Any = None) -> Any:
    """As :func:`load`; zeros, without reading the memory, if the condition is false."""
    if _HAS_MASKS:
        present = splat(builder, condition, MASK)
        return load(builder, start, present if mask is None else builder.and_(mask, present))
    result = cgutils.alloca_once_value(builder, ir.Constant(VECTOR, None))
    with builder.if_then(condition):
        builder.store(load(builder, start, mask), result)
    return builder.load(result)


def store(builder: ir.IRBuilder, values: Any, start: Any, mask: Any = None) -> None:
    """Store a vector; under a mask, only the lanes where it is true."""
    pointer = builder.bitcast(start, VECTOR.as_pointer())
    if mask is None:
        builder.store(values, pointer, align=1)
    elif _HAS_MASKS:
        _masked_store(builder, values, pointer, mask)
    else:
        with builder.if_else(_all_true(builder, mask)) as (whole, part):
            with whole:
                builder.store(values, pointer, align=1)
            with part:
                _masked_store(builder, values, pointer, mask)


def _masked_load(builder: ir.IRBuilder, pointer: Any, mask: Any) -> Any:
    kind = ir.FunctionType(VECTOR, [pointer.type, LANE, MASK, VECTOR])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.masked.load.v{LANES}f32.p0")
    return builder.call(function, [pointer, LANE(1), mask, ir.Constant(VECTOR, None)])


def _masked_store(builder: ir.IRBuilder, values: Any, pointer: Any, mask: Any) -> None:
    kind = ir.FunctionType(ir.VoidType(), [VECTOR, pointer.type, LANE, MASK])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.masked.store.v{LANES}f32.p0")
    builder.call(function, [values, pointer, LANE(1), mask])


def _all_true(builder: ir.IRBuilder, mask: Any) -> Any:
    bits = ir.IntType(LANES)
    return builder.icmp_unsigned("==", builder.bitcast(mask, bits), bits(-1))


def prefetch_line(builder: ir.IRBuilder, address: Any) -> None:
    """Prefetch the cache line of an address, which need not be mapped."""
    byte = BYTE.as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [byte, LANE, LANE, LANE])
    function = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
    for_reading, into_every_cache, as_data = LANE(0), LANE(3), LANE(1)
    builder.call(function, [builder.bitcast(address, byte), for_reading, into_every_cache, as_data])


def fma(builder: ir.IRBuilder, a: Any, b: Any, c: Any) -> Any:
    """Fused multiply-add ``a b + c``."""
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(VECTOR, [VECTOR] * 3), f"llvm.fma.v{LANES}f32"
    )
    return builder.call(function, [a, b, c])


def transpose(builder: ir.IRBuilder, square: list[Any]) -> list[Any]:
    """The transpose of a square of vectors, by exchanging off-diagonal blocks of size 1, 2, 4, …"""
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
