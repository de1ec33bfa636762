"""The books' weight files: a pickled dict of arrays, read without running anything that the file asks for.

A pickle is a program for a small stack machine, whose REDUCE calls any function that the file can name. The
machine here has only the instructions that a dict of arrays needs, and three names, which stand for inert
records of shape, element type and bytes. NumPy sees them only when they agree: no file can ask for more
memory than a small multiple of its own length.

Sources: Python's ``pickletools``, the instructions; Saito, "Deep Learning from Scratch" (2016), the files.
"""

from __future__ import annotations

import codecs
import enum
import math
import os
import pickle
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.errors import FileFormatError, MissingFileError, ShapeError

LARGEST_FILE = 2**30
MOST_INSTRUCTIONS = 100_000  # an array needs about 30
MOST_SHARING = 2  # arrays may share bytes in the file; together they hold at most this many times its length

_DTYPES = frozenset({"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"})
_LONGEST_KEY = 100
_MOST_DIMENSIONS = 32
_DECIMAL = re.compile(rb"-?[0-9]{1,18}")
_ESCAPED = re.compile(rb"""(?:[^\\]++|\\(?:x[0-9a-f]{2}|[nrt\\'"]))*+""")  # what Python 2's repr of a string writes


class _Name(enum.Enum):
    RECONSTRUCT = enum.auto()
    NDARRAY = enum.auto()
    DTYPE = enum.auto()


_NAMES = {
    "numpy.core.multiarray._reconstruct": _Name.RECONSTRUCT,
    "numpy._core.multiarray._reconstruct": _Name.RECONSTRUCT,
    "numpy.ndarray": _Name.NDARRAY,
    "numpy.dtype": _Name.DTYPE,
}


@dataclass(eq=False)
class _DType:
    code: str
    byte_order: str = "="


@dataclass(eq=False)
class _Array:
    shape: tuple[Any, ...] = ()
    dtype: _DType | None = None
    fortran: bool = False
    data: bytes | str = b""

    def to_numpy(self) -> np.ndarray:
        if self.dtype is None:
            raise ValueError("an array has no content")
        sizes_fit = all(type(size) is int and 0 <= size <= LARGEST_FILE for size in self.shape)
        if len(self.shape) > _MOST_DIMENSIONS or not sizes_fit:
            raise ValueError("an array's shape is not a tuple of sizes")
        dtype = np.dtype(self.dtype.byte_order + self.dtype.code)
        data = self.data.encode("latin-1") if isinstance(self.data, str) else self.data
        if math.prod(self.shape) * dtype.itemsize != len(data):
            raise ValueError(f"an array of shape {self.shape} and type {dtype} has {len(data)} bytes")
        array = np.frombuffer(data, dtype).reshape(self.shape, order="F" if self.fortran else "C")
        return np.array(array, dtype.newbyteorder("="), order="C")


class _Machine:
    def __init__(self, program: bytes) -> None:
        self.program = program
        self.position = 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> object:
        for _ in range(MOST_INSTRUCTIONS):
            instruction = self.take(1)
            if instruction == pickle.STOP:
                return self.pop(1)[0]
            if instruction not in _INSTRUCTIONS:
                raise ValueError(f"{_describe(instruction)} has no place in it")
            _INSTRUCTIONS[instruction](self)
        raise ValueError(f"it has more than {MOST_INSTRUCTIONS} instructions")

    def require(self, count: int) -> None:
        if count > len(self.program) - self.position:
            raise ValueError("the file ends too early")

    def take(self, count: int) -> bytes:
        self.require(count)
        self.position += count
        return self.program[self.position - count : self.position]

    def number(self, size: int, signed: bool = False) -> int:
        return int.from_bytes(self.take(size), "little", signed=signed)

    def counted(self, size: int) -> bytes:
        return self.take(self.number(size))

    def line(self) -> bytes:
        end = self.program.find(b"\n", self.position)
        if end < 0:
            raise ValueError("the file ends too early")
        line = self.take(end - self.position)
        self.position += 1
        return line

    def decimal(self) -> int:
        digits = self.line().removesuffix(b"L")
        if not _DECIMAL.fullmatch(digits):
            raise ValueError(f"{digits[:20]!r} is no whole number of at most 18 digits")
        return int(digits)

    def push(self, value: object) -> None:
        self.stack.append(value)

    def pop(self, count: int) -> tuple[Any, ...]:
        return self._pop_from(len(self.stack) - count)

    def pop_to_mark(self) -> tuple[Any, ...]:
        return self._pop_from(self.marks.pop() if self.marks else -1)

    def _pop_from(self, start: int) -> tuple[Any, ...]:
        if start < 0:
            raise ValueError("an instruction lacks its operands")
        items = tuple(self.stack[start:])
        del self.stack[start:]
        return items

    def store(self, index: int) -> None:
        (self.memo[index],) = self.pop(1)
        self.push(self.memo[index])

    def fetch(self, index: int) -> None:
        if index not in self.memo:
            raise ValueError(f"nothing is stored under number {index}")
        self.push(self.memo[index])

    def set_items(self, items: tuple[Any, ...]) -> None:
        (target,) = self.pop(1)
        if type(target) is not dict:
            raise ValueError("items belong to no dict")
        target.update(_pairs(items))
        self.push(target)


