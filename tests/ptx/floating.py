"""Floating-point functions of PTX that NumPy lacks, rounded as the hardware rounds."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

_TINY = np.finfo(np.float32).tiny


def flush(x: Any) -> Any:
    """Denormal numbers of float32 as zeros of their sign (the modifier ftz)."""
    return np.where(np.abs(x) < _TINY, np.copysign(np.float32(0), x), x)


def bfloat16(x: Any) -> Any:
    """The bits of the nearest bfloat16, ties to even; NaN: 0x7FFF."""
    bits = np.asarray(x).view(np.uint32)
    to_even = (bits >> np.uint32(16)) & np.uint32(1)
    return np.where(np.isnan(x), 0x7FFF, (bits + np.uint32(0x7FFF) + to_even) >> np.uint32(16)).astype(np.uint16)


def float16(x: Any) -> Any:
    """The nearest float16, ties to even; NaN: 0x7FFF."""
    return np.where(np.isnan(x), np.uint16(0x7FFF).view(np.float16), np.asarray(x).astype(np.float16))


def larger_of_pairs(kind: str) -> Callable[[Any, Any], Any]:
    """The maxima of the two halves of words, f16x2 or bf16x2; NaN (0x7FFF) if one is NaN."""

    def widened(half: Any) -> Any:
        if kind == "f16x2":
            return half.astype(np.uint16).view(np.float16).astype(np.float32)
        return (half << np.uint32(16)).view(np.float32)

    def larger_pair(a: Any, b: Any) -> Any:
        words = []
        for shift in (np.uint32(0), np.uint32(16)):
            x, y = (np.atleast_1d(np.asarray(word) >> shift & np.uint32(0xFFFF)) for word in (a, b))
            wide_x, wide_y = widened(x), widened(y)
            half = np.where(larger(wide_x, wide_y) == wide_x, x, y)
            words.append(np.where(np.isnan(wide_x) | np.isnan(wide_y), np.uint32(0x7FFF), half) << shift)
        pair = words[0] | words[1]
        return pair if np.ndim(a) or np.ndim(b) else pair[0]

    return larger_pair


def fma32(a: Any, b: Any, c: Any) -> Any:
    """a b + c in float32, rounded once."""
    product = np.multiply(a, b, dtype=np.float64)  # exact
    return _odd_sum(product, np.asarray(c, np.float64)).astype(np.float32)


def fma64(a: Any, b: Any, c: Any) -> Any:
    """a b + c in float64, rounded once.

    After Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", IEEE Transactions on Computers 57, 2008,
    where nothing can overflow or become denormal; else by fractions.
    """
    a, b, c = np.broadcast_arrays(a, b, c)
    high = a * b
    zero = (a == 0) | (b == 0)
    low = np.where(zero, 0, _product_error(a, b, high))
    inner, inner_error = _two_sum(c, low)
    outer, outer_error = _two_sum(high, inner)
    result = outer + _odd_sum(outer_error, inner_error)
    result = np.where(result == 0, high + c, result)
    size = np.abs(high)
    safe = (np.maximum(np.abs(a), np.abs(b)) < 2.0**900) & (size < 2.0**900) & (size > 2.0**-900) | zero
    safe &= np.abs(c) < 2.0**900
    if not safe.all():
        finite = np.isfinite(a) & np.isfinite(b) & np.isfinite(c)
        result = np.where(finite, result, high + c)
        rest = finite & ~safe
        result[rest] = [_exact_fma(*numbers) for numbers in zip(*(x[rest].tolist() for x in (a, b, c)), strict=True)]
    return result


def _exact_fma(a: float, b: float, c: float) -> float:
    if a == 0 or b == 0:
        return a * b + c
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    try:
        return float(exact)
    except OverflowError:
        return math.inf if exact > 0 else -math.inf


def _product_error(a: Any, b: Any, product: Any) -> Any:
    """a b − product, exact unless something overflows or becomes denormal: Dekker's product with Veltkamp's splits."""

    def split(x: Any) -> tuple[Any, Any]:
        scaled = x * 134217729.0
        upper = scaled - (scaled - x)
        return upper, x - upper

    (a1, a2), (b1, b2) = split(a), split(b)
    return a2 * b2 - (((product - a1 * b1) - a2 * b1) - a1 * b2)


def _two_sum(a: Any, b: Any) -> tuple[Any, Any]:
    """The rounded sum and its error: Knuth's."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def _odd_sum(a: Any, b: Any) -> Any:
    """a + b in float64, rounded to odd: rounding it again gives what rounding the exact sum gives."""
    total, error = _two_sum(a, b)
    bits = np.asarray(total).view(np.int64)
    inexact = (error != 0) & np.isfinite(total) & (bits & 1 == 0)
    if not np.any(inexact):
        return total
    away = np.where((error > 0) == (total > 0), 1, -1)
    return np.where(inexact, bits + away, bits).view(np.float64)


def reciprocal64(x: Any) -> Any:
    """rcp.approx.ftz.f64: reads and gives the upper 32 bits of a float64."""

    def upper(x: Any) -> Any:
        return (np.asarray(x).view(np.uint64) & np.uint64(0xFFFFFFFF00000000)).view(np.float64)

    x = upper(x)
    result = upper(1 / np.where(np.abs(x) < np.finfo(np.float64).tiny, np.copysign(0.0, x), x))
    return np.where(np.abs(result) < np.finfo(np.float64).tiny, np.copysign(0.0, result), result)


def exponential2(x: Any) -> Any:
    """ex2.approx.f32, rounded correctly; a GPU errs by up to 2 units in the last place."""
    return np.exp2(np.asarray(x, np.float64)).astype(np.float32)


def smaller(a: Any, b: Any) -> Any:
    """The minimum; of a number and NaN the number; −0 is below +0."""
    return np.where(np.isnan(a) | (b < a) | ((a == b) & np.signbit(b)), b, a)


def larger(a: Any, b: Any) -> Any:
    """The maximum; of a number and NaN the number; +0 is above −0."""
    return np.where(np.isnan(a) | (b > a) | ((a == b) & np.signbit(a)), b, a)
