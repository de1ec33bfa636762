"""Floating-point instructions against their definitions, by fractions."""

from __future__ import annotations

import itertools
import math
import struct
from fractions import Fraction

import numpy as np
import pytest

from .exact import FORMATS, nearest, same, square_root

INF, NAN = math.inf, math.nan


def numbers(kind, count, seed=0):
    """Special and random numbers of a format."""
    precision, lowest, highest = FORMATS[kind]
    smallest, largest = 2.0 ** (lowest - precision + 1), (2 - 2.0 ** (1 - precision)) * 2.0**highest
    special = [0.0, 1.0, 1 + 2.0 ** (1 - precision), 1.5, 3.0, smallest, 3 * smallest, 2.0**lowest, largest, INF, NAN]
    random = np.random.default_rng(seed)
    many = random.choice([-1, 1], count) * random.integers(2 ** (precision - 1), 2**precision, count)
    exponents = random.choice([random.integers(-12, 12, count), random.integers(lowest, highest, count)])
    return [
        *special,
        *(-x for x in special),
        *(math.ldexp(int(m), int(e) - precision + 1) for m, e in zip(many, exponents, strict=True)),
    ]


def rows(kind, arity, count=900):
    """Operands: pairs of special numbers, and random ones."""
    special = list(itertools.islice(itertools.product(numbers(kind, 0), repeat=min(arity, 2)), 500))
    special = [row + (1.0,) * (arity - len(row)) for row in special]
    columns = [numbers(kind, count, seed)[22:] for seed in range(arity)]
    return (special + list(zip(*columns, strict=True)))[:1000]


def compare(actual, expected, operands):
    for one, other, row in zip(actual, expected, operands, strict=True):
        assert same(one, other), (row, one, other)


def python(function, kind):
    """A function of floats by one of fractions; special operands go to IEEE's arithmetic of Python's floats."""

    def evaluate(*row):
        plain = function(*row)
        if not all(map(math.isfinite, row)):
            return plain
        exact = function(*map(Fraction, row))
        return nearest(exact, kind, zero=plain if plain == 0 else 0.0)

    return evaluate


@pytest.mark.parametrize("kind", ["f32", "f64"])
@pytest.mark.parametrize(
    ("instruction", "function"),
    [
        ("add", lambda a, b: a + b),
        ("add.rn", lambda a, b: a + b),
        ("sub", lambda a, b: a - b),
        ("mul", lambda a, b: a * b),
    ],
    ids=["add", "add.rn", "sub", "mul"],
)
def test_sums_and_products(evaluate, kind, instruction, function):
    operands = rows(kind, 2)
    actual = evaluate(f"{instruction}.{kind}", f"{kind} {kind} {kind}", operands)
    compare(actual, [python(function, kind)(*row) for row in operands], operands)


def quotient(a, b, kind):
    if math.isnan(a) or math.isnan(b) or (math.isinf(a) and math.isinf(b)) or a == b == 0:
        return NAN
    sign = math.copysign(1, a) * math.copysign(1, b)
    if math.isinf(a) or b == 0:
        return sign * INF
    if math.isinf(b) or a == 0:
        return sign * 0.0
    return nearest(Fraction(a) / Fraction(b), kind)


@pytest.mark.parametrize("kind", ["f32", "f64"])
def test_quotients(evaluate, kind):
    operands = rows(kind, 2)
    actual = evaluate(f"div.rn.{kind}", f"{kind} {kind} {kind}", operands)
    compare(actual, [math.copysign(0, a) * math.copysign(1, b) if a == 0 and b not in (0, NAN) and b == b
                     else quotient(a, b, kind) for a, b in operands], operands)  # fmt: skip
    single = [(b,) for _, b in operands]
    compare(evaluate(f"rcp.rn.{kind}", f"{kind} {kind}", single), [quotient(1.0, b, kind) for (b,) in single], single)


