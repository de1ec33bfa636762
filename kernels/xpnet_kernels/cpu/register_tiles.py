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
    fetch,
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
MOST_TERMS = 128  # a panel stays in the first-level cache; a multiple of LANES, as its transposition needs


@intrinsic
def panel_memory(typing_context: Any) -> tuple[Any, Callable[..., Any]]:
    """Memory on the stack for a panel of ``MOST_TERMS`` rows."""
    vector = types.Array(types.float32, 1, "C")
    size = MOST_TERMS * MOST_VECTORS * LANES

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
def pack_transposed(typing_context: Any, panel: Any, vectors: Any, B: Any) -> tuple[Any, Callable[..., Any]]:
    """Copy the transpose of B to the panel, so many vectors wide."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        panel = Matrix(context, builder, signature.args[0], arguments[0])
        B = Matrix(context, builder, signature.args[2], arguments[2])
        columns, terms = B.shape
        width = builder.mul(arguments[1], INDEX(VECTOR_BYTES))
        with (
            cgutils.for_range(builder, arguments[1]) as v,
            cgutils.for_range_slice(builder, INDEX(0), terms, INDEX(LANES), inc=True) as (k, _),
        ):
            lane = builder.mul(v.index, INDEX(LANES))
            inside = mask_before(builder, k, terms)
            square = []
            for r in range(LANES):
                column = builder.add(lane, INDEX(r))
                exists = splat(builder, builder.icmp_signed("<", column, columns), MASK)
                square.append(load(builder, step(builder, B.at(column), k), builder.and_(inside, exists)))
            for r, values in enumerate(transposed(builder, square)):
                target = panel.at_byte(builder.mul(builder.add(k, INDEX(r)), width))
                store(builder, values, step(builder, target, lane))
        return context.get_dummy_value()

    return types.void(panel, types.intp, B), generate


@intrinsic
def multiply_tile(
    typing_context: Any, A: Any, row: Any, B: Any, packs: Any, panel: Any, vectors: Any, C: Any, added: Any
) -> tuple[Any, Callable[..., Any]]:
    """``C[row:] += A[row:] B``, at most ``TILE_ROWS[vectors]`` rows of it.

    B is read from the panel; where ``packs`` from itself, and copied to the panel on the way. Where ``added`` is false
    the tile is set, not added to. The strides of A are any.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        _, row, _, packs, _, vectors, _, added = arguments
        A, B, panel, C = (Matrix(context, builder, signature.args[i], arguments[i]) for i in (0, 2, 4, 6))
        present = splat(builder, added, MASK)
        after = builder.append_basic_block("tile.after")
        switch = builder.switch(vectors, after)
        for width in range(1, MOST_VECTORS + 1):
            block = builder.append_basic_block(f"tile.{width}")
            switch.add_case(INDEX(width), block)
            builder.position_at_end(block)
            inside = [None] * (width - 1) + [mask_before(builder, INDEX((width - 1) * LANES), C.shape[1])]
            for r in range(TILE_ROWS[width]):
                for v in range(width):
                    fetch(builder, step(builder, C.at(builder.add(row, INDEX(r))), INDEX(v * LANES)))
            sums = _sums_of_products(builder, A, row, B, inside, packs, panel)
            for r, row_sums in enumerate(sums):
                i = builder.add(row, INDEX(r))
                with builder.if_then(builder.icmp_signed("<", i, C.shape[0])):
                    for v, total in enumerate(row_sums):
                        target = step(builder, C.at(i), INDEX(v * LANES))
                        mask = present if inside[v] is None else builder.and_(inside[v], present)
                        before = load(builder, target, mask)
                        store(builder, builder.fadd(before, builder.load(total)), target, inside[v])
            builder.branch(after)
        builder.position_at_end(after)
        return context.get_dummy_value()

    return types.void(A, types.intp, B, types.boolean, panel, types.intp, C, types.boolean), generate


def _sums_of_products(
    builder: ir.IRBuilder, A: Matrix, row: Any, B: Matrix, inside: list[Any], packs: Any, panel: Matrix
) -> list[list[Any]]:
    """The tile's vectors, in variables that LLVM makes registers. Rows that are not there repeat the last one."""
    (rows, terms), width = A.shape, len(inside)
    sums = [[cgutils.alloca_once(builder, VECTOR) for _ in range(width)] for _ in range(TILE_ROWS[width])]
    starts = []
    for r, row_sums in enumerate(sums):
        i = builder.add(row, INDEX(r))
        starts.append(A.at(builder.select(builder.icmp_signed("<", i, rows), i, builder.sub(rows, INDEX(1)))))
        for total in row_sums:
            builder.store(ir.Constant(VECTOR, None), total)

    def add_products(k: Any, right: list[Any]) -> None:
        offset = builder.mul(k, A.strides[1])
        for start, row_sums in zip(starts, sums, strict=True):
            item = builder.load(builder.bitcast(builder.gep(start, [offset]), FLOAT.as_pointer()), align=1)
            left = splat(builder, item, VECTOR)
            for v, total in enumerate(row_sums):
                builder.store(multiply_add(builder, left, right[v], builder.load(total)), total)

    with builder.if_else(packs) as (packing, packed):
        with packing, cgutils.for_range(builder, terms) as k:
            source, target = B.at(k.index), panel.at_byte(builder.mul(k.index, INDEX(width * VECTOR_BYTES)))
            right = [load(builder, step(builder, source, INDEX(v * LANES)), mask) for v, mask in enumerate(inside)]
            for v, values in enumerate(right):
                store(builder, values, step(builder, target, INDEX(v * LANES)))
            add_products(k.index, right)
        with packed, cgutils.for_range(builder, terms) as k:
            source = panel.at_byte(builder.mul(k.index, INDEX(width * VECTOR_BYTES)))
            add_products(k.index, [load(builder, step(builder, source, INDEX(v * LANES))) for v in range(width)])
    return sums
