"""Checkpoints: named tensors and metadata in a safetensors file, for any device, and read without pickle.

A safetensors file is the length of its header (8 bytes, little-endian), the header (JSON: dtype, shape and
position of each tensor, a map ``__metadata__`` from string to string), then the tensors' bytes in C order.
Specification: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
import os
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.atomic import write_atomically
from xpnet.errors import ConfigurationError, DTypeError, FileFormatError, MissingFileError, require_moderate
from xpnet.format_1 import upgrade

FORMAT = "xpnet"
FORMAT_VERSION = 2
LARGEST_HEADER = 2**20  # bytes, for a thousand layers; the parsed objects take up to fifty times as much

# The format's name of each element type, by NumPy's kind and size.
_DTYPES = {
    **{"f8": "F64", "f4": "F32", "f2": "F16"},
    **{"i8": "I64", "i4": "I32", "i2": "I16", "i1": "I8"},
    **{"u8": "U64", "u4": "U32", "u2": "U16", "u1": "U8"},
}
_RESERVED_KEYS = ("format", "format_version")
_NON_FINITE_KEY = "$float"
_NON_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint file.

    Attributes:
        tensors: arrays of floats (16, 32 or 64 bits) or integers, any shape, by name.
        metadata: JSON values (None, bool, int, float, str, list, dict with string keys), by name.

    >>> Checkpoint({"0.b": np.zeros(2)}, {"step": 3}).tensors["0.b"].shape
    (2,)
    """

    tensors: dict[str, np.ndarray]
    metadata: dict[str, Any]


