"""The books' weight files: a pickled dict of arrays, read without running anything that the file asks for.

A pickle is a program for a small stack machine, whose REDUCE calls any function that the file names. So it is read
twice: its instructions are checked one by one, then Python's unpickler runs them, with stand-ins for NumPy's names
that only store their arguments. Arrays are made from the bytes in the file, so memory is bounded by a small multiple
of its length.

Sources: Python's ``pickletools``, the instructions; Saito, "Deep Learning from Scratch" (2016), the files.
"""

from __future__ import annotations

import os
import pickle
import pickletools
from collections.abc import Mapping
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import BinaryIO

import numpy as np

from xpnet.errors import Error, FileFormatError, MissingFileError, ShapeError

LARGEST_FILE = 2**30
MOST_INSTRUCTIONS = 5000  # an array needs 25 to 45; also bounds the depth of tuples, which Python hashes recursively
MOST_SHARING = 2  # arrays may share bytes in the file; together they hold at most this many times its length

_DTYPES = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")
_STORE = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}
_FETCH = {"GET", "BINGET", "LONG_BINGET"}
_INSTRUCTIONS = {
    *_STORE, *_FETCH, "PROTO", "FRAME", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE",
    "INT", "LONG", "LONG1", "BININT", "BININT1", "BININT2", "STRING", "BINSTRING", "SHORT_BINSTRING",
    "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINBYTES", "SHORT_BINBYTES", "GLOBAL", "STACK_GLOBAL", "REDUCE",
    "BUILD", "EMPTY_TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "TUPLE", "EMPTY_DICT", "DICT", "SETITEM", "SETITEMS",
}  # fmt: skip


class _AsciiLines:
    # Python 2 wrote bytes as escapes, of which pickletools reads only ASCII before Python 3.12.8.
    def __init__(self, program: mmap) -> None:
        self.read = program.read
        self.readline = lambda: program.readline().replace(b"\\", b"?")


def _check_instructions(program: mmap) -> None:
    """Refuse instructions that a dict of arrays does not need, or that take more memory than the file's length."""
    memo: dict[object, bool] = {}  # whether a value may be fetched: no tuples, as k nested ones hash 2**k leaves
    shareable = False
    for count, (instruction, argument, _) in enumerate(pickletools.genops(_AsciiLines(program))):  # type: ignore[arg-type]
        name = instruction.name
        if name not in _INSTRUCTIONS:
            raise ValueError(f"a dict of arrays needs no instruction {name}")
        if count == MOST_INSTRUCTIONS:
            raise ValueError(f"it has more than {MOST_INSTRUCTIONS} instructions")
        if name in _STORE:
            place = len(memo) if argument is None else int(argument)
            if place > count:  # the unpickler's memo has a slot for every number below
                raise ValueError(f"it numbers a value {place} among the first {count}")
            memo[place] = shareable
        elif name in _FETCH and not memo.get(argument):
            raise ValueError(f"value {argument} is missing, or may not be used twice")
        elif instruction.stack_after:
            shareable = not instruction.stack_before or name in {"STACK_GLOBAL", "REDUCE"}


class _StandIn:
    def __init__(self, *arguments: object) -> None:
        self.arguments = arguments
        self.state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state


class _Array(_StandIn): ...


class _DType(_StandIn): ...


_NAMES = {
    "numpy.core.multiarray._reconstruct": _Array,
    "numpy._core.multiarray._reconstruct": _Array,
    "numpy.ndarray": "numpy.ndarray",
    "numpy.dtype": _DType,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str, /) -> object:
        path = f"{module}.{name}"
        if path not in _NAMES:
            raise ValueError(f"it names {path[:100]!r}; only {', '.join(_NAMES)} may occur")
        return _NAMES[path]


def _to_numpy(array: _Array) -> np.ndarray:
    match array.arguments, array.state:
        case ("numpy.ndarray", _, _), (1, tuple() as shape, _DType() as kind, fortran, bytes() | str() as data):
            dtype = _to_dtype(kind)
        case _:
            raise ValueError("an array is incomplete")
    content = data.encode("latin-1") if isinstance(data, str) else data  # Python 2 wrote bytes as a string
    values: np.ndarray = np.ndarray(shape, dtype, content, order="F" if fortran else "C")
    if values.shape != shape or values.nbytes != len(content):  # NumPy takes a shape of (-1,), and surplus bytes
        raise ValueError(f"an array of shape {shape} and type {dtype} has {len(content)} bytes")
    return np.array(values, dtype.newbyteorder("="), order="C")


def _to_dtype(dtype: _DType) -> np.dtype:
    match dtype.arguments, dtype.state:
        case (str() as code, _, _), _ if code not in _DTYPES:
            raise ValueError(f"elements have type {code[:20]!r}; expected {', '.join(_DTYPES)}")
        case (str() as code, _, _), (int(), "<" | ">" | "|" as byte_order, None, None, None, *_):
            return np.dtype(byte_order + code)
    raise ValueError("an element type is incomplete")


def read_book_pickle(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read a pickled dict of arrays, such as the books' ``sample_weight.pkl``; no code from the file runs.

    Takes what Python 2 wrote, and Python 3 in protocols 3 and 4: integers, or floats of 16 to 64 bits.

    Returns:
        the arrays by name: C-contiguous, native byte order, writable.

    Raises:
        MissingFileError: there is no such file, or it cannot be read.
        FileFormatError: the file is damaged, larger than 1 GiB, or not a dict of arrays.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "weights.pkl")
    ...     _ = file.write_bytes(pickle.dumps({"b1": np.array([0.5, -1.0], np.float32)}, protocol=3))
    ...     read_book_pickle(file)
    {'b1': array([ 0.5, -1. ], dtype=float32)}
    """
    path = Path(path)
    try:
        with _open(path) as file, mmap(file.fileno(), 0, access=ACCESS_READ) as program:
            _check_instructions(program)
            program.seek(0)
            content = _Unpickler(program, encoding="latin1").load()
            return _to_arrays(content, most_bytes=MOST_SHARING * len(program))
    except (MemoryError, Error):
        raise
    except Exception as error:  # damaged files make the unpickler raise any type
        raise FileFormatError(
            f"{path} is not a pickled dict of NumPy arrays (by Python 2, or by 3 in protocol 3 or 4): "
            f"{str(error)[:300]}"
        ) from error


def _to_arrays(content: object, most_bytes: int) -> dict[str, np.ndarray]:
    if type(content) is not dict or not content:
        raise ValueError("the dict is empty" if content == {} else f"it holds {_kind(content)}")
    arrays: dict[str, np.ndarray] = {}
    for name in list(content):
        item = content.pop(name)  # so that it is freed once its array is made
        if type(name) is not str or len(name) > 100:
            raise ValueError("a dict has other keys than strings of at most 100 characters")
        if type(item) is not _Array:
            raise ValueError(f"under {name!r} it holds {_kind(item)}")
        arrays[name] = _to_numpy(item)
        most_bytes -= arrays[name].nbytes
        if most_bytes < 0:
            raise ValueError("its arrays share bytes too often")
    return arrays


def _kind(value: object) -> str:
    return f"one {type(value).__name__.lstrip('_').lower()}"


def _open(path: Path) -> BinaryIO:
    if not path.exists():
        raise MissingFileError(f"there is no weight file {path}")
    if not path.is_file():
        raise FileFormatError(f"{path} is not a file; name the weight file itself, such as sample_weight.pkl")
    if path.stat().st_size > LARGEST_FILE:
        raise FileFormatError(f"{path} has more than {LARGEST_FILE} bytes, too many for a book's weights")
    try:
        return path.open("rb")
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
