"""Epilogues of a layer's matrix products, on rows: bias, ReLU and the sums of gradients, with a masked last vector.

LLVM's own vectorised loops suit long rows: they take up to 64 elements at a time and the remainder one by one, which
for a layer with few outputs is all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

from xpnet_kernels.cpu.numba_extensions.simd import BYTE, INDEX, LANES, VECTOR, advance, lanes_before, load, store

_WIDE = ir.VectorType(ir.DoubleType(), LANES)


@intrinsic
def add_bias(typing_context: Any, y: Any, b: Any, rectifies: Any) -> tuple[Any, Callable[..., Any]]:
    """``y += b``, or ``y = relu(y + b)`` if ``rectifies``; contiguous float32 vectors."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        y, b = (make_array(signature.args[i])(context, builder, arguments[i]) for i in (0, 1))
        rectifies, zero = arguments[2], ir.Constant(VECTOR, None)

        def add(i: Any, mask: Any) -> None:
            target = _at(builder, y, i)
            total = builder.fadd(load(builder, target, mask), load(builder, _at(builder, b, i), mask))
            is_kept = builder.fcmp_unordered(">", total, zero)  # true for NaN
            positive = builder.select(is_kept, total, zero)
            store(builder, builder.select(rectifies, positive, total), target, mask)

        _over_vectors(builder, y.nitems, add)
        return context.get_dummy_value()

    return types.void(y, b, types.boolean), generate


@intrinsic
def accumulate_columns(typing_context: Any, sums: Any, row: Any) -> tuple[Any, Callable[..., Any]]:
    """``sums += row``, float64 and float32, contiguous; the memory of the sums is a multiple of a vector long."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        sums, row = (make_array(signature.args[i])(context, builder, arguments[i]) for i in (0, 1))

        def add(i: Any, mask: Any) -> None:
            _add_wide(builder, sums, i, load(builder, _at(builder, row, i), mask))

        _over_vectors(builder, row.nitems, add)
        return context.get_dummy_value()

    return types.void(sums, row), generate


@intrinsic
def relu_backward(typing_context: Any, dz: Any, dy: Any, y: Any, sums: Any) -> tuple[Any, Callable[..., Any]]:
    """``dz = dy`` where y > 0, else 0; ``sums += dz`` as in :func:`accumulate_columns`."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        dz, dy, y, sums = (make_array(signature.args[i])(context, builder, arguments[i]) for i in range(4))
        zero = ir.Constant(VECTOR, None)

        def pass_back(i: Any, mask: Any) -> None:
            above = builder.fcmp_ordered(">", load(builder, _at(builder, y, i), mask), zero)
            gradient = builder.select(above, load(builder, _at(builder, dy, i), mask), zero)
            store(builder, gradient, _at(builder, dz, i), mask)
            _add_wide(builder, sums, i, gradient)

        _over_vectors(builder, dz.nitems, pass_back)
        return context.get_dummy_value()

    return types.void(dz, dy, y, sums), generate


def _over_vectors(builder: ir.IRBuilder, size: Any, body: Callable[[Any, Any], None]) -> None:
    """``body(i, mask)`` for each vector, where i is its first element; whole vectors have no mask."""
    whole = builder.and_(size, INDEX(-LANES))
    with cgutils.for_range_slice(builder, INDEX(0), whole, INDEX(LANES), inc=True) as (i, _):
        body(i, None)
    with builder.if_then(builder.icmp_signed("<", whole, size)):
        body(whole, lanes_before(builder, whole, size))


def _at(builder: ir.IRBuilder, row: Any, i: Any) -> Any:
    return advance(builder, builder.bitcast(row.data, BYTE.as_pointer()), i)


def _add_wide(builder: ir.IRBuilder, sums: Any, i: Any, row: Any) -> None:
    place = builder.bitcast(builder.gep(sums.data, [i]), _WIDE.as_pointer())
    total = builder.fadd(builder.load(place, align=8), builder.fpext(row, _WIDE))
    builder.store(total, place, align=8)
