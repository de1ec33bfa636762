"""cuBLAS's products on device memory, computed by NumPy in the accumulation type."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from .memory import pool
from .streams import queue

CUBLAS_COMPUTE_32F, CUBLAS_COMPUTE_64F, CUBLAS_COMPUTE_32F_FAST_TF32 = 68, 70, 77
_TF32_BITS = 10  # of its fraction, of float32's 23
_TYPES = {0: np.float32, 1: np.float64, 2: np.float16, 14: np.uint16}  # cudaDataType_t; 14 is bfloat16
_BFLOAT16 = 14
HANDLE = 7


class CUBLASError(RuntimeError):
    """An error of cuBLAS."""


def gemmEx(  # noqa: N802 (CuPy's name)
    handle: int, transa: int, transb: int, m: int, n: int, k: int, alpha: int, a: int, a_type: int, lda: int, b: int,
    b_type: int, ldb: int, beta: int, c: int, c_type: int, ldc: int, compute_type: int, algorithm: int,
) -> None:  # fmt: skip
    """C ← α op(A) op(B) + β C, of column-major matrices at addresses."""
    tf32 = compute_type == CUBLAS_COMPUTE_32F_FAST_TF32
    sums = np.float32 if tf32 else {CUBLAS_COMPUTE_32F: np.float32, CUBLAS_COMPUTE_64F: np.float64}.get(compute_type)
    if handle != HANDLE or sums is None or min(m, n) < 1 or k < 1:
        raise CUBLASError("CUBLAS_STATUS_INVALID_VALUE")
    scalar = np.ctypeslib.as_ctypes_type(sums)
    factors = [sums(scalar.from_address(place).value) for place in (alpha, beta)]
    left = _matrix(a, a_type, *((k, m) if transa else (m, k)), lda)
    right = _matrix(b, b_type, *((n, k) if transb else (k, n)), ldb)
    out = _matrix(c, c_type, m, n, ldc)
    with np.errstate(all="ignore"):
        wide = [_wide(left, a_type, sums, transa), _wide(right, b_type, sums, transb)]
        product = np.matmul(*map(_tf32, wide) if tf32 else wide)
        result = factors[0] * product if factors[0] != 1 else product
        if factors[1]:  # β = 0 does not read C, which may be uninitialised
            result = result + factors[1] * _wide(out, c_type, sums, 0)
        out[...] = _bfloat16(result) if c_type == _BFLOAT16 else result
    queue("gemm", [pool().chunk_at(a), pool().chunk_at(b)], [pool().chunk_at(c)])


def setStream(handle: int, stream: int) -> None:  # noqa: N802 (CuPy's name)
    """CuPy's own wrappers set the current stream at each call."""


def setMathMode(handle: int, mode: int) -> None:  # noqa: N802 (CuPy's name)
    """Reduced precision is not emulated."""


def getMathMode(handle: int) -> int:  # noqa: N802 (CuPy's name)
    """The default mode."""
    return 0


def _matrix(address: int, kind: int, rows: int, columns: int, leading: int) -> np.ndarray:
    """A column-major matrix in device memory, all of it within one array."""
    dtype = np.dtype(_TYPES[kind])
    if leading < rows:
        raise CUBLASError("CUBLAS_STATUS_INVALID_VALUE")
    nbytes = ((columns - 1) * leading + rows) * dtype.itemsize
    pool().chunk_at(address, nbytes)
    buffer = (ctypes.c_byte * nbytes).from_address(address)
    return np.ndarray((rows, columns), dtype, buffer, strides=(dtype.itemsize, leading * dtype.itemsize))


def _wide(matrix: np.ndarray, kind: int, sums: Any, transposed: int) -> np.ndarray:
    if kind == _BFLOAT16:
        matrix = (matrix.astype(np.uint32) << 16).view(np.float32)
    matrix = matrix.astype(sums, copy=False)
    return matrix.T if transposed else matrix


def _tf32(x: np.ndarray) -> np.ndarray:
    """Float32 numbers with the fraction of TF32, to nearest."""
    bits = np.ascontiguousarray(x).view(np.uint32).astype(np.uint64)
    unused = 23 - _TF32_BITS
    return ((bits + (1 << unused - 1) >> unused << unused).astype(np.uint32)).view(np.float32)


def _bfloat16(x: np.ndarray) -> np.ndarray:
    """The bits of the nearest bfloat16, to even."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32).astype(np.uint64)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    return np.where(np.isnan(x), 0x7FFF, rounded).astype(np.uint16)
