"""What a launch costs, as far as it can be counted: instructions, memory transactions, barriers."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import numpy as np

SECTOR = 32  # bytes that global memory moves at least


@dataclass
class Traffic:
    """Accesses to global memory in one direction."""

    requests: int = 0  # instructions of a warp
    bytes: int = 0  # asked for by the threads
    sectors: int = 0  # of 32 bytes, that the warps' requests touch
    distinct_sectors: int = 0  # that the launch touches

    def __add__(self, other: Traffic) -> Traffic:
        return _sum(self, other)


@dataclass
class Counts:
    """Of a launch, or the sum of several."""

    warp_instructions: int = 0
    thread_instructions: int = 0
    loads: Traffic = field(default_factory=Traffic)
    stores: Traffic = field(default_factory=Traffic)
    shared_requests: int = 0  # of a warp, or of a half or a quarter of one for 8 or 16 bytes a thread
    bank_conflicts: int = 0  # further passes that they need
    barriers: int = 0  # passed by a block
    shuffles: int = 0  # of a warp
    atomics: int = 0  # of a thread
    divergent_branches: int = 0  # at which a warp splits

    def __add__(self, other: Counts) -> Counts:
        return _sum(self, other)


def _sum(one, other):
    return type(one)(*(getattr(one, f.name) + getattr(other, f.name) for f in fields(one)))


def groups(sorted_keys: np.ndarray) -> int:
    """The number of different keys."""
    return 1 + int(np.count_nonzero(sorted_keys[1:] != sorted_keys[:-1])) if len(sorted_keys) else 0


def distinct(keys: np.ndarray) -> np.ndarray:
    """The different keys, in order."""
    if np.any(keys[1:] < keys[:-1]):
        keys = np.sort(keys)
    return keys[np.concatenate([[True], keys[1:] != keys[:-1]])] if len(keys) else keys


class Counter:
    """Counts while blocks run."""

    def __init__(self) -> None:
        self.counts = Counts()
        self._touched: dict[str, list[np.ndarray]] = {"loads": [], "stores": []}

    def instructions(self, number: int, warps: np.ndarray) -> None:
        """Threads of these warps run so many instructions."""
        self.counts.warp_instructions += number * groups(warps)
        self.counts.thread_instructions += number * len(warps)

    def access(self, direction: str, addresses: np.ndarray, size: int, warps: np.ndarray) -> None:
        """Threads of these warps load or store that many bytes each."""
        traffic: Traffic = getattr(self.counts, direction)
        traffic.requests += groups(warps)
        traffic.bytes += size * len(warps)
        sectors = (addresses >> np.uint64(5)).view(np.int64)
        traffic.sectors += len(touched := distinct((warps << 43) | sectors))
        self._touched[direction].append(distinct(touched & (2**43 - 1)))

    def shared(self, addresses: np.ndarray, size: int, places: np.ndarray) -> None:
        """Threads access that many bytes each of shared memory; ``places`` numbers them, 32 to a warp."""
        at_once = np.repeat(
            places * max(size, 4) // 128, max(size // 4, 1)
        )  # the parts of a warp that are served at once
        words = (
            (addresses[:, None] // np.uint64(4) + np.arange(max(size // 4, 1), dtype=np.uint64)).ravel().view(np.int64)
        )
        keys = distinct((at_once << 37) | (words % 32 << 32) | words // 32)
        passes = np.zeros(int(at_once.max()) + 1, np.int64)
        banks, times = np.unique(keys >> 32, return_counts=True)
        np.maximum.at(passes, banks >> 5, times)
        number = int(np.count_nonzero(passes))
        self.counts.shared_requests += number
        self.counts.bank_conflicts += int(passes.sum()) - number

    def branch(self, warps: np.ndarray, taken: np.ndarray) -> None:
        """Threads of these warps branch or do not."""
        changes = np.concatenate([[0], np.flatnonzero(warps[1:] != warps[:-1]) + 1])
        some, all_ = np.logical_or.reduceat(taken, changes), np.logical_and.reduceat(taken, changes)
        self.counts.divergent_branches += int(np.count_nonzero(some & ~all_))

    def finish(self) -> Counts:
        """The counts of the launch."""
        for direction, touched in self._touched.items():
            if touched:
                getattr(self.counts, direction).distinct_sectors = len(np.unique(np.concatenate(touched)))
        return self.counts
