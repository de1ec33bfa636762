"""How cuBLAS is called: by a stand-in for it that reads its arguments as cuBLAS's documentation says, columns first."""

from __future__ import annotations

import ctypes
import importlib.util
import os

import numpy as np
import pytest

from tests.kernels.cuda.cublaslt_stand_in import rounded, widened

MISSING = importlib.util.find_spec("numba_cuda") is None and "XPNET_REQUIRE_CUDA_COMPILE" not in os.environ

pytestmark = [
    pytest.mark.cuda_compile,
    pytest.mark.skipif(MISSING, reason="needs the extra cuda-compile (numba-cuda and CuPy)"),
]

TYPES = {0: np.float32, 1: np.float64, 2: np.float16, 14: np.uint16}  # CUDA_R_32F, _64F, _16F, _16BF
SUMS_32, SUMS_64, SUMS_TF32 = 68, 70, 77  # CUBLAS_COMPUTE_32F, _64F, _32F_FAST_TF32
EXACT = 16  # CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION
STREAM = 5


class Host:
    """A NumPy array that says it is on a GPU; uint16 holds bfloat16."""

    def __init__(self, array):
        self.array = array
        self.__cuda_array_interface__ = dict(array.__array_interface__, version=3)


def column_major(address, rows, columns, leading, dtype):
    """The matrix at an address whose columns lie ``leading`` elements apart."""
    assert leading >= max(rows, 1)
    item = np.dtype(dtype).itemsize
    buffer = (ctypes.c_byte * (((columns - 1) * leading + rows) * item)).from_address(address)
    return np.ndarray((rows, columns), dtype, buffer, strides=(item, leading * item))


class CuBLAS:
    """The functions of CuPy's cuBLAS that are called, on host memory, and what they were called with."""

    def __init__(self, mode=3):
        self.mode, self.calls = mode, []

    def getMathMode(self, handle):  # noqa: N802 (CuPy's name)
        return self.mode

    def setMathMode(self, handle, mode):  # noqa: N802 (CuPy's name)
        assert handle == 7
        self.mode = mode

    def gemmEx(  # noqa: N802 (CuPy's name)
        self, handle, transa, transb, m, n, k, alpha, A, Atype, lda, B, Btype, ldb, beta, C, Ctype, ldc, computeType,
        algo,
    ):  # fmt: skip
        """C = α op(A) op(B) + β C; op(A) is m × k, op(B) k × n."""
        assert (handle, algo) == (7, -1)
        assert min(m, n, k) > 0
        assert TYPES[Atype] == TYPES[Btype]
        assert (TYPES[Atype], TYPES[Ctype]) in {
            (np.float32, np.float32), (np.float64, np.float64), (np.float16, np.float16), (np.float16, np.float32),
            (np.uint16, np.uint16), (np.uint16, np.float32),
        }  # fmt: skip
        assert computeType in ((SUMS_64,) if TYPES[Ctype] == np.float64 else (SUMS_32, SUMS_TF32))
        self.calls.append((computeType, self.mode))
        scalar = ctypes.c_double if computeType == SUMS_64 else ctypes.c_float
        one, keep = (scalar.from_address(place).value for place in (alpha, beta))
        a = widened(column_major(A, *((k, m) if transa else (m, k)), lda, TYPES[Atype]))
        b = widened(column_major(B, *((n, k) if transb else (k, n)), ldb, TYPES[Btype]))
        c = column_major(C, m, n, ldc, TYPES[Ctype])
        kept = keep * widened(c) if keep else 0  # for β = 0, C is not read
        c[...] = rounded(one * (a.T if transa else a) @ (b.T if transb else b) + kept, c.dtype)


@pytest.fixture
def cublas(monkeypatch):
    from contextlib import contextmanager

    from cupy_backends.cuda import libs
    from xpnet_kernels.cuda import matrix_products

    library = CuBLAS()

    @contextmanager
    def on_stream(stream):
        assert stream == STREAM
        yield

    monkeypatch.setitem(vars(libs), "cublas", library)  # the real one needs libraries
    monkeypatch.setattr("cupy.cuda.device.get_cublas_handle", lambda: 7)
    monkeypatch.setattr(matrix_products, "on_stream", on_stream)
    monkeypatch.setattr("xpnet_kernels.cuda.cublaslt.available", lambda: False)
    return library


