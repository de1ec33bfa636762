"""Matrix products by cuBLAS, through CuPy, for every element type; written or added to a given matrix."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numba import types

from .arrays import BFLOAT16, DeviceArray, array
from .primitives import SIMULATED

# Values of cudaDataType_t and cublasComputeType_t. Sums are taken in float32.
_CUDA_TYPES = {types.float32: 0, types.float64: 1, types.float16: 2, BFLOAT16: 14}
_COMPUTE_32, _COMPUTE_64, _COMPUTE_32_FROM_TF32 = 68, 70, 77
_DEFAULT_ALGORITHM = -1


@contextmanager
def on_stream(stream: int) -> Iterator[None]:
    """A context in which CuPy allocates and multiplies on this stream."""
    if SIMULATED:
        yield
        return
    import cupy

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
        return array(name, xp.empty(shape, dtype), (element,))
    bits = np.float32(value).view(np.uint32) >> 16 if element == BFLOAT16 else value
    return array(name, xp.full(shape, bits, dtype), (element,))


def multiply(
    a: DeviceArray,
    b: DeviceArray,
    out: DeviceArray,
    *,
    flip_a: bool = False,
    flip_b: bool = False,
    add: bool = False,
    tf32: bool = False,
) -> None:
    """``out = a b``, or ``out += a b``; ``flip_a`` and ``flip_b`` take the transposed matrix."""
    for matrix in (a, b, out):
        if matrix.shape[0] > 1 and matrix.row_stride < matrix.shape[1]:
            raise ValueError(
                f"{matrix.name}: cuBLAS needs rows in ascending order that do not overlap, but they are "
                f"{matrix.row_stride} elements apart; make a copy"
            )
    if 0 in out.shape:
        return
    if SIMULATED:
        left, right, target = a.as_numpy(), b.as_numpy(), out.as_numpy()
        product = (left.T if flip_a else left) @ (right.T if flip_b else right)
        target[...] = target + product if add else product
        return
    from cupy.cuda import device
    from cupy_backends.cuda.libs import cublas

    rows, columns = out.shape
    inner = a.shape[0] if flip_a else a.shape[1]
    real = np.float64 if out.element == types.float64 else np.float32
    one, beta = np.ones(1, real), np.full(1, float(add), real)
    compute = _COMPUTE_64 if out.element == types.float64 else _COMPUTE_32
    if tf32 and a.element == types.float32:
        compute = _COMPUTE_32_FROM_TF32
    # cuBLAS is column-major: it sees every matrix transposed, so the factors are exchanged.
    cublas.gemmEx(
        device.get_cublas_handle(), int(flip_b), int(flip_a), columns, rows, inner,
        one.ctypes.data, b.address, _CUDA_TYPES[b.element], max(b.row_stride, 1), a.address, _CUDA_TYPES[a.element],
        max(a.row_stride, 1), beta.ctypes.data, out.address, _CUDA_TYPES[out.element], max(out.row_stride, 1), compute,
        _DEFAULT_ALGORITHM,
    )  # fmt: skip
