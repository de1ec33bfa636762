"""The inner loop of a matrix product, spelled out for LLVM: vectors in registers, and the packing of its right side.

A panel is a strip of the right side, one to ``MOST_VECTORS`` vectors wide, copied so that its rows follow each other;
columns that are not there are zero. A tile is what a few rows of the left side make of a panel. Each of its vectors is
a register for the whole loop over the terms, so that a term costs few loads; each element is one chain of fused
multiply-adds, in the order of the terms, wherever in a tile it lies.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array

from xpnet_kernels.cpu.vectors import (
    FLOAT,
    INDEX,
    LANES,
    MASK,
    VECTOR,
    VECTOR_BYTES,
    Matrix,
    load,
    mask_before,
    multiply_add,
    splat,
    step,
    store,
    transposed,
)  # fmt: skip

# The rows of a tile that is 0, 1, 2… vectors wide: what 32 registers hold, or 16.
TILE_ROWS = {16: (0, 12, 12, 8, 6), 8: (0, 10, 6), 0: (0,)}[LANES]
MOST_VECTORS = len(TILE_ROWS) - 1
MOST_TERMS = 128  # a panel stays in the first-level cache


@intrinsic
def panel_memory(typing_context: Any) -> tuple[Any, Callable[..., Any]]:
    """Memory on the stack for a panel of ``MOST_TERMS`` rows; the transposition writes up to ``LANES`` rows more."""
    vector = types.Array(types.float32, 1, "C")
    size = (MOST_TERMS + LANES) * MOST_VECTORS * LANES

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        with builder.goto_entry_block():  # unlike cgutils.alloca_once, which fills it with zeros
            memory = builder.alloca(ir.ArrayType(FLOAT, size))
        memory.align = VECTOR_BYTES  # vectors that straddle cache lines would cost 8 % of the product
        result = make_array(vector)(context, builder)
        start = builder.bitcast(memory, FLOAT.as_pointer())
        populate_array(result, start, [INDEX(size)], [INDEX(4)], INDEX(4), None)
        return result._getvalue()

    return vector(), generate


@intrinsic
def pack(
    typing_context: Any, panel: Any, vectors: Any, B: Any, first: Any, last: Any, left: Any, right: Any
) -> tuple[Any, Callable[..., Any]]:
    """Copy ``B[first:last, left:right]`` to ``panel``, so many vectors wide."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        _, vectors, _, first, last, left, right = arguments
        panel = Matrix(context, builder, signature.args[0], arguments[0])
        B = Matrix(context, builder, signature.args[2], arguments[2])
        width = builder.mul(vectors, INDEX(VECTOR_BYTES))
        with cgutils.for_range(builder, builder.sub(last, first)) as k:
            source, target = B.at(builder.add(first, k.index)), panel.at_byte(builder.mul(k.index, width))
            with cgutils.for_range(builder, vectors) as v:
                lane = builder.mul(v.index, INDEX(LANES))
                column = builder.add(left, lane)
                values = load(builder, step(builder, source, column), mask_before(builder, column, right))
                store(builder, values, step(builder, target, lane))
        return context.get_dummy_value()

    return types.void(panel, types.intp, B, *[types.intp] * 4), generate


