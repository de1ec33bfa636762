"""Blocks that run at the same time: their memory accesses, checked and counted, and the order of their threads.

Threads run a basic block at a time, those at the lowest basic block first, so that threads which part meet again.
A warp's threads wait at a shuffle, and a block's at a barrier, until all have come.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .counts import Counter
from .errors import PtxError
from .hazards import Hazards, tags
from .instructions import translated
from .memory import ITEMS, GlobalMemory, Window
from .program import Program
from .registers import Active, Registers
from .synchronisation import popcount, shuffle

WARP = 32
_RACE = "threads race for global memory: no barrier is between their accesses, and one writes"


class Wave:
    """Some blocks of a launch."""

    def __init__(
        self, program: Program, parameters: Sequence[Any], grid: tuple[int, int, int], block: tuple[int, int, int],
        blocks: range, memory: GlobalMemory, counter: Counter | None,
    ) -> None:  # fmt: skip
        self.program, self.parameters, self.memory, self.counter = program, parameters, memory, counter
        self.block_threads = block[0] * block[1] * block[2]
        count = len(blocks)
        self.threads = count * self.block_threads
        lane = np.arange(self.threads)
        self.block_of, self.thread_of = lane // self.block_threads, lane % self.block_threads
        warps = -(-self.block_threads // WARP)
        self.place_of = self.block_of * warps * WARP + self.thread_of  # as if blocks were whole warps
        self.warp_of = self.place_of // WARP
        self.first_block, self.blocks = blocks.start, count
        self.registers = Registers(self.threads, self._special(grid, block))
        self.shared = Window("shared", program.shared, count)
        self.local = Window("local", program.local, self.threads)
        self.granule = program.smallest["shared"]
        self.hazards = Hazards(count * self.shared.size // self.granule)
        self.epochs = np.zeros(count, np.int64)
        self.waiting: dict[int, np.ndarray] = {}  # basic block: the threads that wait there

    def _special(self, grid: tuple[int, int, int], block: tuple[int, int, int]) -> dict[str, Any]:
        special: dict[str, Any] = {"%laneid": (self.thread_of % WARP).astype(np.uint32)}
        places = {
            "tid": np.unravel_index(self.thread_of, block[::-1]),
            "ctaid": np.unravel_index(self.block_of + self.first_block, grid[::-1]),
        }
        for k, axis in enumerate("xyz"):
            for name, indices in places.items():
                special[f"%{name}.{axis}"] = indices[2 - k].astype(np.uint32)
            special[f"%ntid.{axis}"], special[f"%nctaid.{axis}"] = np.uint32(block[k]), np.uint32(grid[k])
        return special

    # Memory.

    def load(self, space: str, addresses: Any, size: int, lanes: np.ndarray) -> np.ndarray:
        """The items of that size: one a thread, or a single one if all threads have one address."""
        if space == "global":
            addresses = np.atleast_1d(addresses)
            self.memory.check(addresses, size, writing=False)
            if self.counter:
                every = np.broadcast_to(addresses, len(lanes))
                self.counter.access("loads", every, size, self.warp_of[lanes])
            if self.memory.hazards:
                self._check_reads(np.broadcast_to(addresses, len(lanes)), size, lanes)
            items, places = self.memory.items(addresses, size)
        else:
            items, places = self._window(space, addresses, size, lanes, writing=False)
        return items.take(places)

    def store(self, space: str, addresses: Any, values: np.ndarray, lanes: np.ndarray) -> None:
        """Store a row of values for each thread."""
        size = values.shape[1] * values.itemsize
        addresses = np.broadcast_to(addresses, len(lanes))
        if space == "global":
            self.memory.check(addresses, size, writing=True)
            if self.counter:
                self.counter.access("stores", addresses, size, self.warp_of[lanes])
            if self.memory.hazards:
                self._check_writes(addresses, size, lanes, values.view(ITEMS[size])[:, 0])
            items, places = self.memory.items(addresses, size)
        else:
            items, places = self._window(space, addresses, size, lanes, writing=True)
        items[places] = values.view(ITEMS[size])[:, 0]

    def add(self, addresses: Any, values: Any, dtype: np.dtype, lanes: np.ndarray) -> None:
        """Add to global memory atomically."""
        addresses = np.broadcast_to(addresses, len(lanes))
        self.memory.check(addresses, dtype.itemsize, writing=True)
        if self.counter:
            self.counter.counts.atomics += len(lanes)
        for hazards, _, granules, by in self._watched(addresses, dtype.itemsize, lanes):
            if hazards.add(granules, by).any():
                raise PtxError(_RACE)
        items, places = self.memory.items(addresses, dtype.itemsize)
        different, which = np.unique(places, return_inverse=True)
        sums = items[different].view(dtype)
        np.add.at(sums, which, np.broadcast_to(values, len(lanes)))
        items[different] = sums.view(items.dtype)

    def _window(
        self, space: str, addresses: Any, size: int, lanes: np.ndarray, writing: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        addresses = np.broadcast_to(addresses, len(lanes))
        window, owners = (self.shared, self.block_of) if space == "shared" else (self.local, self.registers.lanes)
        owner = owners[lanes]
        window.check(addresses, owner, size, writing)
        if space == "shared":
            places = window.places(addresses, owner, self.granule)
            granules, by = _spread(places, self._tags(lanes), size // self.granule)
            hazard = np.logical_or(*self.hazards.write(granules, by)) if writing else self.hazards.read(granules, by)
            if hazard.any():
                action = "written" if writing else "read"
                raise PtxError(f"shared memory {action} with no barrier after another thread's access")
            if self.counter:
                self.counter.shared(addresses, size, self.place_of[lanes])
        return window.items(addresses, owner, size)

    def _tags(self, lanes: np.ndarray) -> np.ndarray:
        blocks = self.block_of[lanes]
        return tags(self.epochs[blocks], blocks + self.first_block, self.thread_of[lanes])

    def _watched(
        self, addresses: np.ndarray, size: int, lanes: np.ndarray
    ) -> Iterator[tuple[Hazards, np.ndarray, np.ndarray, np.ndarray]]:
        """The hazards of each allocation that is accessed, which threads access it, the granules, and by whom."""
        granule = self.program.smallest["global"]
        for region, hazards in self.memory.hazards.items():
            inside = np.flatnonzero(region.holds(addresses, size))
            if len(inside):
                places = (addresses[inside] - np.uint64(region.address)).view(np.int64) // granule
                yield hazards, inside, *_spread(places, self._tags(lanes[inside]), size // granule)

    def _check_reads(self, addresses: np.ndarray, size: int, lanes: np.ndarray) -> None:
        for hazards, _, granules, by in self._watched(addresses, size, lanes):
            if hazards.read(granules, by).any():
                raise PtxError(_RACE)

    def _check_writes(self, addresses: np.ndarray, size: int, lanes: np.ndarray, values: np.ndarray) -> None:
        """Refuse writes that race with other threads' accesses, unless they write what these do."""
        items, places = self.memory.items(addresses, size)
        before = items[places]
        items[places] = values
        kept = items[places]
        for hazards, inside, granules, by in self._watched(addresses, size, lanes):
            after, at_once = (hazard.reshape(len(inside), -1).any(axis=1) for hazard in hazards.write(granules, by))
            if (after & _differ(before, values)[inside]).any() or (at_once & _differ(kept, values)[inside]).any():
                raise PtxError(_RACE)

    # Order.

    def run(self) -> None:
        """Run all threads to their end."""
        ready = {0: self.registers.lanes}
        while ready:
            place = min(ready)
            lanes = ready.pop(place)
            registers = self.registers if len(lanes) == self.threads else Active(self.registers, lanes)
            block, steps = self.program.blocks[place], translated(self.program, place)
            if self.counter:
                self.counter.instructions(block.cost, self.warp_of[lanes])
            for step, instruction in steps:
                try:
                    step(registers, self)
                except PtxError as error:
                    raise PtxError(f"{error}: {instruction.text}") from error
            if isinstance(registers, Active):
                registers.write_back(block.exports)
            for target, some in self._go_on(place, registers):
                if len(some):
                    others = ready.get(target)
                    ready[target] = some if others is None else np.sort(np.concatenate([others, some]))
        if self.waiting:
            place, lanes = self.waiting.popitem()
            end = self.program.blocks[place].end
            raise PtxError(
                f"thread {self.thread_of[lanes[0]]} of block {self.block_of[lanes[0]] + self.first_block} and "
                f"{len(lanes) - 1} more wait for ever: others of their warp or block do not come to: {end.text}"
            )

    def _go_on(self, place: int, registers: Registers | Active) -> Iterator[tuple[int, np.ndarray]]:
        """Where the threads go after a basic block."""
        end, lanes = self.program.blocks[place].end, registers.lanes
        if end is None:
            yield place + 1, lanes
        elif end.opcode == "bra":
            target = self.program.labels[end.operands[0]]
            if end.guard is None:
                yield target, lanes
                return
            taken = registers[end.guard]
            if end.negated:
                taken = ~taken
            if taken.ndim == 0:
                yield (target if taken else place + 1), lanes
                return
            if self.counter:
                self.counter.branch(self.warp_of[lanes], taken)
            yield target, lanes[taken]
            yield place + 1, lanes[~taken]
        elif end.opcode == "shfl":
            yield place + 1, self._wait(place, lanes, self._shuffle)
        elif end.opcode in ("bar", "barrier"):
            yield place + 1, self._wait(place, lanes, self._barrier)

    def _wait(self, place: int, lanes: np.ndarray, synchronise: Any) -> np.ndarray:
        """Those of the threads that wait at a place which go on."""
        if place in self.waiting:
            lanes = np.sort(np.concatenate([self.waiting.pop(place), lanes]))
        gone = synchronise(self.program.blocks[place].end, lanes)
        if not gone.all():
            self.waiting[place] = lanes[~gone]
        return lanes[gone]

    def _shuffle(self, end: Any, lanes: np.ndarray) -> np.ndarray:
        complete = shuffle(self, end, lanes)
        if self.counter:
            self.counter.counts.shuffles += len(np.unique(self.warp_of[lanes[complete]]))
        return complete

    def _barrier(self, end: Any, lanes: np.ndarray) -> np.ndarray:
        whole = np.bincount(self.block_of[lanes], minlength=self.blocks) == self.block_threads
        complete = whole[self.block_of[lanes]]
        if complete.any():
            popcount(self, end, lanes[complete])
            self.epochs[whole] += 1
            if self.counter:
                self.counter.counts.barriers += int(whole.sum())
        return complete


def _differ(items: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Whether the bits differ."""
    pair = (np.ascontiguousarray(some).view(np.uint8).reshape(len(some), -1) for some in (items, others))
    return np.not_equal(*pair).any(axis=1)


def _spread(places: np.ndarray, by: np.ndarray, many: int) -> tuple[np.ndarray, np.ndarray]:
    """The granules of accesses to several each, and by whom."""
    if many <= 1:
        return places, by
    return (places[:, None] + np.arange(many)).ravel(), np.repeat(by, many)
