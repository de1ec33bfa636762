"""Memory: the host's own at real addresses, within declared regions, and the shared and local memory of threads."""

from __future__ import annotations

import ctypes
from bisect import bisect_right, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import PtxError
from .hazards import Hazards
from .program import Variables

# An item of 16 bytes is moved as a complex number, whose bits copying keeps.
ITEMS = {1: np.dtype("u1"), 2: np.dtype("u2"), 4: np.dtype("u4"), 8: np.dtype("u8"), 16: np.dtype("c16")}

_FIRST = 4096  # no object is in the first page
_BYTES = np.ctypeslib.as_array((ctypes.c_uint8 * (2**52 - _FIRST)).from_address(_FIRST))
_HOST = {size: _BYTES.view(dtype) for size, dtype in ITEMS.items()}  # the host's memory, as items of each size


@dataclass(frozen=True, order=True)
class Region:
    """Memory that a kernel may read, and write if ``writable``: ``rows`` pieces of ``row_bytes``, ``stride`` apart."""

    address: int
    row_bytes: int
    rows: int = 1
    stride: int = 0
    writable: bool = True

    @property
    def start(self) -> int:
        """Its lowest address."""
        return self.address + min(0, (self.rows - 1) * self.stride)

    @property
    def end(self) -> int:
        """The address after its last byte."""
        return self.address + max(0, (self.rows - 1) * self.stride) + self.row_bytes

    def holds(self, addresses: np.ndarray, size: int) -> np.ndarray:
        """Whether each access of that many bytes is inside."""
        inside = (addresses >= self.start) & (addresses + np.uint64(size) <= self.end)
        if self.rows > 1 and abs(self.stride) > self.row_bytes:
            past = (addresses - np.uint64(self.start)) % np.uint64(abs(self.stride))
            inside &= past + np.uint64(size) <= self.row_bytes
        return inside


class Memory:
    """The allocations on the device, which is the host's memory."""

    def __init__(self, regions: Iterable[tuple[int, int, bool]] = ()) -> None:
        self._regions: list[Region] = []
        for address, size, writable in regions:
            self.add(address, size, writable)

    def add(self, address: int, size: int, writable: bool = True) -> None:
        """Allow kernels to use ``size`` bytes from an address on."""
        insort(self._regions, Region(address, size, writable=writable))

    def remove(self, address: int) -> None:
        """Forget the region that starts at an address."""
        del self._regions[self._before(address)]

    def at(self, address: int) -> Region | None:
        """The region that an address is in."""
        place = self._before(address)
        return self._regions[place] if place >= 0 and address < self._regions[place].end else None

    def _before(self, address: int) -> int:
        return bisect_right(self._regions, address, key=lambda region: region.address) - 1


def _allocated(array: Region, memory: Memory) -> bool:
    region = memory.at(array.start)
    return region is not None and array.end <= region.end and array.writable <= region.writable


class GlobalMemory:
    """What one launch may use of the memory: the regions that its arguments point into, or the arrays it declares."""

    def __init__(self, memory: Memory, values: Sequence[Any], arrays: Sequence[Region] | None) -> None:
        self.hazards: dict[Region, Hazards] = {}
        if arrays is None:
            found = (memory.at(value) for value in values if isinstance(value, int) and value)
            self.regions = list(dict.fromkeys(region for region in found if region))
            return
        self.regions = [array for array in arrays if array.row_bytes and array.rows and _allocated(array, memory)]

    def watch(self, memory: Memory, granule: int) -> None:
        """Note who accesses the memory that may be written."""
        written = dict.fromkeys(memory.at(region.start) for region in self.regions if region.writable)
        self.hazards = {region: Hazards(region.row_bytes // granule + 1) for region in written}

    def check(self, addresses: np.ndarray, size: int, writing: bool) -> None:
        """Refuse an access that is misaligned or outside."""
        if size > 1 and np.any(addresses & np.uint64(size - 1)):
            raise PtxError(f"misaligned access of {size} bytes")
        low, high = int(addresses.min()), int(addresses.max()) + size
        outside = None
        for region in self.regions:
            if writing and not region.writable:
                continue
            dense = region.rows == 1 or abs(region.stride) <= region.row_bytes
            if dense and region.start <= low and high <= region.end:
                return
            inside = region.holds(addresses, size)
            outside = ~inside if outside is None else outside & ~inside
            if not outside.any():
                return
        count = addresses.size if outside is None else int(outside.sum())
        where = addresses if outside is None else addresses[outside]
        action = "written" if writing else "read"
        raise PtxError(f"{size} bytes at {int(where[0]):#x} {action} outside every array, by {count} threads")

    @staticmethod
    def items(addresses: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
        """The host's memory as items of that size, and the items at the addresses."""
        return _HOST[size], (addresses - np.uint64(_FIRST)).view(np.int64) // size


class Window:
    """Shared or local memory: a piece for each block or thread. What is not written yet must not be read."""

    def __init__(self, name: str, variables: Variables, owners: int) -> None:
        self.name = name
        self.size = -(-(variables.size + 16) // 16) * 16
        self.bytes = np.zeros(owners * self.size, np.uint8)
        self.written = np.zeros(owners * self.size, bool)
        self.exists = np.zeros(self.size, bool)
        for place in variables.places.values():
            self.exists[place.start : place.stop] = True

    def check(self, addresses: np.ndarray, owners: np.ndarray, size: int, writing: bool) -> None:
        """Refuse an access that is misaligned, outside every variable, or reads what was not written."""
        if np.any(addresses & np.uint64(size - 1)):
            raise PtxError(f"misaligned access of {size} bytes in {self.name} memory")
        if int(addresses.max()) + size > self.size or not self.exists[addresses + np.uint64(size - 1)].all():
            raise PtxError(f"access of {size} bytes outside every variable in {self.name} memory")
        if not self.exists[addresses].all():
            raise PtxError(f"access of {size} bytes outside every variable in {self.name} memory")
        places = self.places(addresses, owners, size)
        written = self.written.view(ITEMS[size])
        if writing:
            written[places] = np.frombuffer(b"\1" * size, ITEMS[size])[0]
        elif not self.written.reshape(-1, size)[places].all():
            raise PtxError(f"{self.name} memory is read before it is written")

    def places(self, addresses: np.ndarray, owners: np.ndarray, size: int) -> np.ndarray:
        """The items of that size at the addresses of each owner."""
        return (owners * self.size).astype(np.int64) // size + (addresses // np.uint64(size)).astype(np.int64)

    def items(self, addresses: np.ndarray, owners: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
        """The memory as items of that size, and the items at the addresses."""
        return self.bytes.view(ITEMS[size]), self.places(addresses, owners, size)
