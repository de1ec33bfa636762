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
        load_vector,
        logarithm,
        recomputed,
        scratch,
        shuffle_xor,
        store,
        store_vector,
        thread_index,
        width,
    )
else:
    from .device import (
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
        load_vector,
        logarithm,
        recomputed,
        scratch,
        shuffle_xor,
        store,
        store_vector,
        thread_index,
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
    "load_vector",
    "logarithm",
    "recomputed",
    "scratch",
    "shuffle_xor",
    "store",
    "store_vector",
    "thread_index",
    "width",
]
