"""Primitives for memory accesses and exchange between threads, on the GPU or in Numba's CUDA simulator.

The simulator runs each GPU thread as a Python thread, without pointers, vector loads or warp shuffles. Only these
functions have an implementation for each; all kernels are written in terms of them.
"""

from __future__ import annotations

from numba import config

SIMULATED = bool(config.ENABLE_CUDASIM)

if SIMULATED:
    from .simulated import (
        BLOCK,
        HELD_VECTORS,
        WARP,
        add_count,
        advance,
        barrier,
        device_function,
        exponential,
        fill_words,
        given,
        largest,
        lead,
        load,
        load_bytes,
        load_element,
        load_vector,
        load_words,
        logarithm,
        maximum,
        recomputed,
        row_at,
        shuffle_xor,
        store,
        store_vector,
        thread_index,
        thread_scratch,
        unpack,
        warp_scratch,
        width,
    )
else:
    from .device import (
        BLOCK,
        HELD_VECTORS,
        WARP,
        add_count,
        barrier,
        device_function,
        exponential,
        logarithm,
        recomputed,
        shuffle_xor,
        thread_index,
        thread_scratch,
        warp_scratch,
    )
    from .device_memory import (
        advance,
        given,
        lead,
        load,
        load_vector,
        row_at,
        store,
        store_vector,
        width,
    )
    from .device_words import (
        fill_words,
        largest,
        load_bytes,
        load_element,
        load_words,
        maximum,
        unpack,
    )

__all__ = [
    "BLOCK",
    "HELD_VECTORS",
    "SIMULATED",
    "WARP",
    "add_count",
    "advance",
    "barrier",
    "device_function",
    "exponential",
    "fill_words",
    "given",
    "largest",
    "lead",
    "load",
    "load_bytes",
    "load_element",
    "load_vector",
    "load_words",
    "logarithm",
    "maximum",
    "recomputed",
    "row_at",
    "shuffle_xor",
    "store",
    "store_vector",
    "thread_index",
    "thread_scratch",
    "unpack",
    "warp_scratch",
    "width",
]