@intrinsic
def pack_transposed(
    typing_context: Any, panel: Any, vectors: Any, B: Any, first: Any, last: Any, left: Any, right: Any
) -> tuple[Any, Callable[..., Any]]:
    """Copy the transpose of ``B[left:right, first:last]`` to ``panel``, so many vectors wide."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        _, vectors, _, first, last, left, right = arguments
        panel = Matrix(context, builder, signature.args[0], arguments[0])
        B = Matrix(context, builder, signature.args[2], arguments[2])
        width = builder.mul(vectors, INDEX(VECTOR_BYTES))
        terms = builder.sub(last, first)
        with (
            cgutils.for_range(builder, vectors) as v,
            cgutils.for_range_slice(builder, INDEX(0), terms, INDEX(LANES), inc=True) as (k, _),
        ):
            lane = builder.mul(v.index, INDEX(LANES))
            inside = mask_before(builder, k, terms)
            square = []
            for r in range(LANES):
                column = builder.add(builder.add(left, lane), INDEX(r))
                exists = splat(builder, builder.icmp_signed("<", column, right), MASK)
                start = step(builder, B.at(column), builder.add(first, k))
                square.append(load(builder, start, builder.and_(inside, exists)))
            for r, values in enumerate(transposed(builder, square)):
                target = panel.at_byte(builder.mul(builder.add(k, INDEX(r)), width))
                store(builder, values, step(builder, target, lane))
        return context.get_dummy_value()

    return types.void(panel, types.intp, B, *[types.intp] * 4), generate


@intrinsic
def multiply_tile(
    typing_context: Any, A: Any, row: Any, rows: Any, first: Any, last: Any, panel: Any, vectors: Any,
    C: Any, left: Any, right: Any, added: Any,
) -> tuple[Any, Callable[..., Any]]:  # fmt: skip
    """``C[row:rows, left:right] += A[row:rows, first:last] panel``, at most ``TILE_ROWS[vectors]`` rows of it.

    Where ``added`` is false the tile is set, not added to. The strides of A are any.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        _, row, rows, first, last, _, vectors, _, left, right, added = arguments
        A = Matrix(context, builder, signature.args[0], arguments[0])
        panel = Matrix(context, builder, signature.args[5], arguments[5])
        C = Matrix(context, builder, signature.args[7], arguments[7])
        after = builder.append_basic_block("tile.after")
        switch = builder.switch(vectors, after)
        for width in range(1, MOST_VECTORS + 1):
            block = builder.append_basic_block(f"tile.{width}")
            switch.add_case(INDEX(width), block)
            builder.position_at_end(block)
            sums = _sums_of_products(builder, width, A, row, rows, first, last, panel)
            masks = [mask_before(builder, builder.add(left, INDEX(v * LANES)), right) for v in range(width)]
            present = splat(builder, added, MASK)
            for r, row_sums in enumerate(sums):
                i = builder.add(row, INDEX(r))
                with builder.if_then(builder.icmp_signed("<", i, rows)):
                    for v, total in enumerate(row_sums):
                        target = step(builder, C.at(i), builder.add(left, INDEX(v * LANES)))
                        before = load(builder, target, builder.and_(masks[v], present))
                        store(builder, builder.fadd(before, builder.load(total)), target, masks[v])
            builder.branch(after)
        builder.position_at_end(after)
        return context.get_dummy_value()

    indices = [types.intp] * 4
    return types.void(A, *indices, panel, types.intp, C, types.intp, types.intp, types.boolean), generate


def _sums_of_products(
    builder: ir.IRBuilder, width: int, A: Matrix, row: Any, rows: Any, first: Any, last: Any, panel: Matrix
) -> list[list[Any]]:
    """The tile's vectors, in variables that LLVM makes registers. Rows that are not there repeat the last one."""
    height = TILE_ROWS[width]
    sums = [[cgutils.alloca_once(builder, VECTOR) for _ in range(width)] for _ in range(height)]
    starts = []
    for r in range(height):
        i = builder.add(row, INDEX(r))
        i = builder.select(builder.icmp_signed("<", i, rows), i, builder.sub(rows, INDEX(1)))
        starts.append(A.at(i, first))
        for total in sums[r]:
            builder.store(ir.Constant(VECTOR, None), total)
    with cgutils.for_range(builder, builder.sub(last, first)) as k:
        source = panel.at_byte(builder.mul(k.index, INDEX(width * VECTOR_BYTES)))
        right = [
            builder.load(builder.bitcast(step(builder, source, INDEX(v * LANES)), VECTOR.as_pointer()), align=4)
            for v in range(width)
        ]
        offset = builder.mul(k.index, A.strides[1])
        for r in range(height):
            item = builder.load(builder.bitcast(builder.gep(starts[r], [offset]), FLOAT.as_pointer()), align=1)
            left = splat(builder, item, VECTOR)
            for v in range(width):
                builder.store(multiply_add(builder, left, right[v], builder.load(sums[r][v])), sums[r][v])
    return sums
