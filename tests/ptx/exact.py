"""Rounding by fractions: what the interpreter's arithmetic is compared with."""

from __future__ import annotations

import math
from fractions import Fraction

FORMATS = {"f16": (11, -14, 15), "bf16": (8, -126, 127), "f32": (24, -126, 127), "f64": (53, -1022, 1023)}


def nearest(exact: Fraction, kind: str, zero: float = 0.0) -> float:
    """The number of a format that is nearest to a fraction, ties to even; ``zero`` where the fraction is 0."""
    precision, lowest, highest = FORMATS[kind]
    if exact == 0:
        return zero
    sign, size = (-1, -exact) if exact < 0 else (1, exact)
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    if Fraction(2) ** exponent > size:
        exponent -= 1
    step = Fraction(2) ** (max(exponent, lowest) - precision + 1)
    rounded = round(size / step) * step  # round() takes ties to even
    if rounded >= Fraction(2) ** (highest + 1):
        return sign * math.inf
    return math.copysign(math.ldexp(rounded.numerator, -(rounded.denominator.bit_length() - 1)), sign)


def square_root(x: float, kind: str) -> float:
    """The root's nearest number, by whole numbers."""
    scaled = Fraction(x) * Fraction(4) ** 1200
    root = math.isqrt(scaled.numerator // scaled.denominator)
    inexact = Fraction(root) ** 2 != scaled
    return nearest((Fraction(root) + Fraction(inexact, 2)) / Fraction(2) ** 1200, kind)


def same(actual: float, expected: float) -> bool:
    """The same number: all NaN are one, the zeros are two."""
    if math.isnan(expected):
        return math.isnan(actual)
    return actual == expected and math.copysign(1, actual) == math.copysign(1, expected)
