"""Whole numbers, bits, conversions and moves against their definitions, by Python's integers."""

from __future__ import annotations

import math
import operator
import struct
from fractions import Fraction

import numpy as np
import pytest

from tests.ptx import PtxError

from .exact import nearest, same
from .test_floating import compare, numbers

INTEGERS = ["s16", "u16", "s32", "u32", "s64", "u64"]


def wrapped(n, kind):
    """The number that a register of that type holds of n."""
    bits = int(kind[1:])
    n &= 2**bits - 1
    return n - 2**bits if kind[0] == "s" and n >= 2 ** (bits - 1) else n


def pairs(kind, count=400):
    bits = int(kind[1:])
    special = [0, 1, 2, 3, 7, 31, 32, 63, 64, 2 ** (bits - 1) - 1, 2 ** (bits - 1), 2**bits - 1, 2**bits - 2]
    random = np.random.default_rng(0)
    many = [
        int.from_bytes(random.bytes(bits // 8), "little") >> int(random.integers(0, bits)) for _ in range(2 * count)
    ]
    rows = [(a, b) for a in special for b in special] + list(zip(many[::2], many[1::2], strict=True))
    return [(wrapped(a, kind), wrapped(b, kind)) for a, b in rows]


ARITHMETIC = {
    "add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul.lo": lambda a, b: a * b, "min": min, "max": max,
}  # fmt: skip


@pytest.mark.parametrize("kind", INTEGERS)
@pytest.mark.parametrize("name", ARITHMETIC)
def test_arithmetic(evaluate, kind, name):
    operands = pairs(kind)
    expected = [wrapped(ARITHMETIC[name](*row), kind) for row in operands]
    assert evaluate(f"{name}.{kind}", f"{kind} {kind} {kind}", operands) == expected


@pytest.mark.parametrize("kind", INTEGERS)
def test_quotients_are_rounded_towards_zero(evaluate, kind):
    operands = [(a, b) for a, b in pairs(kind) if b]
    quotients = [int(math.copysign(1, a) * math.copysign(1, b)) * (abs(a) // abs(b)) for a, b in operands]
    actual = evaluate(f"div.{kind}", f"{kind} {kind} {kind}", operands)
    assert actual == [wrapped(q, kind) for q in quotients]
    remainders = [wrapped(a - b * q, kind) for (a, b), q in zip(operands, quotients, strict=True)]
    assert evaluate(f"rem.{kind}", f"{kind} {kind} {kind}", operands) == remainders


def test_a_division_by_zero_is_refused(evaluate):
    with pytest.raises(PtxError, match="a whole number is divided by zero"):
        evaluate("div.s32", "s32 s32 s32", [(1, 1), (1, 0)])


@pytest.mark.parametrize("kind", ["s16", "u16", "s32", "u32"])
def test_wide_products(evaluate, kind):
    operands = pairs(kind)
    wide = f"{kind[0]}{2 * int(kind[1:])}"
    assert evaluate(f"mul.wide.{kind}", f"{kind} {kind} {wide}", operands) == [a * b for a, b in operands]
    upper = [wrapped(a * b >> int(kind[1:]), kind) for a, b in operands]
    assert evaluate(f"mul.hi.{kind}", f"{kind} {kind} {kind}", operands) == upper
    sums = [(a, b, 5 - 2 * a) for a, b in operands]
    expected = [wrapped(a * b + c, kind) for a, b, c in sums]
    assert evaluate(f"mad.lo.{kind}", f"{kind} {kind} {kind} {kind}", sums) == expected


@pytest.mark.parametrize("kind", ["s16", "s32", "s64"])
def test_signs(evaluate, kind):
    operands = [(a,) for a, _ in pairs(kind)]
    assert evaluate(f"neg.{kind}", f"{kind} {kind}", operands) == [wrapped(-a, kind) for (a,) in operands]
    assert evaluate(f"abs.{kind}", f"{kind} {kind}", operands) == [wrapped(abs(a), kind) for (a,) in operands]


LOGIC = {"and": lambda a, b: a & b, "or": lambda a, b: a | b, "xor": lambda a, b: a ^ b}


@pytest.mark.parametrize("kind", ["b16", "b32", "b64"])
def test_bits(evaluate, kind):
    operands = pairs(kind)
    for name, function in LOGIC.items():
        assert evaluate(f"{name}.{kind}", f"{kind} {kind} {kind}", operands) == [function(*row) for row in operands]
    inverted = [wrapped(~a, kind) for a, _ in operands]
    assert evaluate(f"not.{kind}", f"{kind} {kind}", [(a,) for a, _ in operands]) == inverted


def test_truth_values(evaluate):
    operands = [(a, b) for a in (0, 1) for b in (0, 1)]
    for name, function in LOGIC.items():
        assert evaluate(f"{name}.pred", "pred pred pred", operands) == [function(*row) for row in operands]
    assert evaluate("not.pred", "pred pred", [(0,), (1,)]) == [1, 0]


@pytest.mark.parametrize("kind", ["b16", "b32", "b64", "u16", "u32", "u64", "s16", "s32", "s64"])
def test_shifts(evaluate, kind):
    """Amounts of the width and beyond shift everything out, but for copies of the sign."""
    bits = int(kind[1:])
    operands = [(a, amount) for a, _ in pairs(kind, 20)[::4] for amount in (0, 1, 7, bits - 1, bits, bits + 1, 2**31)]
    right = [a >> min(amount, bits) for a, amount in operands]
    assert evaluate(f"shr.{kind}", f"{kind} u32 {kind}", operands) == right
    if kind[0] == "b":
        left = [wrapped(a << min(amount, bits), kind) for a, amount in operands]
        assert evaluate(f"shl.{kind}", f"{kind} u32 {kind}", operands) == left


@pytest.mark.parametrize("kind", ["b32", "b64"])
@pytest.mark.parametrize(("position", "length"), [(32, 32), (0, 8), (5, 20), (40, 40), (31, 1), (0, 0), (70, 3)])
def test_inserted_bits(launch, kind, position, length):
    bits = int(kind[1:])
    operands = pairs(kind, 40)[:150]
    a, b = (np.array(column, f"u{bits // 8}") for column in zip(*operands, strict=True))
    out = np.zeros_like(a)
    register = "%r" if bits == 32 else "%d"
    launch(
        f"""mul.wide.u32 %d9, %t, {bits // 8};
        add.s64 %d0, %p0, %d9; ld.global.{kind} {register}1, [%d0];
        add.s64 %d0, %p1, %d9; ld.global.{kind} {register}2, [%d0];
        bfi.{kind} {register}3, {register}1, {register}2, {position}, {length};
        add.s64 %d0, %p2, %d9; st.global.{kind} [%d0], {register}3;""",
        a, b, out, block=len(a),
    )  # fmt: skip
    mask = ((1 << length) - 1) << position & (2**bits - 1)
    assert out.tolist() == [(y & ~mask) | (x << position & mask) for x, y in operands]


def test_permuted_bytes(evaluate):
    random = np.random.default_rng(0)
    operands = [tuple(int(x) for x in random.integers(0, 2**32, 3)) for _ in range(300)]
    expected = []
    for a, b, selector in operands:
        source = (a | b << 32).to_bytes(8, "little")
        nibbles = [selector >> 4 * place & 15 for place in range(4)]
        chosen = [source[n % 8] if n < 8 else (255 if source[n % 8] >= 128 else 0) for n in nibbles]
        expected.append(int.from_bytes(bytes(chosen), "little"))
    assert evaluate("prmt.b32", "b32 b32 u32 b32", operands) == expected


@pytest.mark.parametrize("kind", ["f16x2", "bf16x2"])
def test_maxima_of_pairs(evaluate, kind):
    """Of each half; NaN (0x7FFF) if one is NaN."""
    values = [0.0, 1.0, -1.0, 1.5, -256.0, 0.25, math.inf, -math.inf, math.nan]

    def bits(x):
        if kind == "f16x2":
            return struct.unpack("<H", struct.pack("<e", x))[0]
        return struct.unpack("<I", struct.pack("<f", x))[0] >> 16

    def larger(x, y):
        return 0x7FFF if math.isnan(x) or math.isnan(y) else bits(max(x, y))

    halves = [(x, y, u, v) for x in values for y in values for u, v in ((y, x), (1.0, -2.0), (math.nan, 3.0))]
    operands = [(bits(x) | bits(u) << 16, bits(y) | bits(v) << 16) for x, y, u, v in halves]
    expected = [larger(x, y) | larger(u, v) << 16 for x, y, u, v in halves]
    assert evaluate(f"max.NaN.{kind}", "b32 b32 b32", operands) == expected


@pytest.mark.parametrize("kind", INTEGERS)
def test_comparisons(evaluate, kind):
    operands = pairs(kind)
    for name in ("eq", "ne", "lt", "le", "gt", "ge"):
        expected = [getattr(operator, name)(*row) for row in operands]
        assert evaluate(f"setp.{name}.{kind}", f"{kind} {kind} pred", operands) == expected


@pytest.mark.parametrize("kind", ["b32", "b64", "s64", "u32", "f32", "f64"])
def test_selection(evaluate, kind):
    operands = [(3, 5, 0), (3, 5, 1), (7, 9, 1)]
    assert evaluate(f"selp.{kind}", f"{kind} {kind} pred {kind}", operands) == [5, 3, 7]


@pytest.mark.parametrize("source", INTEGERS)
@pytest.mark.parametrize("to", ["s8", "u8", *INTEGERS])
def test_conversions_of_whole_numbers(evaluate, source, to):
    operands = [(a,) for a, _ in pairs(source)]
    register = max(int(to[1:]), 16)
    expected = [wrapped(wrapped(a, to), f"{to[0]}{register}") for (a,) in operands]
    assert evaluate(f"cvt.{to}.{source}", f"{source} {to[0]}{register}", operands) == expected


@pytest.mark.parametrize("source", INTEGERS)
@pytest.mark.parametrize("to", ["f32", "f64"])
def test_whole_numbers_to_real_ones(evaluate, source, to):
    operands = [(a,) for a, _ in pairs(source)]
    expected = [nearest(Fraction(a), to) for (a,) in operands]
    assert evaluate(f"cvt.rn.{to}.{source}", f"{source} {to}", operands) == expected


@pytest.mark.parametrize("source", ["f32", "f64"])
@pytest.mark.parametrize("to", ["s32", "u32", "s64", "u64"])
@pytest.mark.parametrize(("name", "rounding"), [("rzi", math.trunc), ("rni", round)])
def test_real_numbers_to_whole_ones(evaluate, source, to, name, rounding):
    operands = [(x,) for x in [*numbers(source, 300), 0.5, 1.5, -2.5, 2.0**31, -(2.0**31), 2.0**32, 2.0**63, 2.0**64]]
    lowest, highest = (
        (0, 2 ** int(to[1:]) - 1) if to[0] == "u" else (-(2 ** (int(to[1:]) - 1)), 2 ** (int(to[1:]) - 1) - 1)
    )

    def expected(x):
        if math.isnan(x):  # PTX's document: the highest bit, unless no type has 64 bits
            return 0 if (to[1:], source) == ("32", "f32") else lowest or 2 ** (int(to[1:]) - 1)
        return lowest if x == -math.inf else highest if x == math.inf else min(max(rounding(x), lowest), highest)

    actual = evaluate(f"cvt.{name}.{to}.{source}", f"{source} {to}", operands)
    assert actual == [expected(x) for (x,) in operands]


@pytest.mark.parametrize("kind", ["f32", "f64"])
def test_rounding_to_whole_numbers(evaluate, kind):
    operands = [(x,) for x in [*numbers(kind, 300), 0.5, 1.5, 2.5, -0.5, -1.5, 1e9]]
    expected = [math.copysign(round(x), x) if math.isfinite(x) else x for (x,) in operands]
    compare(evaluate(f"cvt.rni.{kind}.{kind}", f"{kind} {kind}", operands), expected, operands)


def ties(to):
    """Float32 numbers of which every other lies halfway between two of the narrower format."""
    precision = {"f16": 11, "bf16": 8}[to]
    return [
        (m * 2.0 ** (e - precision)) for m in range(2 ** (precision), 2 ** (precision) + 300) for e in (-20, -14, 0, 15)
    ]


@pytest.mark.parametrize(("source", "to"), [("f64", "f32"), ("f32", "f16"), ("f32", "bf16"), ("f64", "f16")])
def test_narrowing_rounds_to_nearest_even(evaluate, source, to):
    operands = [(x,) for x in numbers(source, 600) + (ties(to) if to in ("f16", "bf16") else [])]
    operands = [(x,) for x in [row[0] for row in operands] for x in (x, -x)][:1000]
    expected = [nearest(Fraction(x), to, x) if math.isfinite(x) else x for (x,) in operands]
    actual = evaluate(f"cvt.rn.{to}.{source}", f"{source} {to}", operands)
    if to == "bf16":
        assert {bits for bits, (x,) in zip(actual, operands, strict=True) if x != x} == {0x7FFF}
        actual = [struct.unpack("<f", struct.pack("<I", bits << 16))[0] for bits in actual]
    for one, other, row in zip(actual, expected, operands, strict=True):
        assert same(one, other), (row, one, other)


def test_widening_is_exact(evaluate):
    halves = [(x,) for x in numbers("f16", 500)]
    compare(evaluate("cvt.f32.f16", "f16 f32", halves), [x for (x,) in halves], halves)
    singles = [(x,) for x in numbers("f32", 500)]
    compare(evaluate("cvt.f64.f32", "f32 f64", singles), [x for (x,) in singles], singles)


def test_moves_pack_and_unpack_bits(launch):
    out = np.zeros(4, np.uint64)
    launch(
        """mov.f64 %g0, 0d400921FB54442D18; mov.f32 %f0, 0f40490FDB; mov.u64 %d0, -2;
        mov.b64 {%r0, %r1}, %g0; mov.b64 %d1, {%r1, %r0}; st.global.u64 [%p0], %d1;
        mov.b32 %r2, %f0; cvt.u64.u32 %d2, %r2; st.global.u64 [%p0+8], %d2;
        st.global.u64 [%p0+16], %d0;
        mov.b32 {%h0, %h1}, %f0; mov.b32 %r3, {%h1, %h0}; cvt.u64.u32 %d3, %r3; st.global.u64 [%p0+24], %d3;""",
        out, block=1,
    )  # fmt: skip
    assert out.tolist() == [0x54442D18400921FB, 0x40490FDB, 2**64 - 2, 0x0FDB4049]


@pytest.mark.parametrize(
    "text", ["madc.hi.s32 %r1, %r1, %r1, %r1", "add.sat.s32 %r1, %r1, %r1", "add.rz.f32 %f1, %f1, %f1"]
)
def test_unknown_instructions_are_refused(launch, text):
    with pytest.raises(PtxError, match="unknown instruction"):
        launch(f"mov.u32 %r1, 0; mov.f32 %f1, 0f00000000; {text};")


def test_the_halves_of_what_all_threads_share(launch):
    out = np.zeros(2, np.uint32)
    launch(
        """mov.b64 {%r0, %r1}, %p0; setp.eq.u32 %b0, %r0, 0; @%b0 bra END;
        st.global.u32 [%p0], %r0; st.global.u32 [%p0+4], %r1; END:""",
        out,
    )
    assert out.view(np.uint64)[0] == out.ctypes.data
