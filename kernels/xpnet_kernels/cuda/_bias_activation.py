"""Bias and activation in one pass."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from numba import int64, types, uint32

from .activations import activation_code, add_and_activate
from .arrays import REALS, DeviceArray, accumulator, array, output
from .launch import Launch, typed
from .numba_cuda import cuda
from .prepared import run
from .primitives import unpack, width
from .row_blocks import MOST_WORDS, block_grid, load_part, slot_count, store_part, vectors_fit


def bias_activation(z: Any, bias: Any, activation: str | None, out: Any, *, stream: int = 0) -> None:
    """``out = act(z + bias)``.

    Args:
        z: (N, C) of any element type.
        bias: (C,).
        activation: ``None``, "relu", "sigmoid" or "tanh".
        out: (N, C), output; may be ``z``.
        stream: the CUDA stream's handle.
    """
    run(prepare, stream, z, bias, activation, out)


def prepare(z: Any, bias: Any, activation: str | None, out: Any) -> list[Launch]:
    """Check the arguments and plan the launch."""
    code = activation_code(activation)
    x = array("z", z, REALS, dimensions=2)
    b = array("bias", bias, (x.element,), shape=x.shape[1:])
    y = output("out", out, (x.element,), shape=x.shape)
    return forward_launches(x, b, y, code)


def forward_launches(x: DeviceArray, bias: DeviceArray, y: DeviceArray, code: int) -> list[Launch]:
    """The launch of ``y = act(x + bias)`` for checked arrays; none if there are no rows."""
    element, (rows, columns) = x.element, x.shape
    vectors = vectors_fit(element, columns, x, y) and bias.address % 16 == 0
    part = 128 if vectors else element.bitwidth
    across, grid, block = block_grid(rows, columns * element.bitwidth // part, slot_count(vectors))
    if not grid:
        return []
    kernel = typed(forward_kernel(accumulator(element), vectors), element, element, element)
    arguments = [x, bias, y, code, rows, columns, x.row_stride, y.row_stride, across]
    return [Launch(kernel, arguments, grid, block)]


@lru_cache
def forward_kernel(real: types.Type, vectors: bool) -> Callable:
    """The kernel of bias and activation; a thread loads its part of the bias once, for all its rows.

    ``vectors``: a thread's part of a row is an aligned vector of 16 bytes; else it is one element.
    """
    zero, one = real(0), real(1)
    slots = slot_count(vectors)

    def forward(
        z: Any, bias: Any, out: Any, code: int, rows: int, columns: int, z_stride: int, out_stride: int, across: int
    ) -> None:
        """``across``: the number of blocks that share a row."""
        count = width(z) if vectors else 1
        column = (int64(cuda.blockIdx.x % across) * cuda.blockDim.x + cuda.threadIdx.x) * count
        first = int64(cuda.blockIdx.x // across) * (slots * cuda.blockDim.y) + cuda.threadIdx.y
        last = rows if column < columns else 0
        words, bias_words = cuda.local.array(MOST_WORDS, uint32), cuda.local.array(4, uint32)
        x, b = cuda.local.array(8, real), cuda.local.array(8, real)
        for slot in range(slots):
            i = first + slot * cuda.blockDim.y
            if i < last:
                load_part(z, i * z_stride + column, vectors, words, slot)
        if first < last:
            load_part(bias, column, vectors, bias_words, 0)
            unpack(z, bias_words, 0, b)
        for slot in range(slots):
            i = first + slot * cuda.blockDim.y
            if i < last:
                unpack(z, words, slot, x)
                add_and_activate(x, b, count, code, zero, one)
                store_part(out, i * out_stride + column, vectors, x)

    return forward
