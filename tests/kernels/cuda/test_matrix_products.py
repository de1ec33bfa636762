"""How cuBLAS is called: by a stand-in for it that reads its arguments as cuBLAS's documentation says, columns first."""

from __future__ import annotations

import ctypes
import importlib.util
import os
from types import SimpleNamespace

import numpy as np
import pytest

MISSING = importlib.util.find_spec("numba_cuda") is None and "XPNET_REQUIRE_CUDA_COMPILE" not in os.environ

pytestmark = [
    pytest.mark.cuda_compile,
    pytest.mark.skipif(MISSING, reason="needs the extra cuda-compile (numba-cuda and CuPy)"),
]

TYPES = {0: np.float32, 1: np.float64}  # CUDA_R_32F, CUDA_R_64F
COMPUTE = {68: np.float32, 70: np.float64}  # CUBLAS_COMPUTE_32F, CUBLAS_COMPUTE_64F


class Host:
    """A NumPy array that says it is on a GPU."""

    def __init__(self, array):
        self.array = array
        self.__cuda_array_interface__ = dict(array.__array_interface__, version=3)


def column_major(address, rows, columns, leading, dtype):
    """The matrix at an address whose columns lie ``leading`` elements apart."""
    item = np.dtype(dtype).itemsize
    buffer = (ctypes.c_byte * (((columns - 1) * leading + rows) * item)).from_address(address)
    return np.ndarray((rows, columns), dtype, buffer, strides=(item, leading * item))


def gemm(handle, transa, transb, m, n, k, alpha, A, Atype, lda, B, Btype, ldb, beta, C, Ctype, ldc, computeType, algo):
    """C = α op(A) op(B) + β C; op(A) is m × k, op(B) k × n."""
    dtype = TYPES[Ctype]
    assert (handle, TYPES[Atype], TYPES[Btype], COMPUTE[computeType], algo) == (7, dtype, dtype, dtype, -1)
    a = column_major(A, *((k, m) if transa else (m, k)), lda, dtype)
    b = column_major(B, *((n, k) if transb else (k, n)), ldb, dtype)
    c = column_major(C, m, n, ldc, dtype)
    one, keep = (
        np.ctypeslib.as_array((np.ctypeslib.as_ctypes_type(dtype) * 1).from_address(p))[0] for p in (alpha, beta)
    )
    c[...] = one * (a.T if transa else a) @ (b.T if transb else b) + keep * c


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("flip_a", [False, True])
@pytest.mark.parametrize("flip_b", [False, True])
@pytest.mark.parametrize("add", [False, True])
@pytest.mark.parametrize("apart", [0, 3])
def test_products(monkeypatch, dtype, flip_a, flip_b, add, apart):
    from cupy_backends.cuda import libs
    from xpnet_kernels.cuda.arrays import REALS, array
    from xpnet_kernels.cuda.matrix_products import multiply

    monkeypatch.setitem(vars(libs), "cublas", SimpleNamespace(gemmEx=gemm))  # the real one needs libraries
    monkeypatch.setattr("cupy.cuda.device.get_cublas_handle", lambda: 7)
    random = np.random.default_rng(0)

    def matrix(rows, columns):
        return random.integers(-9, 9, (rows, columns + apart)).astype(dtype)[:, :columns]

    a = matrix(*((5, 4) if flip_a else (4, 5)))
    b = matrix(*((6, 5) if flip_b else (5, 6)))
    out = matrix(4, 6)
    expected = (a.T if flip_a else a) @ (b.T if flip_b else b) + (out if add else 0)
    on_device = (array(name, Host(value), REALS) for name, value in (("a", a), ("b", b), ("out", out)))
    multiply(*on_device, flip_a=flip_a, flip_b=flip_b, add=add)
    assert (out == expected).all()
