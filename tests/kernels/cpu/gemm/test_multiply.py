"""Our own matrix products against NumPy's in float64."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from xpnet_kernels.cpu.gemm.multiply import multiply
from xpnet_kernels.cpu.numba_extensions import simd

RNG = np.random.default_rng(0)


def matrices(rows: int, terms: int, columns: int, dtype: type = np.float32) -> tuple[np.ndarray, ...]:
    """A, B and a C full of NaN."""
    A, B = RNG.normal(size=(rows, terms)).astype(dtype), RNG.normal(size=(terms, columns)).astype(dtype)
    return A, B, np.full((rows, columns), np.nan, dtype)


def check(A: np.ndarray, B: np.ndarray, C: np.ndarray) -> None:
    """C is A B up to the rounding of a float32 sum in any order: terms · 2⁻²⁴ · |A| |B|."""
    A, B = A.astype(np.float64), B.astype(np.float64)
    bound = (A.shape[1] + 1) * 2**-24 * (abs(A) @ abs(B))
    assert (abs(C - A @ B) <= bound).all()


@pytest.mark.parametrize("terms", [1, 2, 15, 16, 17, 64, 127, 128, 129, 300])
@pytest.mark.parametrize("transposed", [False, True])
def test_all_shapes_up_to_67(terms, transposed):
    for rows in (*range(1, 27), 40, 67):
        for columns in (1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 48, 50, 63, 64, 65, 67):
            A, B, C = matrices(rows, terms, columns)
            multiply(A, B.T.copy() if transposed else B, C, transposed=transposed)
            check(A, B, C)


@pytest.mark.parametrize("shape", [(0, 3, 4), (3, 0, 4), (3, 4, 0), (0, 0, 0)])
@pytest.mark.parametrize("transposed", [False, True])
def test_empty_matrices(shape, transposed):
    A, B, C = matrices(*shape)
    multiply(A, B.T.copy() if transposed else B, C, transposed=transposed)
    np.testing.assert_array_equal(C, A @ B)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("left_transposed", [False, True])
def test_any_memory_layout(transposed, left_transposed, place):
    A, B, _ = matrices(23, 140, 67)
    left = place(A.T.copy()).T if left_transposed else place(A)
    C = np.full((25, 70), 7, np.float32)
    multiply(left, place(B.T.copy() if transposed else B), C[1:-1, 2:-1], transposed=transposed)
    check(A, B, C[1:-1, 2:-1])
    C[1:-1, 2:-1] = 7
    assert (C == 7).all()  # nothing beside the output was written


def test_an_unaligned_output():
    A, B, _ = matrices(23, 140, 67)
    C = np.zeros(23 * 67 * 4 + 1, np.uint8)[1:].view(np.float32).reshape(23, 67)
    multiply(A, B, C)
    check(A, B, C)


def test_nan_and_infinity_reach_their_rows_and_columns_alone():
    A, B, C = matrices(13, 20, 35)
    A[4, 3], B[7, 33] = np.nan, np.inf
    multiply(A, B, C)
    hit = np.zeros(C.shape, bool)
    hit[4], hit[:, 33] = True, True
    np.testing.assert_array_equal(np.isfinite(C), ~hit)


LARGE = [
    (100, 784, 50),
    (784, 100, 50),
    (2000, 30, 69),
    (16, 4096, 64),
    (300, 300, 300),
    (271, 261, 600),
    (700, 261, 300),
    (8, 131, 1030),
]


@pytest.mark.parametrize("shape", LARGE)
@pytest.mark.parametrize("transposed", [False, True])
def test_large_products(shape, transposed):
    A, B, C = matrices(*shape)
    apart = np.repeat(A.T, 2, axis=1)[:, ::2].T  # transposed, its rows not next to each other
    for left in (A, np.asfortranarray(A), apart):
        C[...] = np.nan
        multiply(left, B.T.copy() if transposed else B, C, transposed=transposed)
        check(A, B, C)


@pytest.mark.skipif(not simd.LANES, reason="this processor's products are NumPy's")
def test_which_products_are_numpys(monkeypatch):
    def numpys(*arguments: np.ndarray, out: np.ndarray) -> None:
        out[...] = 7

    monkeypatch.setattr("xpnet_kernels.cpu.gemm.multiply.matmul", numpys)
    wide = simd.LANES == 16
    for shape, dtype, ours in (
        ((100, 784, 50), np.float32, True),
        ((3, 1, 16), np.float32, True),
        ((2, 784, 41), np.float32, True),
        ((2, 784, 42), np.float32, False),
        ((1024, 784, 16), np.float32, wide),
        ((1025, 784, 16), np.float32, False),
        ((100, 784, 50), np.float64, False),
        ((100, 784, simd.LANES - 1), np.float32, False),
        ((100, 784, 54), np.float32, wide),
        ((1024, 1024, 513), np.float32, False),
    ):
        A, B, C = matrices(*shape, dtype)
        multiply(A, B, C)
        assert (C == 7).all() == (not ours)
        assert not np.isnan(C).any()


def test_every_run_gives_the_same_bits():
    A, B, C = matrices(100, 784, 50)
    multiply(A, B, C)
    for _ in range(20):
        again = np.empty_like(C)
        multiply(A, B, again)
        np.testing.assert_array_equal(again, C)


@pytest.mark.skipif(not simd.LANES, reason="this processor's products are NumPy's")
@pytest.mark.parametrize("shape", [(100, 300, 70), (300, 300, 46)])
def test_an_element_does_not_depend_on_its_place(shape):
    A, B, C = matrices(*shape)
    multiply(A, B, C)
    for rows, columns in ((slice(3, 6), slice(20, 40)), (slice(0, 99), slice(1, 40)), (slice(50, 56), slice(None))):
        part = np.empty_like(C[rows, columns])
        multiply(A[rows], B[:, columns], part)
        np.testing.assert_array_equal(part, C[rows, columns])


@pytest.mark.skipif(simd.LANES != 16, reason="this processor's products of that size are NumPy's")
def test_an_element_does_not_depend_on_how_the_left_side_is_read():
    """A transposed left side is copied if there are many columns; otherwise it is read in place."""
    A, B, C = matrices(271, 261, 600)
    multiply(A, B, C)
    for left in (A, np.asfortranarray(A)):
        whole, part = np.empty_like(C), np.empty_like(C[:, :100])
        multiply(left, B, whole)
        multiply(left, B[:, :100], part)
        np.testing.assert_array_equal(whole, C)
        np.testing.assert_array_equal(part, C[:, :100])


def test_double_precision_stays_double():
    A, B, C = matrices(7, 300, 9, np.float64)
    multiply(A, B, C)
    np.testing.assert_allclose(C, A @ B, rtol=1e-12, atol=1e-12)


NARROW = """
import numpy as np
from xpnet_kernels import cpu
from xpnet_kernels.cpu.gemm.multiply import multiply
from xpnet_kernels.cpu.numba_extensions import simd
assert simd.LANES == LANES, simd.LANES
rng = np.random.default_rng(0)
for rows, terms, columns in ((1, 1, 1), (5, 7, 9), (13, 130, 16), (100, 784, 50), (29, 40, 33)):
    A, B = rng.normal(size=(rows, terms)).astype("f"), rng.normal(size=(terms, columns)).astype("f")
    expected, bound = A.astype("d") @ B, (terms + 1) * 2**-24 * (abs(A) @ abs(B)).astype("d")
    for right, transposed in ((B, False), (B.T.copy(), True)):
        C = np.full((rows, columns), np.nan, "f")
        multiply(A, right, C, transposed=transposed)
        assert (abs(C - expected) <= bound).all(), (rows, terms, columns)