def multiply(a, b, out, **options):
    from xpnet_kernels.cuda.arrays import REALS, array, memory
    from xpnet_kernels.cuda.matrix_products import product
    from xpnet_kernels.cuda.prepared import queue

    matrices = [array(name, memory(Host(value)), REALS) for name, value in (("a", a), ("b", b), ("out", out))]
    queue(product(*matrices, **options), STREAM)


def whole_numbers(random, shape, dtype, apart=0):
    rows, columns = shape
    return rounded(random.integers(-9, 9, (rows, columns + apart)), dtype)[:, :columns]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.uint16])
@pytest.mark.parametrize("flip_a", [False, True])
@pytest.mark.parametrize("flip_b", [False, True])
@pytest.mark.parametrize("add", [False, True])
@pytest.mark.parametrize("apart", [0, 3])
def test_products(cublas, dtype, flip_a, flip_b, add, apart):
    random = np.random.default_rng(0)
    a = whole_numbers(random, (2, 4) if flip_a else (4, 2), dtype, apart)
    b = whole_numbers(random, (6, 2) if flip_b else (2, 6), dtype, apart)
    out = whole_numbers(random, (4, 6), dtype, apart)
    left, right = widened(a), widened(b)
    expected = (left.T if flip_a else left) @ (right.T if flip_b else right) + (widened(out) if add else 0)
    multiply(a, b, out, flip_a=flip_a, flip_b=flip_b, add=add)
    assert (widened(out) == expected).all()
    assert cublas.calls == [(SUMS_64 if dtype == np.float64 else SUMS_32, EXACT)]


def test_the_handle_that_cupy_shares_gets_its_mode_back(cublas, monkeypatch):
    a = np.ones((2, 2), np.float16)
    multiply(a, a, a.copy())
    assert cublas.mode == 3

    def fail(*arguments):
        raise RuntimeError("CUBLAS_STATUS_EXECUTION_FAILED")

    monkeypatch.setattr(cublas, "gemmEx", fail)
    with pytest.raises(RuntimeError, match="EXECUTION_FAILED"):
        multiply(a, a, a.copy())
    assert cublas.mode == 3


@pytest.mark.parametrize("dtype", [np.float16, np.uint16])
@pytest.mark.parametrize("add", [False, True])
def test_gradients_in_float32_of_layers_in_half_precision(cublas, dtype, add):
    """The sum of 600 ones is no number of bfloat16; it must not be rounded on its way to float32."""
    a, out = rounded(np.ones((601, 2)), np.dtype(dtype)), np.full((2, 2), 0.5, np.float32)
    multiply(a, a, out, flip_a=True, add=add)
    assert (out == 601 + 0.5 * add).all()


def test_tf32_on_request_alone(cublas):
    a = np.ones((2, 2), np.float32)
    multiply(a, a, a.copy(), tf32=True)
    assert cublas.calls == [(SUMS_TF32, EXACT)]


@pytest.mark.parametrize("apart", [0, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint16])
def test_a_product_over_nothing_is_zero(cublas, monkeypatch, dtype, apart):
    """As of an empty batch: cuBLAS is not asked, which need not accept an inner length of 0."""

    def fill(address, pitch, value, width, height, stream):
        assert (value, stream) == (0, STREAM)
        assert pitch >= width
        for row in range(height):
            ctypes.memset(address + row * pitch, 0, width)
        return (0,)

    monkeypatch.setattr("cuda.bindings.driver.cuMemsetD2D8Async", fill)
    whole = rounded(np.full((4, 6 + apart), 5), np.dtype(dtype))
    out, nothing = whole[:, :6], np.zeros((0, 6), dtype)
    multiply(nothing[:, :4], nothing, out, flip_a=True, add=True)
    assert (whole == whole[0, 0]).all()
    multiply(nothing[:, :4], nothing, out, flip_a=True)
    assert (widened(out) == 0).all()
    assert (widened(whole[:, 6:]) == 5).all()
    assert not cublas.calls


def test_rows_that_cublas_cannot_read(cublas):
    a = np.ones((4, 4), np.float32)
    with pytest.raises(ValueError, match=r"b: cuBLAS needs rows in ascending order .* they are -4 elements apart"):
        multiply(a, a[::-1], a.copy())
