"""What the kernels ask of CUDA's driver besides launches."""

from __future__ import annotations

import ctypes

from .memory import pool
from .streams import queue


def fill_rows(address: int, pitch: int, value: int, width: int, height: int, stream: int) -> tuple[int]:
    """cuMemsetD2D8Async: ``height`` rows of ``width`` bytes, ``pitch`` bytes apart."""
    chunk = pool().chunk_at(address, (height - 1) * pitch + width)
    queue("memset", [], [chunk], stream)
    for row in range(height):
        ctypes.memset(address + row * pitch, value, width)
    return (0,)
