"""The registers of all threads: an array with one element a thread, or one number where all threads have the same.

Arrays are never changed in place, so that registers may share them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .errors import PtxError

_NAMES = {
    "pred": "?", "s8": "i1", "u8": "u1", "b8": "u1", "s16": "i2", "u16": "u2", "b16": "u2", "s32": "i4", "u32": "u4",
    "b32": "u4", "s64": "i8", "u64": "u8", "b64": "u8", "f16": "f2", "bf16": "u2", "f32": "f4", "f64": "f8",
    "f16x2": "u4", "bf16x2": "u4",
}  # fmt: skip
DTYPES = {name: np.dtype(code) for name, code in _NAMES.items()}  # of PTX's types


class Registers(dict):
    """The registers of all threads that run at one time, by name."""

    def __init__(self, threads: int, special: dict[str, Any]) -> None:
        super().__init__(special)
        self.lanes = np.arange(threads)
        self.partly: dict[str, tuple[np.ndarray, np.ndarray]] = {}  # what only some threads have written, and which

    def __missing__(self, name: str) -> Any:
        values, written = self.partly.get(name, (None, None))
        if values is None or not written.all():
            raise PtxError(f"register {name} is read before it is written")
        del self.partly[name]
        self[name] = values
        return values

    def gather(self, name: str, lanes: Any) -> Any:
        """The values in these threads."""
        values = self.get(name)
        if values is None:
            values, written = self.partly.get(name, (None, None))
            if values is None or not written[lanes].all():
                raise PtxError(f"register {name} is read before it is written")
        return values[lanes] if values.ndim else values

    def scatter(self, name: str, lanes: Any, values: Any) -> None:
        """Change the values in these threads."""
        old = self.get(name)
        if old is None:
            old, written = self.partly.get(name) or (
                np.zeros(len(self.lanes), values.dtype),
                np.zeros(len(self.lanes), bool),
            )
            written[lanes] = True
        new = old.copy() if old.ndim else np.full(len(self.lanes), old)
        if new.dtype is not values.dtype:
            new = new.view(values.dtype)
        new[lanes] = values
        if name in self:
            self[name] = new
        else:
            self.partly[name] = new, written


class Active(dict):
    """The registers of some threads, while these run a basic block."""

    def __init__(self, registers: Registers, lanes: np.ndarray) -> None:
        super().__init__()
        self.registers, self.lanes = registers, lanes
        first, last = int(lanes[0]), int(lanes[-1])
        self.index = slice(first, last + 1) if last - first + 1 == len(lanes) else lanes

    def __missing__(self, name: str) -> Any:
        values = self[name] = self.registers.gather(name, self.index)
        return values

    def write_back(self, names: tuple[str, ...]) -> None:
        """Keep what was written to these registers."""
        for name in names:
            self.registers.scatter(name, self.index, self[name])
