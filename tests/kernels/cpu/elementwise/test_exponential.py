"""The exponentials and the logarithm against NumPy's in float64 and, for float64, against decimal arithmetic."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import pytest
from numba import njit
from xpnet_kernels.cpu.elementwise.exponential import exponential, exponential_minus_one, logarithm
from xpnet_kernels.cpu.numba_extensions.compilation import ARITHMETIC

RNG = np.random.default_rng(0)


@njit(**ARITHMETIC)
def all_exponentials(x: Any, out: Any) -> None:
    for i in range(x.size):
        out[i] = exponential(x[i])


@njit(**ARITHMETIC)
def all_exponentials_minus_one(x: Any, out: Any) -> None:
    for i in range(x.size):
        out[i] = exponential_minus_one(x[i])


@njit(**ARITHMETIC)
def all_logarithms(x: Any, out: Any) -> None:
    for i in range(x.size):
        out[i] = logarithm(x[i])


def apply(function: Any, x: np.ndarray) -> np.ndarray:
    out = np.empty_like(x)
    function(x, out)
    return out


def test_single_precision_is_within_a_unit_in_the_last_place():
    x = np.concatenate([
        -87.3 * RNG.random(2_000_000), -np.geomspace(1e-30, 87.3, 500_000), np.log(2) / 2 * -np.arange(252.0),
    ]).astype(np.float32)  # fmt: skip
    exact = np.exp(x.astype(np.float64))
    errors = np.abs(apply(all_exponentials, x) - exact) / np.spacing(exact.astype(np.float32))
    assert errors.max() < 1


def test_double_precision_is_within_a_unit_in_the_last_place():
    x = np.concatenate([-700 * RNG.random(300), -np.geomspace(1e-30, 700, 200), np.log(2) / 2 * -np.arange(200.0)])
    with localcontext(prec=50):
        for argument, result in zip(x.tolist(), apply(all_exponentials, x).tolist(), strict=True):
            exact = Decimal(argument).exp()
            assert abs(Decimal(result) - exact) < Decimal(math.ulp(float(exact)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_special_values(dtype):
    x = np.array([0.0, -0.0, -np.inf, np.nan, -1e30, -746.0], dtype)
    np.testing.assert_array_equal(apply(all_exponentials, x), [1, 1, 0, np.nan, 0, 0])
    np.testing.assert_array_equal(apply(all_exponentials_minus_one, x), [0, 0, -1, np.nan, -1, -1])


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 3e-7), (np.float64, 6e-16)])
def test_minus_one_keeps_small_results(dtype, tolerance):
    x = -np.geomspace(1e-20, 80, 10_000).astype(dtype)
    exact = np.expm1(x.astype(np.float64))
    np.testing.assert_allclose(apply(all_exponentials_minus_one, x), exact, rtol=tolerance)


def test_logarithm():
    x = np.concatenate([np.geomspace(1e-300, 1e300, 100_001), 1 + np.geomspace(1e-15, 1, 1000)])
    np.testing.assert_allclose(apply(all_logarithms, x), np.log(x), rtol=5e-16, atol=5e-16)
    assert np.isnan(apply(all_logarithms, np.array([np.nan, np.inf]))).all()
    assert apply(all_logarithms, np.ones(1))[0] == 0
