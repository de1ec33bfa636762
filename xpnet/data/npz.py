"""Data sets of one's own: NumPy .npz files of four arrays."""

from __future__ import annotations

import io
import math
import zipfile
from pathlib import Path

import numpy as np

from xpnet.data.dataset import Dataset
from xpnet.data.streams import CHUNK, read_at_most
from xpnet.errors import FileFormatError, MissingFileError, OutOfMemoryError, ShapeError

ARRAYS = ("x_train", "y_train", "x_test", "y_test")
LONGEST_HEADER = 1000  # bytes; a plain array's has 118. Parsing takes a thousand times as much memory
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # what NumPy writes; other methods may expand a byte to a million
_READ_HEADER = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_npz(path: str | Path) -> Dataset:
    """Read ``x_train``, ``y_train``, ``x_test`` and ``y_test`` from a .npz file, never anything pickled.

    Images are (N, *sample_shape): uint8 or floating point.
    Labels are (N,) class indices or (N, C) one-hot rows. There are C classes, or the largest index plus one.
    Memory is allocated only for bytes that are present.

    Raises:
        MissingFileError: the file cannot be opened.
        FileFormatError: it is damaged, lacks an array, or holds others.
        OutOfMemoryError: its arrays do not fit into memory.
        ShapeError, DTypeError, OutOfRangeError, ConfigurationError: as :class:`Dataset` raises them.

    >>> import tempfile
    >>> x, y = np.zeros((4, 3), np.float32), np.array([0, 1, 2, 1])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(Path(folder, "mine.npz"), x_train=x, y_train=y, x_test=x, y_test=y)
    ...     read_npz(Path(folder, "mine.npz"))
    Dataset(name='mine.npz', classes=3)
    """
    path = Path(path)
    expected = f"expected exactly the arrays {', '.join(ARRAYS)}, saved by numpy.savez"
    arrays = read_arrays(path, expected)
    if sorted(arrays) != sorted(ARRAYS):
        raise FileFormatError(f"{path} holds {', '.join(sorted(arrays)) or 'nothing'}; {expected}")
    widths, largest = set(), 0
    for name in ("y_train", "y_test"):
        labels = arrays[name]
        if labels.ndim == 2 and labels.dtype.kind in "biuf":
            widths.add(labels.shape[1])
            arrays[name] = _class_indices(f"{path.name}: {name}", labels)
        elif labels.dtype.kind in "iu":
            largest = max(largest, int(labels.max(initial=0)))
    if len(widths) > 1:
        raise ShapeError(f"{path.name}: y_train and y_test are one-hot for {min(widths)} and for {max(widths)} classes")
    return Dataset(
        path.name,
        **arrays,
        classes=widths.pop() if widths else largest + 1,
    )


def read_arrays(path: Path, expected: str) -> dict[str, np.ndarray]:
    """All arrays of an .npz file by name, in the file's order, never anything pickled.

    Args:
        path: of the file.
        expected: what the file should hold, the last clause of error messages.

    Raises:
        MissingFileError: the file cannot be opened.
        FileFormatError: it is damaged, or holds anything but plain arrays.
        OutOfMemoryError: its arrays do not fit into memory.
    """
    try:
        if path.exists() and not path.is_file():
            raise FileFormatError(f"{path} is not a file; {expected}")
        file = _BoundedReads(path)
    except OSError as error:
        raise MissingFileError(f"{path} cannot be read: {error.strerror}") from error
    with file:
        try:
            with zipfile.ZipFile(file) as archive:
                names = [member.removesuffix(".npy") for member in archive.namelist()]
                if len(set(names)) < len(names):
                    raise FileFormatError("two of its arrays have the same name")
                return {name: _read_array(archive, name) for name in names}
        except MemoryError as error:  # of arrays that are present: no more is allocated
            raise OutOfMemoryError(
                f"not enough memory for the arrays in {path}: make them smaller ({error})"
            ) from error
        # For damaged files zipfile, zlib and numpy raise a dozen unrelated types.
        except Exception as error:
            raise FileFormatError(f"{path} is not a whole .npz file of plain arrays: {error}; {expected}") from error


class _BoundedReads(io.FileIO):
    """A file that refuses long reads: zipfile reads an archive's directory in one, however long it is."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > CHUNK:
            raise FileFormatError(f"one read asks for {size} bytes, more than {CHUNK}")
        return super().read(-1 if size is None else size)


def _read_array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    member = archive.getinfo(f"{name}.npy")
    if member.compress_type not in _METHODS:
        raise FileFormatError(f"{name} is packed by method {member.compress_type}, not as NumPy does")
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        if version not in _READ_HEADER:
            raise FileFormatError(f"{name} is an array file of version {version}")
        shape, fortran_order, dtype = _READ_HEADER[version](stream, max_header_size=LONGEST_HEADER)
        if dtype.hasobject:
            raise FileFormatError(f"{name} holds Python objects")
        # numpy.load would allocate all that the header declares before it reads a byte.
        declared = math.prod(shape) * dtype.itemsize
        data = read_at_most(stream, declared)
        if len(data) != declared:
            raise FileFormatError(f"{name} has {len(data)} bytes, not {declared} as for the shape {shape} of {dtype}")
        if stream.read(1):  # reading to the end is also what checks the CRC
            raise FileFormatError(f"{name} has bytes after its last element")
    return np.ndarray(shape, dtype, data, order="F" if fortran_order else "C")


def _class_indices(what: str, rows: np.ndarray) -> np.ndarray:
    if rows.shape[1] < 2:
        raise ShapeError(f"{what} has shape {rows.shape}; expected (N,) class indices or one-hot (N, C), C ≥ 2")
    # Row by row only when one is wrong: that takes more memory.
    if (rows.max(axis=1) != 1).any() or np.count_nonzero(rows) != len(rows):
        row = ((rows.max(axis=1) == 1) & (np.count_nonzero(rows, axis=1) == 1)).argmin()
        raise ShapeError(f"{what} row {row} is {rows[row].tolist()}; expected a single 1 among zeros")
    return rows.argmax(axis=1)