def _describe(instruction: bytes) -> str:
    import pickletools

    code = instruction.decode("latin-1")
    names = [known.name for known in pickletools.opcodes if known.code == code]
    return f"the instruction {names[0] if names else instruction!r}"


def _unescape(literal: bytes) -> str:
    quote, inside = literal[:1], literal[1:-1]
    quoted = len(literal) > 1 and quote in (b"'", b'"') and literal.endswith(quote)
    if not quoted or not _ESCAPED.fullmatch(inside):
        raise ValueError("a string is damaged")
    return codecs.escape_decode(inside)[0].decode("latin-1")


def _pairs(items: tuple[Any, ...]) -> list[tuple[str, Any]]:
    keys, values = items[::2], items[1::2]
    if len(keys) != len(values) or not all(type(key) is str and len(key) <= _LONGEST_KEY for key in keys):
        raise ValueError(f"a dict has other keys than strings of at most {_LONGEST_KEY} characters")
    return list(zip(keys, values, strict=True))


def _look_up(module: object, name: object) -> _Name:
    path = f"{module}.{name}" if type(module) is str and type(name) is str else "?"
    if path not in _NAMES:
        raise ValueError(f"it names {path[:100]!r}; only {', '.join(_NAMES)} may occur")
    return _NAMES[path]


def _call(function: object, arguments: object) -> _Array | _DType:
    match function, arguments:
        case _Name.RECONSTRUCT, (_Name.NDARRAY, _, _):  # what follows is a placeholder's shape and type
            return _Array()
        case _Name.DTYPE, (str() as code, _, _) if code in _DTYPES:
            return _DType(code)
        case _Name.DTYPE, (str() as code, _, _):
            raise ValueError(f"elements have type {code[:20]!r}; expected {', '.join(sorted(_DTYPES))}")
    raise ValueError("a call builds neither an array nor an element type")


def _set_state(target: object, state: object) -> object:
    match target, state:
        case _DType(), (int(), "<" | ">" | "|" as byte_order, None, None, None, *_):
            target.byte_order = byte_order
        case _Array(), (1, tuple() as shape, _DType() as dtype, int() as fortran, bytes() | str() as data):
            target.shape, target.dtype, target.fortran, target.data = shape, dtype, bool(fortran), data
        case _:
            raise ValueError("a state fits neither an array nor an element type")
    return target


# The numbers are how many bytes hold a value or a length. Python 2 wrote bytes as a string, a character each.
_INSTRUCTIONS: dict[bytes, Callable[[_Machine], object]] = {
    pickle.PROTO: lambda m: m.take(1),
    pickle.FRAME: lambda m: m.require(m.number(8)),
    pickle.MARK: lambda m: m.marks.append(len(m.stack)),
    pickle.NONE: lambda m: m.push(None),
    pickle.NEWTRUE: lambda m: m.push(True),
    pickle.NEWFALSE: lambda m: m.push(False),
    pickle.INT: lambda m: m.push(m.decimal()),
    pickle.LONG: lambda m: m.push(m.decimal()),
    pickle.LONG1: lambda m: m.push(m.number(m.number(1), signed=True)),
    pickle.BININT: lambda m: m.push(m.number(4, signed=True)),
    pickle.BININT1: lambda m: m.push(m.number(1)),
    pickle.BININT2: lambda m: m.push(m.number(2)),
    pickle.STRING: lambda m: m.push(_unescape(m.line())),
    pickle.BINSTRING: lambda m: m.push(m.counted(4).decode("latin-1")),
    pickle.SHORT_BINSTRING: lambda m: m.push(m.counted(1).decode("latin-1")),
    pickle.UNICODE: lambda m: m.push(m.line().decode("raw-unicode-escape")),
    pickle.BINUNICODE: lambda m: m.push(m.counted(4).decode()),
    pickle.SHORT_BINUNICODE: lambda m: m.push(m.counted(1).decode()),
    pickle.BINBYTES: lambda m: m.push(m.counted(4)),
    pickle.SHORT_BINBYTES: lambda m: m.push(m.counted(1)),
    pickle.EMPTY_TUPLE: lambda m: m.push(()),
    pickle.TUPLE1: lambda m: m.push(m.pop(1)),
    pickle.TUPLE2: lambda m: m.push(m.pop(2)),
    pickle.TUPLE3: lambda m: m.push(m.pop(3)),
    pickle.TUPLE: lambda m: m.push(m.pop_to_mark()),
    pickle.EMPTY_DICT: lambda m: m.push({}),
    pickle.DICT: lambda m: m.push(dict(_pairs(m.pop_to_mark()))),
    pickle.SETITEM: lambda m: m.set_items(m.pop(2)),
    pickle.SETITEMS: lambda m: m.set_items(m.pop_to_mark()),
    pickle.PUT: lambda m: m.store(m.decimal()),
    pickle.BINPUT: lambda m: m.store(m.number(1)),
    pickle.LONG_BINPUT: lambda m: m.store(m.number(4)),
    pickle.MEMOIZE: lambda m: m.store(len(m.memo)),
    pickle.GET: lambda m: m.fetch(m.decimal()),
    pickle.BINGET: lambda m: m.fetch(m.number(1)),
    pickle.LONG_BINGET: lambda m: m.fetch(m.number(4)),
    pickle.GLOBAL: lambda m: m.push(_look_up(m.line().decode(), m.line().decode())),
    pickle.STACK_GLOBAL: lambda m: m.push(_look_up(*m.pop(2))),
    pickle.REDUCE: lambda m: m.push(_call(*m.pop(2))),
    pickle.BUILD: lambda m: m.push(_set_state(*m.pop(2))),
}


