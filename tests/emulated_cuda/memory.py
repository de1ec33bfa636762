"""Device memory: blocks of host memory, handed out and taken back as CuPy's memory pool does it."""

from __future__ import annotations

import threading
from collections import defaultdict
from typing import Any

import numpy as np

from tests.ptx import Memory

ALIGNMENT = 512  # bytes, of a block's address and size: those of CuPy's pool
GUARD = 512  # bytes before and after a block, which are no device memory
CAPACITY = 4 << 30  # bytes of memory that a device says it has
UNINITIALISED = 0xFF  # NaN as a floating-point number, -1 as an integer


class OutOfMemoryError(MemoryError):
    """The message is CuPy's."""

    def __init__(self, size: int, allocated: int, limit: int = 0) -> None:
        bounded = f", limit set to: {limit:,} bytes" if limit else ""
        super().__init__(f"Out of memory allocating {size:,} bytes (allocated so far: {allocated:,} bytes{bounded}).")


class OutOfBoundsError(Exception):
    """An access to what is not the memory of an array."""


class Chunk:
    """Memory that the pool owns; blocks come and go in it.

    Attributes:
        accesses: which stream wrote it last and which read it since, see :mod:`tests.emulated_cuda.streams`.
    """

    def __init__(self, size: int, device: int) -> None:
        self.room = np.full(size + 2 * GUARD + ALIGNMENT, UNINITIALISED, np.uint8)
        start = self.room.__array_interface__["data"][0]
        self.offset = GUARD + -(start + GUARD) % ALIGNMENT
        self.address = start + self.offset
        self.size, self.device = size, device
        self.accesses: Any = None


class Block:
    """The memory of an array and its views; it goes back to the pool when the last of them is gone."""

    __slots__ = ("__weakref__", "chunk", "nbytes", "stream")

    def __init__(self, chunk: Chunk, nbytes: int, stream: int) -> None:
        self.chunk, self.nbytes, self.stream = chunk, nbytes, stream

    @property
    def device(self) -> int:
        """The number of the device."""
        return self.chunk.device

    @property
    def address(self) -> int:
        """Of the first byte."""
        return self.chunk.address

    @property
    def contents(self) -> np.ndarray:
        """The bytes, (nbytes,) uint8."""
        return self.chunk.room[self.chunk.offset : self.chunk.offset + self.nbytes]

    def __del__(self) -> None:
        _pool.take_back(self)


class MemoryPool:
    """CuPy's ``MemoryPool`` for all devices: memory is kept, and reused on the stream that it was allocated on."""

    def __init__(self) -> None:
        self._free: dict[tuple[int, int, int], list[Chunk]] = defaultdict(list)  # by device, stream and size
        self._chunks: dict[int, Chunk] = {}  # in use, by address
        self._used = self._held = self._limit = 0
        self.memory = Memory()  # the arrays, for kernels
        self._lock = threading.RLock()
        self.keeps = True

    def allocate(self, nbytes: int, device: int, stream: int) -> Block:
        """A block of so many bytes, uninitialised."""
        size = max(-(-nbytes // ALIGNMENT), 1) * ALIGNMENT
        with self._lock:
            free = self._free[device, stream, size]
            if free:
                chunk = free.pop()
                chunk.room.fill(UNINITIALISED)
            else:
                self._require_room(size)
                chunk = Chunk(size, device)
                self._held += size
            self._used += size
            self._chunks[chunk.address] = chunk
            if nbytes:
                self.memory.add(chunk.address, nbytes)
        return Block(chunk, nbytes, stream)

    def _require_room(self, size: int) -> None:
        limit = self._limit or CAPACITY
        if self._held + size > limit:
            self.free_all_blocks()
        if self._held + size > limit:
            raise OutOfMemoryError(size, self._held, self._limit)

    def take_back(self, block: Block) -> None:
        """End the life of a block."""
        chunk = block.chunk
        with self._lock:
            del self._chunks[chunk.address]
            if block.nbytes:
                self.memory.remove(chunk.address)
            self._used -= chunk.size
            if self.keeps:
                self._free[block.device, block.stream, chunk.size].append(chunk)
            else:
                self._held -= chunk.size

    def chunk_at(self, address: int, nbytes: int = 1) -> Chunk:
        """The chunk of the array that holds so many bytes from the address on."""
        with self._lock:
            region = self.memory.at(address)
            if region is None or address + nbytes > region.end:
                raise OutOfBoundsError(f"{nbytes} bytes at {address:#x} are not within an array on a device")
            return self._chunks[region.address]

    # CuPy's methods

    def used_bytes(self) -> int:
        return self._used

    def total_bytes(self) -> int:
        return self._held

    def free_bytes(self) -> int:
        return self._held - self._used

    def free_all_blocks(self, stream: Any = None) -> None:
        with self._lock:
            self._held -= sum(chunk.size for chunks in self._free.values() for chunk in chunks)
            self._free.clear()

    def set_limit(self, size: int | None = None, fraction: float | None = None) -> None:
        self._limit = int(CAPACITY * fraction) if fraction is not None else size or 0

    def get_limit(self) -> int:
        return self._limit


_pool = MemoryPool()


def pool() -> MemoryPool:
    """The pool, which is that of the process, as CuPy's is."""
    return _pool
