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
        HELD_BYTES,
        WARP,
        add_count,
        advance,
        barrier,
        device_function,
        exponential,
        given,
        lead,
        load,
        load_bytes,
        load_element,
        load_vector,
        load_words,
        logarithm,
        recomputed,
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
        HELD_BYTES,
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
        load_bytes,
        load_element,
        load_vector,
        load_words,
        store,
        store_vector,
        unpack,
        width,
    )

__all__ = [
    "BLOCK",
    "HELD_BYTES",
    "SIMULATED",
    "WARP",
    "add_count",
    "advance",
    "barrier",
    "device_function",
    "exponential",
    "given",
    "lead",
    "load",
    "load_bytes",
    "load_element",
    "load_vector",
    "load_words",
    "logarithm",
    "recomputed",
    "shuffle_xor",
    "store",
    "store_vector",
    "thread_index",
    "thread_scratch",
    "unpack",
    "warp_scratch",
    "width",
]
