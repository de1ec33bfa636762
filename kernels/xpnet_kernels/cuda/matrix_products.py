"""Matrix products by cuBLAS, through CuPy, for every element type; written or added to a given matrix."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from numba import types

from .arrays import BFLOAT16, DeviceArray, array, memory
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
    return [Product(a, b, out, flip_a, flip_b, add, tf32)]


class Product:
    """A product that cuBLAS computes."""

    def __init__(
        self, a: DeviceArray, b: DeviceArray, out: DeviceArray, flip_a: bool, flip_b: bool, add: bool, tf32: bool
    ) -> None:
        self._matrices, self._flips, self._add = (a, b, out), (flip_a, flip_b), add
        rows, columns = out.shape
        inner = a.shape[0] if flip_a else a.shape[1]
        double = out.element == types.float64
        self._scalars = np.array([1.0, float(add)], np.float64 if double else np.float32)
        one = self._scalars.ctypes.data
        # cuBLAS is column-major: it sees every matrix transposed, so the factors are exchanged.
        self._arguments = (
            int(flip_b), int(flip_a), columns, rows, inner, one, *_operand(b), *_operand(a),
            one + self._scalars.itemsize, *_operand(out),
            _COMPUTE_64 if double else _COMPUTE_TF32 if tf32 else _COMPUTE_32, _DEFAULT_ALGORITHM,
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
    return matrix.address, _CUDA_TYPES[matrix.element], max(matrix.row_stride, 1)


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
    return replace(array(name, memory(owner), (element,)), owner=owner)
