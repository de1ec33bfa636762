"""The exponential of non-positive numbers, and a logarithm, in arithmetic that LLVM vectorises.

exp x = 2**n · exp r with n = round(x / ln 2) and r = x - n ln 2, |r| <= ln 2 / 2, as in Cody and Waite, "Software
manual for the elementary functions" (1980): ln 2 is split into a high part, short enough for n · high to be exact, and
a low part. exp r = 1 + r + r² p(r), where p is a polynomial fitted to the relative error at Chebyshev's points.

The error of ``exponential`` is below one unit in the last place: at most 0.883 over every float32 from -87.33 to -1e-9.
exp 0 is 1, exp -inf is 0, and NaN stays NaN. Denormal results, on which arithmetic is many times slower, become 0,
except in the first half binade below the normal numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import overload

from xpnet_kernels.cpu.numba_extensions.compilation import INNER

# Adding 1.5 · 2**(fraction bits) leaves no bits for a fraction: the sum is rounded, and its low bits are the integer n.
# Adding the exponent's bias too makes them the bits of 2**n, once they are shifted to the exponent's place.
_MAGIC_32, _MAGIC_64 = np.float32(1.5 * 2**23 + 127), np.float64(1.5 * 2**52 + 1023)
_PER_LN2_32, _PER_LN2_64 = np.float32(1.4426950408889634), np.float64(1.4426950408889634)
_LN2_HIGH_32, _LN2_LOW_32 = np.float32(0.693115234375), np.float32(3.1946184945309415e-05)
_LN2_HIGH_64, _LN2_LOW_64 = np.float64(0.6931471805582987), np.float64(1.6465949582897082e-12)
_LOWEST_32, _LOWEST_64 = np.float32(-88.0), np.float64(-709.0)  # there n = -bias, and 2**n has no bit set
_FRACTION_32, _FRACTION_64 = np.int32(23), np.int64(52)
_ONE_32, _ONE_64 = np.float32(1.0), np.float64(1.0)
_LN2 = np.float64(0.6931471805599453)
_ROOT_HALF_BITS = np.float64(0.5**0.5).view(np.int64)

_P0, _P1, _P2, _P3, _P4 = (
    np.float32(c)
    for c in (
        0.49999993447796487, 0.16666520631709497, 0.041668388045313997, 0.00836871687982814, 0.0013814598646664035,
    )
)  # fmt: skip
_Q0, _Q1, _Q2, _Q3, _Q4, _Q5, _Q6, _Q7, _Q8, _Q9 = (
    np.float64(c)
    for c in (
        0.500000000000001274, 0.1666666666666648225, 0.0416666666665162029, 0.008333333333451527957,
        0.001388888894671330529, 0.0001984126959697103775, 2.480149030763859717e-5, 2.75575073619755422e-6,
        2.763114015020175682e-7, 2.502463926631103528e-8,
    )
)  # fmt: skip


@njit(**INNER)
def _parts32(x: Any) -> Any:
    """(r, (exp(r) - 1) / r, 2**n)."""
    x = _LOWEST_32 if x < _LOWEST_32 else x  # in this order NaN passes
    shifted = np.float32(x * _PER_LN2_32 + _MAGIC_32)
    n = shifted - _MAGIC_32
    r = np.float32(np.float32(x - n * _LN2_HIGH_32) - n * _LN2_LOW_32)
    q = ((((_P4 * r + _P3) * r + _P2) * r + _P1) * r + _P0) * r + _ONE_32
    return r, q, np.int32(shifted.view(np.int32) << _FRACTION_32).view(np.float32)


@njit(**INNER)
def _parts64(x: Any) -> Any:
    x = _LOWEST_64 if x < _LOWEST_64 else x
    shifted = np.float64(x * _PER_LN2_64 + _MAGIC_64)
    n = shifted - _MAGIC_64
    r = (x - n * _LN2_HIGH_64) - n * _LN2_LOW_64
    q = (((((_Q9 * r + _Q8) * r + _Q7) * r + _Q6) * r + _Q5) * r + _Q4) * r + _Q3
    q = (((q * r + _Q2) * r + _Q1) * r + _Q0) * r + _ONE_64
    return r, q, np.int64(shifted.view(np.int64) << _FRACTION_64).view(np.float64)


# Multiplying by the power keeps NaN; adding to the exponent's bits would lose it.
@njit(**INNER)
def _exponential32(x: Any) -> Any:
    r, q, power = _parts32(x)
    return (q * r + _ONE_32) * power


@njit(**INNER)
def _exponential64(x: Any) -> Any:
    r, q, power = _parts64(x)
    return (q * r + _ONE_64) * power


@njit(**INNER)
def _exponential_minus_one32(x: Any) -> Any:
    r, q, power = _parts32(x)
    return q * r * power + (power - _ONE_32)


@njit(**INNER)
def _exponential_minus_one64(x: Any) -> Any:
    r, q, power = _parts64(x)
    return q * r * power + (power - _ONE_64)


def exponential(x: Any) -> Any:
    """Exp x for x <= 0, float32 or float64, in compiled code only."""
    raise NotImplementedError("exponential is for functions compiled by Numba")


def exponential_minus_one(x: Any) -> Any:
    """Exp x - 1 for x <= 0, accurate near 0 too, in compiled code only."""
    raise NotImplementedError("exponential_minus_one is for functions compiled by Numba")


# Numba must not inline these: its dead-code elimination would take writes through ``row`` for writes to a local array,
# and drop them. LLVM inlines them anyway.
@overload(exponential, jit_options=INNER)
def _select_exponential(x: Any) -> Callable[[Any], Any]:
    return _by_type(x, _exponential32, _exponential64)


@overload(exponential_minus_one, jit_options=INNER)
def _select_exponential_minus_one(x: Any) -> Callable[[Any], Any]:
    return _by_type(x, _exponential_minus_one32, _exponential_minus_one64)


def _by_type(item: types.Type, single: Callable[[Any], Any], double: Callable[[Any], Any]) -> Callable[[Any], Any]:
    compiled = single if item == types.float32 else double

    def call(x: Any) -> Any:
        return compiled(x)

    return call


@njit(**INNER)
def logarithm(x: Any) -> Any:
    """Log x of a normal float64, to 5e-16 · max(1, |log x|); NaN and inf give NaN. Unlike math.log, it vectorises."""
    bits = np.float64(x).view(np.int64)
    exponent = (bits - _ROOT_HALF_BITS) >> _FRACTION_64
    f = np.int64(bits - (exponent << _FRACTION_64)).view(np.float64)  # sqrt(1/2) <= f < sqrt(2)
    s = (f - 1.0) / (f + 1.0)
    z = s * s  # log f = 2 artanh s
    series = (
        (((((((1 / 19 * z + 1 / 17) * z + 1 / 15) * z + 1 / 13) * z + 1 / 11) * z + 1 / 9) * z + 1 / 7) * z + 1 / 5) * z
        + 1 / 3
    ) * z + 1.0
    return exponent * _LN2 + 2.0 * s * series + (x - x)