ones, single = np.ones((3, 20), "f"), np.ones(3, "f")
out, dW, db = np.empty((3, 5), "f"), np.empty((20, 5), "f"), np.empty(5, "f")
cpu.linear(ones, np.ones((20, 5), "f"), np.ones(5, "f"), "relu", out)
assert (out == 21).all()
cpu.linear_backward(out, ones, None, np.ones((20, 5), "f"), None, dW, db, None)
assert (dW == 63).all() and (db == 63).all()
cpu.softmax_cross_entropy(out, np.arange(3), summary=np.empty(4), losses=single, gradient=np.empty_like(out))
assert (abs(single - np.log(5)) < 1e-6).all()
cpu.gather(np.full((3, 20), 51, np.uint8), np.array([2, 0, 0]), 255, ones)
assert (ones == np.float32(0.2)).all()
cpu.sgd_update(single, single.copy(), np.ones(1))
assert (single == 0).all()
print("done")
"""


@pytest.mark.parametrize(
    ("lanes", "processor", "features"), [(8, "haswell", "+avx,+avx2,+fma"), (0, "nehalem", "+sse4.2")]
)
def test_narrower_processors(lanes, processor, features, tmp_path):
    if "+avx2" not in simd.FEATURES:
        pytest.skip("this processor has no AVX2")
    run_narrow(lanes, tmp_path, NUMBA_CPU_NAME=processor, NUMBA_CPU_FEATURES=features)


AS_ON_ARM64 = """
from numba.core.registry import cpu_target
library = type(cpu_target.target_context.codegen())
library.magic_tuple = lambda self: ("aarch64-unknown-linux-gnu", "generic", "")
"""


@pytest.mark.skipif(simd.LANES == 4, reason="all other tests are about this processor's NEON")
def test_the_code_for_neon_on_any_processor(tmp_path):
    run_narrow(4, tmp_path, AS_ON_ARM64)


def run_narrow(lanes, cache, before="", **environment):
    result = subprocess.run(
        [sys.executable, "-c", before + NARROW.replace("== LANES", f"== {lanes}")],
        capture_output=True, text=True, timeout=120, check=False,
        env=os.environ | environment | {"NUMBA_CACHE_DIR": str(cache)},
    )  # fmt: skip
    assert result.stdout.strip() == "done", result.stderr