def read_book_pickle(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read a pickled dict of arrays, such as the books' ``sample_weight.pkl``; no code from the file runs.

    Takes what Python 2 wrote, and Python 3 in protocols 3 and 4: integers, or floats of 16 to 64 bits.

    Returns:
        the arrays by name: C-contiguous, native byte order, writable.

    Raises:
        MissingFileError: there is no such file, or it may not be read.
        FileFormatError: the file is damaged, larger than 1 GiB, or anything but a dict of arrays.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "weights.pkl")
    ...     _ = file.write_bytes(pickle.dumps({"b1": np.array([0.5, -1.0], np.float32)}, protocol=3))
    ...     read_book_pickle(file)
    {'b1': array([ 0.5, -1. ], dtype=float32)}
    """
    program = _read(Path(path))
    try:
        return _to_arrays(_Machine(program).run(), most_bytes=MOST_SHARING * len(program))
    except ValueError as error:
        raise FileFormatError(
            f"{path} is not a pickled dict of NumPy arrays (by Python 2, or by 3 in protocol 3 or 4): {error}"
        ) from error


def _to_arrays(content: object, most_bytes: int) -> dict[str, np.ndarray]:
    if type(content) is not dict:
        raise ValueError(f"it holds {_kind(content)}")
    if not content:
        raise ValueError("the dict is empty")
    for name, item in content.items():
        if type(item) is not _Array:
            raise ValueError(f"under {name!r} it holds {_kind(item)}")
    if sum(len(array.data) for array in content.values()) > most_bytes:
        raise ValueError(f"its arrays share bytes, and would take more than {most_bytes}")
    return {name: array.to_numpy() for name, array in content.items()}


def _kind(value: object) -> str:
    return f"one {type(value).__name__.lstrip('_').lower()}"


def _read(path: Path) -> bytes:
    if not path.exists():
        raise MissingFileError(f"there is no weight file {path}")
    if not path.is_file():
        raise FileFormatError(f"{path} is not a file; name the weight file itself, such as sample_weight.pkl")
    if path.stat().st_size > LARGEST_FILE:
        raise FileFormatError(f"{path} has more than {LARGEST_FILE} bytes, too many for a book's weights")
    try:
        return path.read_bytes()
    except OSError as error:
        raise MissingFileError(f"cannot read {path}: {error.strerror or error}") from error


def sigmoid_network_shapes(weights: Mapping[str, np.ndarray]) -> list[int]:
    """Layer sizes of a network of weights W1 b1 … Wn bn: Wi (sizes[i-1], sizes[i]) and bi (sizes[i],).

    Raises:
        FileFormatError: a name is missing, or does not belong.
        ShapeError: the shapes do not chain.

    >>> W1, W2 = np.zeros((784, 50)), np.zeros((50, 10))
    >>> sigmoid_network_shapes({"W1": W1, "b1": np.zeros(50), "W2": W2, "b2": np.zeros(10)})
    [784, 50, 10]
    """
    depth = max(1, sum(name.startswith("W") for name in weights))
    expected = [f"{kind}{layer}" for layer in range(1, depth + 1) for kind in "Wb"]
    missing = [name for name in expected if name not in weights]
    unexpected = [name for name in weights if name not in expected]
    if missing or unexpected:
        raise FileFormatError(
            f"a network's weights are named W1 b1 … Wn bn; missing: {', '.join(missing) or 'none'}; "
            f"unexpected: {', '.join(unexpected) or 'none'}"
        )
    sizes: list[int] = []
    for layer in range(1, depth + 1):
        W, b = weights[f"W{layer}"], weights[f"b{layer}"]
        if W.ndim != 2:
            raise ShapeError(f"W{layer} has shape {W.shape}; expected (inputs, outputs)")
        if sizes and W.shape[0] != sizes[-1]:
            raise ShapeError(f"W{layer} has shape {W.shape}; expected {sizes[-1]} rows, as W{layer - 1} has columns")
        if b.shape != W.shape[1:]:
            raise ShapeError(f"b{layer} has shape {b.shape}; expected {W.shape[1:]}, as W{layer} is {W.shape}")
        sizes = [*(sizes or W.shape[:1]), *b.shape]
    return sizes
