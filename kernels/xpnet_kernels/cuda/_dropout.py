"""Dropout whose mask is a function of a key and a step: the same bits on every device, and never stored."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from numbers import Integral
from typing import Any

from numba import int64, types

from .arrays import REALS, accumulator, array, output
from .launch import Launch, typed
from .numba_cuda import cuda
from .prepared import planned, queue, run
from .primitives import BLOCK, WARP, device_function, given, lead, width
from .tiles import load_masked, store_masked

_MAX_ELEMENTS = 2**34  # elements: the counter's lowest word counts groups of four
_THREAD_ELEMENTS = 8  # 16 bytes of the narrowest elements
_LOW = 0xFFFFFFFF
_STEP = 3  # the position of the step among the kernel's arguments


def dropout(x: Any, probability: float, key: tuple[int, int], step: Any, out: Any, *, stream: int = 0) -> None:
    """``out = x / (1 - probability)`` where an element is kept, and 0 elsewhere.

    Element i (in C order) is kept when word_i · 2**-32 >= probability, where the words are Philox 4x32-10 with this
    key and the counters (i // 4, 0, low half of step, high half of step); Salmon et al., "Parallel random numbers: as
    easy as 1, 2, 3", SC 2011. The backward pass is the same call on the gradient.

    Args:
        x: contiguous, of any element type and shape.
        probability: of dropping, in [0, 1).
        key: two 32-bit words.
        step: a number, or a (1,) int64 array on the device, for captured steps.
        out: like ``x``, output; may be ``x``.
        stream: the CUDA stream's handle.
    """
    if isinstance(step, Integral):
        word = int(step) if step < 2**63 else int(step) - 2**64  # the same 64 bits
        launches = planned(prepare, x, probability, key, None, out)
        queue([launch.with_argument(_STEP, word) for launch in launches], stream)
    else:
        run(prepare, stream, x, probability, key, step, out)


def prepare(x: Any, probability: float, key: tuple[int, int], step: Any, out: Any) -> list[Launch]:
    """Check the arguments and plan the launch; without a step, the launch gets it later."""
    source = array("x", x, REALS)
    target = output("out", out, (source.element,), shape=source.shape)
    if not 0 <= probability < 1:
        raise ValueError(f"probability must be a number from 0 to below 1, not {probability!r}")
    for flat in (source, target):
        if len(flat.shape) == 2 and flat.shape[0] > 1 and flat.row_stride != flat.shape[1]:
            raise ValueError(f"{flat.name} must be contiguous; its rows are {flat.row_stride} elements apart")
    size = math.prod(source.shape)
    if size > _MAX_ELEMENTS:
        raise ValueError(f"x has {size} elements, and a step has random words for {_MAX_ELEMENTS}")
    step_array = None if step is None else array("step", step, (types.int64,), shape=(1,))
    if not size:
        return []
    element = source.element
    kernel = typed(dropout_kernel(accumulator(element)), element, element, types.int64)
    threshold, scale = math.ceil(probability * 2**32), 1 / (1 - probability)
    arguments = [source, target, step_array, 0, key[0], key[1], threshold, scale, size]
    return [Launch(kernel, arguments, -(-size // (_THREAD_ELEMENTS * BLOCK)), (BLOCK, 1))]


@device_function
def philox(c0: int, c2: int, c3: int, k0: int, k1: int) -> Any:
    """Ten rounds on the counter (c0, 0, c2, c3), in 64-bit integers that hold 32-bit words."""
    c1 = int64(0)
    for _ in range(10):
        product0, product1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1 = (product1 >> 32 & _LOW) ^ c1 ^ k0, product1 & _LOW
        c2, c3 = (product0 >> 32 & _LOW) ^ c3 ^ k1, product0 & _LOW
        k0, k1 = (k0 + 0x9E3779B9) & _LOW, (k1 + 0xBB67AE85) & _LOW
    return c0, c1, c2, c3


@lru_cache
def dropout_kernel(accumulator: types.Type) -> Callable:
    """The dropout kernel; a thread processes eight elements: vectors of 16 bytes, a warp's width apart."""
    zero = accumulator(0)

    def drop(
        x: Any, out: Any, step_array: Any, step: int, key0: int, key1: int, threshold: int, scale: float, size: int
    ) -> None:
        thread = int64(cuda.blockIdx.x) * cuda.blockDim.x + cuda.threadIdx.x
        lane = cuda.threadIdx.x & (WARP - 1)
        first = (thread - lane) * _THREAD_ELEMENTS + lane * width(x)
        if given(step_array):
            step = step_array[0]
        factor = accumulator(scale)
        values, words = cuda.local.array(_THREAD_ELEMENTS, accumulator), cuda.local.array(4, types.int64)
        for offset in range(0, _THREAD_ELEMENTS, width(x)):
            load_masked(x, first + offset * WARP, size, lead(x) == 0, zero, values, offset)
        for offset in range(0, _THREAD_ELEMENTS, width(x)):
            element = first + offset * WARP
            for k in range(width(x)):
                if k % 4 == 0:
                    a, b, c, d = philox((element + k) >> 2, step & _LOW, step >> 32 & _LOW, key0, key1)
                    words[0], words[1], words[2], words[3] = a, b, c, d
                    if width(x) == 2 and element % 4 == 2:  # a vector of float64 takes half of the words
                        words[0], words[1] = c, d
                kept = words[k % 4] >= threshold
                values[offset + k] = values[offset + k] * factor if kept else zero
            store_masked(out, element, size, lead(out) == 0, values, offset)

    return drop
