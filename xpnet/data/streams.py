"""Bounded reads of files whose headers may declare more bytes than there are."""

from __future__ import annotations

from typing import Protocol

import numpy as np

CHUNK = 2**16


class Stream(Protocol):
    """A file, or a decompressor of one."""

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes; none at the end."""


def read_at_most(stream: Stream, size: int) -> np.ndarray:
    """The next ``size`` bytes, or as many as there are: uint8.

    Reads in chunks, since ``read(size)`` allocates ``size`` bytes even for a short file. Allocates at most twice the
    bytes that are present.

    >>> import io
    >>> read_at_most(io.BytesIO(b"abc"), 2**60).tobytes()
    b'abc'
    """
    data, filled = np.empty(max(0, min(size, CHUNK)), np.uint8), 0
    while filled < size:
        if filled == len(data):
            data.resize(min(size, 2 * filled), refcheck=False)
        chunk = stream.read(min(CHUNK, len(data) - filled))
        if not chunk:
            break
        data[filled : filled + len(chunk)] = np.frombuffer(chunk, np.uint8)
        filled += len(chunk)
    data.resize(filled, refcheck=False)
    return data
