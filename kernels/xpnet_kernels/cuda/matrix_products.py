"""Matrix products for every element type, written or added to a given matrix.

They are computed by cuBLASLt where nvmath-python is installed, and else by cuBLAS through CuPy.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from numba import types

from . import cublaslt
from .arrays import BFLOAT16, DeviceArray, memory, output
from .prepared import Work
from .primitives import SIMULATED

# Values of cudaDataType_t and cublasComputeType_t.
_CUDA_TYPES = {types.float32: 0, types.float64: 1, types.float16: 2, BFLOAT16: 14}
_COMPUTE_32, _COMPUTE_64, _COMPUTE_TF32 = 68, 70, 77
_DEFAULT_ALGORITHM = -1
_EXACT_SUMS = 16  # CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION, and no TF32 unless it is asked for


def product(
    a: DeviceArray,
    b: DeviceArray,
    out: DeviceArray,
    *,
    flip_a: bool = False,
    flip_b: bool = False,
    add: bool = False,
    tf32: bool = False,
) -> list[Work]:
    """``out = a b``, or ``out += a b``; ``flip_a`` and ``flip_b`` take the transposed matrix.

    The sums are taken in float64 for float64, in TF32 where that is asked for, and else in float32; they are rounded
    once, to the type of ``out``, which may differ from that of ``a`` and ``b``.

    Every product of the kernels is made here or in :func:`fused_product`.
    """
    for matrix in (a, b, out):
        if matrix.shape[0] > 1 and matrix.row_stride < matrix.shape[1]:
            raise ValueError(
                f"{matrix.name}: cuBLAS needs rows in ascending order that do not overlap, but they are "
                f"{matrix.row_stride} elements apart; make a copy"
            )
    inner = a.shape[0] if flip_a else a.shape[1]
    if 0 in out.shape or (inner == 0 and add):
        return []
    if inner == 0 and not SIMULATED:
        return [Zeros(out)]
    if cublaslt.available() and not SIMULATED:
        plan = cublaslt.plan(_problem(a, b, out, flip_a, flip_b, tf32, cublaslt.Epilogue.NOTHING, 0))
        if plan.found:
            return [cublaslt.LtProduct(plan, (b.address, a.address, out.address), 0, add)]
    return [Product(a, b, out, flip_a, flip_b, add, tf32)]


def fused_product(
    a: DeviceArray,
    b: DeviceArray,
    out: DeviceArray,
    epilogue: cublaslt.Epilogue,
    vector: DeviceArray,
    *,
    flip_a: bool = False,
    tf32: bool = False,
) -> list[Work]:
    """``out = a b`` and the epilogue in one kernel, for rows that cuBLAS can read; empty where that is not possible.

    The epilogue is computed in the type of the sums, and rounded with them. Its vector is of the type of ``out``.
    """
    ordered = all(matrix.shape[0] <= 1 or matrix.row_stride >= matrix.shape[1] for matrix in (a, b, out))
    inner = a.shape[0] if flip_a else a.shape[1]
    if SIMULATED or not cublaslt.available() or not ordered or 0 in (*out.shape, inner):
        return []
    if vector.element is not out.element or (epilogue is cublaslt.Epilogue.SUM_ROWS_OF_B and inner == 1):
        return []  # which cuBLASLt does not have, or not in all versions
    plan = cublaslt.plan(_problem(a, b, out, flip_a, False, tf32, epilogue, vector.address))
    return [cublaslt.LtProduct(plan, (b.address, a.address, out.address), vector.address, False)] if plan.found else []


def _problem(
    a: DeviceArray, b: DeviceArray, out: DeviceArray, flip_a: bool, flip_b: bool, tf32: bool,
    epilogue: cublaslt.Epilogue, vector: int,
) -> cublaslt.Problem:  # fmt: skip
    """What cuBLASLt is asked. It is column-major: it sees every matrix transposed, so the factors are exchanged."""
    matrices = (b, a, out)
    return cublaslt.Problem(
        device=cublaslt.current_device(),
        compute=_compute_type(out, tf32),
        scale=_CUDA_TYPES[types.float64 if out.element is types.float64 else types.float32],
        kinds=tuple(_CUDA_TYPES[matrix.element] for matrix in matrices),
        shapes=tuple((matrix.shape[1], matrix.shape[0]) for matrix in matrices),
        leading=tuple(max(matrix.row_stride, matrix.shape[1]) for matrix in matrices),
        flips=(int(flip_b), int(flip_a)),
        epilogue=epilogue,
        alignments=(*(cublaslt.alignment(matrix.address) for matrix in matrices), cublaslt.alignment(vector)),
    )


def _compute_type(out: DeviceArray, tf32: bool) -> int:
    return _COMPUTE_64 if out.element is types.float64 else _COMPUTE_TF32 if tf32 else _COMPUTE_32


class Product:
    """A product by cuBLAS, through CuPy."""

    def __init__(
        self, a: DeviceArray, b: DeviceArray, out: DeviceArray, flip_a: bool, flip_b: bool, add: bool, tf32: bool
    ) -> None:
        self._matrices, self._flips, self._add = (a, b, out), (flip_a, flip_b), add
        rows, columns = out.shape
        inner = a.shape[0] if flip_a else a.shape[1]
        self._scalars = np.array([1.0, float(add)], np.float64 if out.element is types.float64 else np.float32)
        one = self._scalars.ctypes.data
        # cuBLAS is column-major: it sees every matrix transposed, so the factors are exchanged.
        self._arguments = (
            int(flip_b), int(flip_a), columns, rows, inner, one, *_operand(b), *_operand(a),
            one + self._scalars.itemsize, *_operand(out),
            _compute_type(out, tf32), _DEFAULT_ALGORITHM,
        )  # fmt: skip

    def queue(self, stream: int) -> None:
        """Queue the product on the stream."""
        if SIMULATED:
            self._simulate()
            return
        from cupy.cuda import device
        from cupy_backends.cuda.libs import cublas

        handle = device.get_cublas_handle()  # which all of CuPy uses, so its mode is put back
        mode = cublas.getMathMode(handle)
        cublas.setMathMode(handle, _EXACT_SUMS)
        try:
            with on_stream(stream):
                cublas.gemmEx(handle, *self._arguments)
        finally:
            cublas.setMathMode(handle, mode)

    def _simulate(self) -> None:
        a, b, out = (matrix.as_numpy() for matrix in self._matrices)
        flip_a, flip_b = self._flips
        result = (a.T if flip_a else a) @ (b.T if flip_b else b)
        out[...] = out + result if self._add else result


class Zeros:
    """A matrix to be filled with zeros: a product whose inner length is 0, which cuBLAS need not accept."""

    def __init__(self, out: DeviceArray) -> None:
        item = out.element.bitwidth // 8
        rows, columns = out.shape
        self._arguments = (out.address, max(out.row_stride, columns) * item, 0, columns * item, rows)

    def queue(self, stream: int) -> None:
        """Queue the filling on the stream."""
        from cuda.bindings import driver

        (status,) = driver.cuMemsetD2D8Async(*self._arguments, stream)
        if status:
            raise RuntimeError(f"zeros were not written: {driver.CUresult(status).name}")


def _operand(matrix: DeviceArray) -> tuple[int, int, int]:
    return matrix.address, _CUDA_TYPES[matrix.element], max(matrix.row_stride, matrix.shape[1])


@contextmanager
def on_stream(stream: int) -> Iterator[None]:
    """A context in which CuPy allocates and multiplies on this stream."""
    if SIMULATED:
        yield
        return
    import cupy

    if cupy.cuda.get_current_stream().ptr == stream:
        yield
        return
    with cupy.cuda.ExternalStream(stream):
        yield


def filled(name: str, shape: tuple[int, ...], element: types.Type, value: float | None = None) -> DeviceArray:
    """A new array filled with a value, or uninitialised."""
    if SIMULATED:
        xp: Any = np
    else:
        import cupy as xp
    dtype = np.dtype(element.name)
    if value is None:
        owner = xp.empty(shape, dtype)
    else:
        owner = xp.full(shape, np.float32(value).view(np.uint32) >> 16 if element == BFLOAT16 else value, dtype)
    return replace(output(name, memory(owner), (element,), shape=shape), owner=owner)
