"""What a stretch of code asked of the device: its operations and its synchronizations, by name."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_BETWEEN = {str(path) for path in Path(__file__).parent.glob("[!t_]*.py")}  # this package, without its tests
_LIBRARIES = ("array_api_compat", "contextlib")


class Record:
    """What was asked of the device while the record was kept.

    Attributes:
        operations: the name of each kernel launch, matrix product, fill, and copy on, to or from the device. Views,
            reshapes without a copy and uninitialised arrays are free.
        synchronizations: each wait of the host for the device, with the line that waited.
        transfers: each copy of an array from the host, with its line.
    """

    def __init__(self) -> None:
        self.operations: list[str] = []
        self.synchronizations: list[str] = []
        self.transfers: list[str] = []


_records: list[Record] = []


@contextmanager
def recorded() -> Iterator[Record]:
    """A context that keeps a record."""
    record = Record()
    _records.append(record)
    try:
        yield record
    finally:
        _records.remove(record)


def note_operation(name: str) -> None:
    """Count an operation of the device."""
    for record in _records:
        record.operations.append(name)


def note_transfer() -> None:
    """Count a copy from the host to the device."""
    for record in _records:
        record.operations.append("to device")
        record.transfers.append(_place())


def note_synchronization(name: str) -> None:
    """Count a wait of the host for the device."""
    for record in _records:
        record.synchronizations.append(f"{name} at {_place()}")


def _place() -> str:
    """The file and line of the innermost code outside this package and array_api_compat."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        name = frame.f_code.co_filename
        if name not in _BETWEEN and not any(library in name for library in _LIBRARIES):
            break
        frame = frame.f_back
    return f"{'/'.join(Path(frame.f_code.co_filename).parts[-2:])}:{frame.f_lineno}"
