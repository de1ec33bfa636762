"""The register-blocked micro-kernel of the matrix product, and the packing of panels, as LLVM IR.

A packed panel is a copy of ``MAX_VECTORS`` vectors' width of B's columns, or fewer, with its rows adjacent; missing
columns are zero. A tile is the product of a few rows of A and a panel. Its vectors stay in registers throughout the
loop over the terms, so that a term costs few loads. Each element is one chain of fused multiply-adds in the order of
the terms, wherever in a tile it lies, so its bits do not depend on how the product is divided.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array

from xpnet_kernels.cpu.numba_extensions.simd import (
    FLOAT,
    INDEX,
    LANES,
    MASK,
    VECTOR,
    VECTOR_BYTES,
    Matrix,
    advance,
    fma,
    lanes_before,
    load,
    load_if,
    prefetch_line,
    splat,
    store,
    transpose,
)  # fmt: skip

# The rows of a tile that is 0, 1, 2… vectors wide: what fits into 32 registers (AVX-512, NEON) or 16 (AVX2).
TILE_ROWS = {16: (0, 12, 12, 8, 6), 8: (0, 10, 6), 4: (0, 12, 12, 8, 6), 0: (0,)}[LANES]
MAX_VECTORS = len(TILE_ROWS) - 1
MAX_TERMS = 128  # a panel fits into the L1 cache; a multiple of LANES, which its transposition needs


@intrinsic
def panel_buffer(typing_context: Any) -> tuple[Any, Callable[..., Any]]:
    """An uninitialised buffer on the stack for a panel of ``MAX_TERMS`` rows."""
    vector = types.Array(types.float32, 1, "C")
    size = MAX_TERMS * MAX_VECTORS * LANES

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
    """Copy the transpose of B to a panel that is ``vectors`` wide."""

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
            inside = lanes_before(builder, k, terms)
            square = []
            for r in range(LANES):
                column = builder.add(lane, INDEX(r))
                exists = splat(builder, builder.icmp_signed("<", column, columns), MASK)
                square.append(load(builder, advance(builder, B.at(column), k), builder.and_(inside, exists)))
            for r, values in enumerate(transpose(builder, square)):
                target = panel.at_byte(builder.mul(builder.add(k, INDEX(r)), width))
                store(builder, values, advance(builder, target, lane))
        return context.get_dummy_value()

    return types.void(panel, types.intp, B), generate


@intrinsic
def micro_kernel(
    typing_context: Any, A: Any, row: Any, B: Any, packs: Any, panel: Any, vectors: Any, C: Any, added: Any
) -> tuple[Any, Callable[..., Any]]:
    """``C[row:] += A[row:] B`` for at most ``TILE_ROWS[vectors]`` rows; ``C[row:] = …`` if ``added`` is false.

    B is read from its packed panel; if ``packs`` is true, from B itself, and packed on the way. A has any strides.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        _, row, _, packs, _, vectors, _, added = arguments
        A, B, panel, C = (Matrix(context, builder, signature.args[i], arguments[i]) for i in (0, 2, 4, 6))
        after = builder.append_basic_block("tile.after")
        switch = builder.switch(vectors, after)
        for width in range(1, MAX_VECTORS + 1):
            block = builder.append_basic_block(f"tile.{width}")
            switch.add_case(INDEX(width), block)
            builder.position_at_end(block)
            inside = [None] * (width - 1) + [lanes_before(builder, INDEX((width - 1) * LANES), C.shape[1])]
            for r in range(TILE_ROWS[width]):
                for v in range(width):
                    prefetch_line(builder, advance(builder, C.at(builder.add(row, INDEX(r))), INDEX(v * LANES)))
            sums = _sums_of_products(builder, A, row, B, inside, packs, panel)
            for r, row_sums in enumerate(sums):
                i = builder.add(row, INDEX(r))
                with builder.if_then(builder.icmp_signed("<", i, C.shape[0])):
                    for v, total in enumerate(row_sums):
                        target = advance(builder, C.at(i), INDEX(v * LANES))
                        before = load_if(builder, added, target, inside[v])
                        store(builder, builder.fadd(before, builder.load(total)), target, inside[v])
            builder.branch(after)
        builder.position_at_end(after)
        return context.get_dummy_value()

    return types.void(A, types.intp, B, types.boolean, panel, types.intp, C, types.boolean), generate


def _sums_of_products(
    builder: ir.IRBuilder, A: Matrix, row: Any, B: Matrix, inside: list[Any], packs: Any, panel: Matrix
) -> list[list[Any]]:
    """The tile's vectors, in variables that LLVM keeps in registers. Missing rows repeat the last one."""
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
                builder.store(fma(builder, left, right[v], builder.load(total)), total)

    with builder.if_else(packs) as (packing, packed):
        with packing, cgutils.for_range(builder, terms) as k:
            source, target = B.at(k.index), panel.at_byte(builder.mul(k.index, INDEX(width * VECTOR_BYTES)))
            right = [load(builder, advance(builder, source, INDEX(v * LANES)), mask) for v, mask in enumerate(inside)]
            for v, values in enumerate(right):
                store(builder, values, advance(builder, target, INDEX(v * LANES)))
            add_products(k.index, right)
        with packed, cgutils.for_range(builder, terms) as k:
            source = panel.at_byte(builder.mul(k.index, INDEX(width * VECTOR_BYTES)))
            add_products(k.index, [load(builder, advance(builder, source, INDEX(v * LANES))) for v in range(width)])
    return sums
