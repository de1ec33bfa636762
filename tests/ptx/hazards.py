"""Accesses of different threads to the same memory with no barrier between them, one of which writes.

For each granule of memory (the smallest item that the kernel accesses) the last write, read and atomic addition are
kept, as ``epoch << 40 | block << 16 | thread + 1``, where the epoch counts the block's barriers. Two accesses are in
order if they are of one thread, or of one block in different epochs, or if both are atomic.
"""

from __future__ import annotations

import numpy as np

_THREAD = 0xFFFF
_BLOCK = 0xFFFFFF << 16
_WHO = _THREAD | _BLOCK
_EPOCH = 40
_SEVERAL = _THREAD  # in place of a thread: several threads of the block; in place of a block: several blocks


def tags(epochs: np.ndarray, blocks: np.ndarray, threads: np.ndarray) -> np.ndarray:
    """What is kept of an access by these threads of these blocks."""
    return (epochs << _EPOCH) | (blocks << 16) | (threads + 1)


def _unordered(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    different = old ^ new
    other_block = different & _BLOCK != 0
    same_epoch = different >> _EPOCH == 0
    return (old != 0) & (different & _WHO != 0) & (other_block | same_epoch)


def _joined(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """The record of accesses by several threads."""
    return np.where((old ^ new) & _BLOCK != 0, new | _BLOCK | _SEVERAL, new | _SEVERAL)


class Hazards:
    """The last accesses to some memory."""

    def __init__(self, granules: int) -> None:
        self.writes = np.zeros(granules, np.int64)
        self.reads = np.zeros(granules, np.int64)
        self.additions = np.zeros(granules, np.int64)

    def read(self, granules: np.ndarray, by: np.ndarray) -> np.ndarray:
        """Note the reads; return which come after a change by another thread without a barrier."""
        by = _note(self.reads, granules, by)
        return _unordered(self.writes[granules], by) | _unordered(self.additions[granules], by)

    def add(self, granules: np.ndarray, by: np.ndarray) -> np.ndarray:
        """Note the atomic additions; return which come after another thread's read or write without a barrier."""
        by = _note(self.additions, granules, by)
        return _unordered(self.writes[granules], by) | _unordered(self.reads[granules], by)

    def write(self, granules: np.ndarray, by: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Note the writes; return which come after an access of another thread without a barrier, and which at once."""
        after = np.logical_or.reduce(
            [_unordered(noted[granules], by) for noted in (self.writes, self.reads, self.additions)]
        )
        self.writes[granules] = by
        return after, self.writes[granules] != by


def _note(noted: np.ndarray, granules: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Note accesses that several threads may make at once; return what is noted of each."""
    before = noted[granules]
    if before.any():
        by = np.where(_unordered(before, by), _joined(before, by), by)
    noted[granules] = by
    kept = noted[granules]  # of threads that access the same granule at once, one
    if (clash := kept != by).any():
        noted[granules[clash]] = _joined(kept[clash], by[clash])
    return by
