"""Devices, streams and events. Operations run at once; an order that nothing determines on a GPU is an error.

Each stream has a vector clock: for every stream, how many of its operations are certain to precede the next operation
here. An access to memory that another stream wrote, or a write to what another stream reads, without an event or a wait
between them, raises StreamRaceError (after Lamport, "Time, clocks, and the ordering of events in a distributed system",
Communications of the ACM 21, 1978).
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterable
from typing import Any, ClassVar

from .memory import CAPACITY, Chunk, pool
from .record import note_operation, note_synchronization

DEVICES = 2

Clock = dict[int, int]

_lock = threading.RLock()
_host: Clock = {}  # what the host has waited for, in any thread


class StreamRaceError(Exception):
    """Two streams access the same memory, in an order that nothing determines."""


class _Accesses:
    """Who wrote memory last, and who read it since, as (stream, number of its operation)."""

    def __init__(self) -> None:
        self.written: tuple[int, int] | None = None
        self.read: Clock = {}


def _join(clock: Clock, other: Clock) -> None:
    for stream, count in other.items():
        if count > clock.get(stream, 0):
            clock[stream] = count


class _Current(threading.local):
    """What CuPy keeps per thread."""

    def __init__(self) -> None:
        self.device = 0
        self.streams: dict[int, BaseStream] = {}
        self.entered: list[Any] = []  # what contexts of devices and streams go back to


_current = _Current()


class Device:
    """One of two devices."""

    def __init__(self, device: int | Device | None = None) -> None:
        self.id = _current.device if device is None else int(device)

    def __int__(self) -> int:
        return self.id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and self.id == other.id

    def __hash__(self) -> int:
        return self.id

    def __repr__(self) -> str:
        return f"<CUDA Device {self.id}>"

    def use(self) -> None:
        if not 0 <= self.id < DEVICES:
            raise CUDARuntimeError("cudaErrorInvalidDevice: invalid device ordinal")
        _current.device = self.id

    def __enter__(self) -> Device:
        _current.entered.append(_current.device)
        self.use()
        return self

    def __exit__(self, *error: object) -> None:
        _current.device = _current.entered.pop()

    def synchronize(self) -> None:
        note_synchronization("Device.synchronize")
        with _lock:
            for clock in _clocks.values():
                _join(_host, clock)

    compute_capability = "90"
    mem_info = property(lambda self: memory_info())


class CUDARuntimeError(RuntimeError):
    """An error of the CUDA runtime."""


def memory_info() -> tuple[int, int]:
    """Free and total bytes, as ``cudaMemGetInfo`` gives them."""
    return CAPACITY - pool().total_bytes(), CAPACITY


_handles = itertools.count(0x5000, 0x10)
_clocks: dict[int, Clock] = {}
_blocking: set[int] = {0}


class BaseStream:
    """A stream by its handle."""

    null: ClassVar[BaseStream]

    def __init__(self, ptr: int, device_id: int) -> None:
        self.ptr, self.device_id = ptr, device_id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BaseStream) and self.ptr == other.ptr

    def __hash__(self) -> int:
        return hash(self.ptr)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.ptr} (device {self.device_id})>"

    def use(self) -> BaseStream:
        _current.streams[_current.device] = self
        return self

    def __enter__(self) -> BaseStream:
        _current.entered.append(get_current_stream())
        return self.use()

    def __exit__(self, *error: object) -> None:
        _current.entered.pop().use()

    def synchronize(self) -> None:
        note_synchronization("Stream.synchronize")
        wait_for(self.ptr)

    @property
    def done(self) -> bool:
        return True

    def record(self, event: Event | None = None) -> Event:
        event = Event() if event is None else event
        event.record(self)
        return event

    def wait_event(self, event: Event) -> None:
        with _lock:
            _join(_clocks.setdefault(self.ptr, {}), event.clock)


class Stream(BaseStream):
    """A new stream; or the default stream of the device."""

    def __init__(self, null: bool = False, non_blocking: bool = False, ptds: bool = False) -> None:
        super().__init__(0 if null else next(_handles), _current.device)
        if not non_blocking:
            _blocking.add(self.ptr)


class ExternalStream(BaseStream):
    """A stream that something else made."""

    def __init__(self, ptr: int, device_id: int = -1) -> None:
        super().__init__(ptr, device_id)


BaseStream.null = Stream(null=True)


def get_current_stream(device_id: int = -1) -> BaseStream:
    """The stream that CuPy works on, in this thread."""
    device = _current.device if device_id < 0 else device_id
    return _current.streams.get(device, BaseStream.null)


def current_device() -> int:
    """The number of the device that CuPy works on, in this thread."""
    return _current.device


class Event:
    """A point in a stream."""

    def __init__(self, block: bool = False, disable_timing: bool = False, interprocess: bool = False) -> None:
        self.clock: Clock = {}
        self.time = 0.0
        self.done = True

    def record(self, stream: BaseStream | None = None) -> None:
        handle = (stream or get_current_stream()).ptr
        with _lock:
            self.clock = dict(_ordered(handle))
        self.time = time.perf_counter()

    def synchronize(self) -> None:
        note_synchronization("Event.synchronize")
        with _lock:
            _join(_host, self.clock)


def get_elapsed_time(start_event: Event, end_event: Event) -> float:
    """The milliseconds between two events; both must be over."""
    if any(_host.get(stream, 0) < count for stream, count in end_event.clock.items()):
        raise CUDARuntimeError("cudaErrorNotReady: device not ready")
    return (end_event.time - start_event.time) * 1e3


def wait_for(handle: int) -> None:
    """Let the host wait for what was queued on the stream."""
    with _lock:
        _join(_host, _ordered(handle))


def _ordered(handle: int) -> Clock:
    """The clock of a stream, after what its next operation waits for in any case."""
    clock = _clocks.setdefault(handle, {})
    _join(clock, _host)
    if handle == 0:  # the default stream waits for the blocking streams, and they for it
        for blocking in _blocking:
            _join(clock, _clocks.get(blocking, {}))
    elif handle in _blocking:
        _join(clock, _clocks.get(0, {}))
    return clock


def queue(name: str, reads: Iterable[Chunk], writes: Iterable[Chunk], handle: int | None = None) -> None:
    """Count an operation on a stream, by default the current one, and check that its accesses are in order."""
    note_operation(name)
    access(name, reads, writes, handle)


def access(name: str, reads: Iterable[Chunk], writes: Iterable[Chunk], handle: int | None = None) -> None:
    """Check that the accesses of what is called ``name`` are ordered after those of other streams."""
    stream = get_current_stream().ptr if handle is None else handle
    with _lock:
        clock = _ordered(stream)
        clock[stream] = number = clock.get(stream, 0) + 1
        for chunk in reads:
            known = _accesses(chunk)
            _require_past(clock, known.written, name, "reads", "wrote", stream)
            known.read[stream] = number
        for chunk in writes:
            known = _accesses(chunk)
            _require_past(clock, known.written, name, "writes", "wrote", stream)
            for other in known.read.items():
                _require_past(clock, other, name, "writes", "reads", stream)
            known.written, known.read = (stream, number), {}


def _accesses(chunk: Chunk) -> Any:
    if chunk.accesses is None:
        chunk.accesses = _Accesses()
    return chunk.accesses


def _require_past(clock: Clock, other: tuple[int, int] | None, name: str, does: str, did: str, stream: int) -> None:
    if other is not None and clock.get(other[0], 0) < other[1]:
        raise StreamRaceError(
            f"{name} on the stream {stream} {does} memory that the stream {other[0]} {did}, without waiting for it"
        )
