"""Files in the idx format, in which MNIST and similar data sets are published.

A header of big-endian 32-bit words (a magic number, then a length for each dimension), then the elements,
here unsigned bytes. Source: LeCun, Cortes, Burges, "The MNIST database of handwritten digits", 1998.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from xpnet.data.streams import read_at_most
from xpnet.errors import FileFormatError, MissingFileError

IMAGES = 0x803  # unsigned bytes (8), three dimensions
LABELS = 0x801  # unsigned bytes (8), one dimension

MOST_BYTES = 2**30  # 23 times MNIST; a header that declares more is damaged or hostile


def read_images(path: str | Path) -> np.ndarray:
    """Read an idx file of images, plain or gzipped: (N, rows, columns) uint8.

    Gzip is recognised by the first bytes, since browsers unpack files without renaming them.

    Raises:
        MissingFileError: the file cannot be opened.
        FileFormatError: it is incomplete, or not such a file.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "images")
    ...     size = path.write_bytes(bytes.fromhex("00000803 00000001 00000002 00000002 0a0b0c0d"))
    ...     read_images(path).tolist()
    [[[10, 11], [12, 13]]]
    """
    return _read(Path(path), IMAGES, "images", dimensions=3)


def read_labels(path: str | Path) -> np.ndarray:
    """Read an idx file of labels, plain or gzipped: (N,) uint8. Errors as for :func:`read_images`.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "labels.gz")
    ...     size = path.write_bytes(gzip.compress(bytes.fromhex("00000801 00000003 050004")))
    ...     read_labels(path).tolist()
    [5, 0, 4]
    """
    return _read(Path(path), LABELS, "labels", dimensions=1)


def _read(path: Path, magic: int, content: str, dimensions: int) -> np.ndarray:
    if path.exists() and not path.is_file():
        raise MissingFileError(f"{path} cannot be read: it is not a file")
    try:
        with path.open("rb") as file:
            zipped = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if not zipped:
                return _parse(file, magic, dimensions)
            with gzip.GzipFile(fileobj=file) as unzipped:
                return _parse(unzipped, magic, dimensions)
    except (FileFormatError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise FileFormatError(f"{path} is not a whole idx file of {content}: {error}; replace it") from error
    except OSError as error:
        raise MissingFileError(f"{path} cannot be read: {error.strerror}") from error


def _parse(stream: BinaryIO | gzip.GzipFile, magic: int, dimensions: int) -> np.ndarray:
    header = stream.read(4 * (1 + dimensions))
    if len(header) < 4 * (1 + dimensions):
        raise FileFormatError(f"its header has {len(header)} bytes of {4 * (1 + dimensions)}")
    arrived, *shape = struct.unpack(f">{1 + dimensions}I", header)
    if arrived != magic:
        raise FileFormatError(f"its magic number is {arrived:#x}, not {magic:#x}")
    if math.prod(max(length, 1) for length in shape) > MOST_BYTES:  # NumPy refuses such a shape even when a length is 0
        raise FileFormatError(f"its header declares {' x '.join(map(str, shape))} bytes, more than {MOST_BYTES}")
    declared = math.prod(shape)
    data = read_at_most(stream, declared)
    if len(data) < declared:
        raise FileFormatError(f"it ends after {len(data)} of {declared} bytes of data")
    if stream.read(1):
        raise FileFormatError(f"it has more than the {declared} bytes of data that its header declares")
    return data.reshape(shape)