@pytest.mark.parametrize("kind", ["f32", "f64"])
def test_fma_rounds_once(evaluate, kind):
    precision, lowest, _ = FORMATS[kind]
    unit = 2.0 ** (1 - precision)
    near = [  # products that end in a tie which the sum breaks, or does not; sums that cancel; tiny and huge terms
        (1 + unit, 1 + unit, -1.0), (1 + unit, 1 - unit, -1.0), (1 + unit, 1 + unit / 2 * 0, 2.0 ** -(2 * precision)),
        (1.0, 1 + unit, 2.0**-precision * (1 + unit)), (1.0, 1 + unit, 2.0**-precision), (1.0, 1.0, 2.0**-precision),
        (1.0, 1.0, -(2.0 ** (-precision - 1))), (3.0, 1 / 3, -1.0), (2.0**lowest, 0.5, 2.0 ** (lowest - precision)),
        (2.0**lowest, 2.0 ** -(precision - 1), -(2.0 ** (lowest - precision + 1))), (0.0, -1.0, -0.0), (1.0, 0.0, -0.0),
        (-(2.0 ** (lowest // 2 - 20)), 2.0 ** (lowest // 2 - 20), 0.0), (2.0**100, 2.0 ** (lowest + 1), 1.0),
    ]  # fmt: skip
    near = [tuple(nearest(Fraction(x), kind, x) for x in row) for row in near]
    random = np.random.default_rng(1)
    close = [  # c near −a b: what remains is the product's error, rounded
        (a, b, nearest(-Fraction(a) * Fraction(b) * (1 + int(k) * Fraction(unit)), kind))
        for a, b, k in zip(
            numbers(kind, 150, 3)[22:], numbers(kind, 150, 4)[22:], random.integers(-2, 3, 150), strict=True
        )
    ]
    operands = near + [row for row in close if math.isfinite(row[2])] + rows(kind, 3)
    operands = operands[:1024]
    actual = evaluate(f"fma.rn.{kind}", f"{kind} {kind} {kind} {kind}", operands)
    compare(actual, [python(lambda a, b, c: a * b + c, kind)(*row) for row in operands], operands)


@pytest.mark.parametrize("kind", ["f32", "f64"])
def test_roots(evaluate, kind):
    operands = [(x,) for x in numbers(kind, 900)]
    expected = [x if x == 0 or x == INF else NAN if not x > 0 else square_root(x, kind) for (x,) in operands]
    compare(evaluate(f"sqrt.rn.{kind}", f"{kind} {kind}", operands), expected, operands)


@pytest.mark.parametrize("kind", ["f32", "f64"])
def test_signs(evaluate, kind):
    operands = [(x,) for x in numbers(kind, 50)]
    compare(evaluate(f"neg.{kind}", f"{kind} {kind}", operands), [-x for (x,) in operands], operands)
    compare(evaluate(f"abs.{kind}", f"{kind} {kind}", operands), [abs(x) for (x,) in operands], operands)
    pairs = rows(kind, 2)
    expected = [math.copysign(b, a) for a, b in pairs]  # PTX: the sign of the first, the size of the second
    compare(evaluate(f"copysign.{kind}", f"{kind} {kind} {kind}", pairs), expected, pairs)


def minimum(a, b):
    if math.isnan(a) or math.isnan(b):
        return a if math.isnan(b) else b
    return min((a, math.copysign(1, a)), (b, math.copysign(1, b)))[0]


@pytest.mark.parametrize("kind", ["f32", "f64"])
def test_minimum_and_maximum(evaluate, kind):
    operands = rows(kind, 2)
    kinds = f"{kind} {kind} {kind}"
    compare(evaluate(f"min.{kind}", kinds, operands), [minimum(*row) for row in operands], operands)
    expected = [-minimum(-a, -b) for a, b in operands]
    compare(evaluate(f"max.{kind}", kinds, operands), expected, operands)


def test_minimum_and_maximum_that_keep_nan(evaluate):
    operands = rows("f32", 2)
    for name, function in (("min", minimum), ("max", lambda a, b: -minimum(-a, -b))):
        expected = [NAN if math.isnan(a) or math.isnan(b) else function(a, b) for a, b in operands]
        compare(evaluate(f"{name}.NaN.f32", "f32 f32 f32", operands), expected, operands)


def flushed(x):
    return math.copysign(0.0, x) if abs(x) < 2.0**-126 else x


def test_flushing_of_denormal_numbers(evaluate):
    operands = [row for row in rows("f32", 2) if all(map(math.isfinite, row))]
    operands += [(2.0**-126, -(2.0**-127)), (2.0**-130, 1.0), (-(2.0**-130), -(2.0**-130)), (2.0**-100, 2.0**-40)]
    for name, function in (("add", lambda a, b: a + b), ("mul", lambda a, b: a * b)):
        expected = [flushed(python(function, "f32")(*map(flushed, row))) for row in operands]
        compare(evaluate(f"{name}.ftz.f32", "f32 f32 f32", operands), expected, operands)


def test_power_of_two(evaluate):
    operands = [(x,) for x in numbers("f32", 300)] + [(float(np.float32(k / 7)),) for k in range(-900, 900, 7)]
    actual = evaluate("ex2.approx.ftz.f32", "f32 f32", operands)
    for (x,), y in zip(operands, actual, strict=True):
        if math.isnan(x):
            assert math.isnan(y)
        elif x < -126:
            assert y == 0
        elif x >= 128:
            assert y == INF
        else:
            assert abs(y / 2.0**x - 1) <= 2.0**-22  # the bound of NVIDIA's documentation
    whole = [(float(k),) for k in range(-126, 128)]
    compare(evaluate("ex2.approx.ftz.f32", "f32 f32", whole), [2.0**x for (x,) in whole], whole)


def test_approximate_reciprocals(evaluate):
    operands = [(x,) for x in numbers("f32", 300) if x == x]
    for (x,), y in zip(operands, evaluate("rcp.approx.ftz.f32", "f32 f32", operands), strict=True):
        expected = math.copysign(INF, x) if flushed(x) == 0 else flushed(1 / x)
        assert y == expected or abs(y / expected - 1) <= 2.0**-23
    operands = [(x,) for x in numbers("f64", 300) if x == x]
    for (x,), y in zip(operands, evaluate("rcp.approx.ftz.f64", "f64 f64", operands), strict=True):
        assert struct.unpack("<Q", struct.pack("<d", y))[0] & 0xFFFFFFFF == 0
        if abs(x) < 2.0**-1022:
            assert y == math.copysign(INF, x)
        elif math.isfinite(x) and abs(x) < 2.0**1000:
            assert abs(y * x - 1) <= 2.0**-19


COMPARISONS = {
    "eq": lambda a, b: a == b, "ne": lambda a, b: a != b, "lt": lambda a, b: a < b, "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b, "ge": lambda a, b: a >= b,
}  # fmt: skip


@pytest.mark.parametrize("kind", ["f32", "f64"])
@pytest.mark.parametrize("name", COMPARISONS)
def test_comparisons(evaluate, kind, name):
    operands = rows(kind, 2)
    unordered = [math.isnan(a) or math.isnan(b) for a, b in operands]
    plain = [COMPARISONS[name](*row) for row in operands]
    kinds = f"{kind} {kind} pred"
    actual = evaluate(f"setp.{name}.{kind}", kinds, operands)
    assert actual == [p and not u for p, u in zip(plain, unordered, strict=True)]
    actual = evaluate(f"setp.{name}u.{kind}", kinds, operands)
    assert actual == [p or u for p, u in zip(plain, unordered, strict=True)]
    assert evaluate(f"setp.num.{kind}", kinds, operands) == [not u for u in unordered]
    assert evaluate(f"setp.nan.{kind}", kinds, operands) == unordered
