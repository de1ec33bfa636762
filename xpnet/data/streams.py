"""Bounded reads of files whose headers may declare more bytes than there are."""

from __future__ import annotations

from array import array
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
    data = array("B")  # grows by a sixteenth, in place; NumPy 2.5 copies an array to resize it
    while len(data) < size and (chunk := stream.read(min(CHUNK, size - len(data)))):
        data.frombytes(chunk)
    return np.frombuffer(data, np.uint8)