def save(path: str | os.PathLike[str], checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically; the same content gives the same bytes, whatever the order of its keys.

    Each metadata value becomes a JSON document; the keys ``format`` and ``format_version`` are xpnet's own.
    JSON lacks floats that are not finite: one is written as ``{"$float": "nan"}`` (or ``"inf"``, ``"-inf"``) and read
    as a float. A tuple is read as a list.

    Raises:
        DTypeError: a tensor is not a NumPy array of floats or integers.
        ConfigurationError: metadata that are not JSON values, an invalid name, or more than 1 MiB of names and
            metadata.
        RunFolderError: the file cannot be written; the old one stays intact.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(f"{folder}/last", Checkpoint({"0.b": np.zeros(2)}, {"step": 3, "loss": math.inf}))
    ...     load(f"{folder}/last")
    Checkpoint(tensors={'0.b': array([0., 0.])}, metadata={'loss': inf, 'step': 3})
    """
    write_atomically(path, _serialize(checkpoint))


def load(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a checkpoint; its arrays are C-contiguous, writable copies, and take no more memory than the file.

    Raises:
        MissingFileError: there is no such file, or it cannot be read.
        FileFormatError: the file is damaged, is not a checkpoint of xpnet, or comes from a newer xpnet.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(f"{folder}/last", Checkpoint({"0.b": np.zeros(2)}, {"step": 3}))
    ...     load(f"{folder}/last").metadata["step"]
    3
    >>> load("nowhere.safetensors")
    Traceback (most recent call last):
    xpnet.errors.MissingFileError: there is no checkpoint nowhere.safetensors
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.exists():
        raise MissingFileError(f"there is no checkpoint {path}")
    if not path.is_file():
        raise FileFormatError(f"{path} is not a file; name a checkpoint, such as {path / 'best.safetensors'}")
    try:
        _require_moderate_header(path)
        with safe_open(path, framework="numpy") as file:
            metadata = _parse_metadata(path, file.metadata() or {})
            tensors = {name: _plain(file.get_tensor(name)) for name in sorted(file.keys())}
    except FileFormatError:
        raise
    except OSError as error:
        raise MissingFileError(f"cannot read {path}: {error}") from error
    # Damage, and element types or shapes that NumPy does not support.
    except (SafetensorError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise FileFormatError(
            f"{path} is damaged or not a safetensors file; use another one ({type(error).__name__}: {error})"
        ) from error
    return Checkpoint(tensors, metadata)


def _plain(tensor: np.ndarray) -> np.ndarray:
    if tensor.dtype.str[1:] not in _DTYPES:  # ml_dtypes, once imported, adds types to NumPy
        raise TypeError(f"its elements are {tensor.dtype}")
    return np.array(tensor, order="C")


def _serialize(checkpoint: Checkpoint) -> bytes:
    # safetensors.numpy.save writes metadata in random order, and strided arrays wrongly (safetensors#825).
    tensors = {name: _little_endian(name, tensor) for name, tensor in checkpoint.tensors.items()}
    header: dict[str, Any] = {"__metadata__": _format_metadata(checkpoint.metadata)}
    chunks: list[bytes] = []
    offset = 0
    # Wide elements first, so that every tensor is aligned to its element's size.
    for name in sorted(tensors, key=lambda name: (-tensors[name].itemsize, name)):
        tensor = tensors[name]
        end = offset + tensor.nbytes
        dtype = _DTYPES[tensor.dtype.str[1:]]
        header[name] = {"dtype": dtype, "shape": tensor.shape, "data_offsets": [offset, end]}
        chunks.append(tensor.tobytes(order="C"))
        offset = end
    try:
        text = json.dumps(header, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        name = error.object[: error.end][-40:]
        raise ConfigurationError(f"a name in the checkpoint is no valid Unicode: …{name!r}") from error
    text += b" " * (-len(text) % 8)
    if len(text) > LARGEST_HEADER:
        raise ConfigurationError(
            f"names and metadata of the checkpoint take {len(text)} bytes, more than {LARGEST_HEADER}: keep less in it"
        )
    return b"".join([len(text).to_bytes(8, "little"), text, *chunks])


def _little_endian(name: str, tensor: np.ndarray) -> np.ndarray:
    if not isinstance(name, str) or name == "__metadata__":
        raise ConfigurationError(f"a tensor's name must be a string other than '__metadata__', not {name!r}")
    if not isinstance(tensor, np.ndarray):
        raise DTypeError(f"tensor {name!r} is a {type(tensor).__name__}; save NumPy arrays (backend.to_numpy)")
    if tensor.dtype.str[1:] not in _DTYPES:
        raise DTypeError(f"tensor {name!r} has dtype {tensor.dtype}; a checkpoint holds {', '.join(_DTYPES)}")
    return tensor.astype(tensor.dtype.newbyteorder("<"), copy=False)


def _format_metadata(metadata: Mapping[str, Any]) -> dict[str, str]:
    texts = {"format": FORMAT, "format_version": str(FORMAT_VERSION)}
    require_moderate("the metadata", [*metadata.values()])
    for key, value in metadata.items():
        if not isinstance(key, str) or key in _RESERVED_KEYS:
            raise ConfigurationError(f"a metadata key must be a string other than {_RESERVED_KEYS}, not {key!r}")
        texts[key] = json.dumps(_to_json(key, value), sort_keys=True, allow_nan=False)
    return dict(sorted(texts.items()))


def _to_json(where: str, value: object) -> object:
    """``value`` with its non-finite floats replaced; raises for a value that JSON would silently change."""
    if isinstance(value, float) and not math.isfinite(value):
        return {_NON_FINITE_KEY: repr(float(value))}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [_to_json(f"{where}[{index}]", item) for index, item in enumerate(value)]
    if isinstance(value, dict) and all(isinstance(key, str) and key != _NON_FINITE_KEY for key in value):
        return {key: _to_json(f"{where}.{key}", item) for key, item in value.items()}
    raise ConfigurationError(
        f"metadata {where!r} is {reprlib.repr(value)}; expected None, bool, int, float, str, list, or dict "
        f"with string keys other than {_NON_FINITE_KEY!r} (a NumPy number becomes a plain one with .item())"
    )


def _from_json(document: dict[str, Any]) -> object:
    return _NON_FINITE[document[_NON_FINITE_KEY]] if document.keys() == {_NON_FINITE_KEY} else document


def _parse_metadata(path: Path, texts: Mapping[str, str]) -> dict[str, Any]:
    if texts.get("format") != FORMAT:
        raise FileFormatError(f"{path} is a safetensors file, but no checkpoint of xpnet: use one that xpnet wrote")
    version = int(texts["format_version"])
    if version > FORMAT_VERSION:
        raise FileFormatError(
            f"{path} was written by a newer xpnet (format {version}); "
            f"this one reads up to {FORMAT_VERSION}: upgrade xpnet"
        )
    keys = sorted(texts.keys() - set(_RESERVED_KEYS))
    metadata = {key: json.loads(texts[key], object_hook=_from_json, parse_constant=_refuse) for key in keys}
    require_moderate("its metadata", [*metadata.values()])
    return upgrade(metadata) if version == 1 else metadata


def _require_moderate_header(path: Path) -> None:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > LARGEST_HEADER:
        raise ValueError(f"its header has {length} bytes, and may have {LARGEST_HEADER}")


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
