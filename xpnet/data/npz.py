"""The user's own data set: a NumPy .npz file of four arrays."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from xpnet.data.dataset import Dataset
from xpnet.errors import FileFormatError, MissingFileError, ShapeError

ARRAYS = ("x_train", "y_train", "x_test", "y_test")


def read_npz(path: str | Path) -> Dataset:
    """Read ``x_train``, ``y_train``, ``x_test`` and ``y_test`` from a .npz file, never anything pickled.

    Images are (N, *sample_shape): uint8, with a ``pixel_range`` of 255, or floating point, with one of 1.
    Labels are (N,) class indices or (N, C) one-hot rows. There are C classes, or the largest index plus one.

    Raises:
        MissingFileError: the file cannot be opened.
        FileFormatError: it is damaged, lacks an array, or holds others.
        ShapeError, DTypeError, OutOfRangeError, ConfigurationError: as :class:`Dataset` raises them.

    >>> import tempfile
    >>> x, y = np.zeros((4, 3), np.float32), np.array([0, 1, 2, 1])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(Path(folder, "mine.npz"), x_train=x, y_train=y, x_test=x, y_test=y)
    ...     read_npz(Path(folder, "mine.npz"))
    Dataset(name='mine.npz', classes=3, pixel_range=1.0)
    """
    path = Path(path)
    arrays = _read_arrays(path)
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
        pixel_range=255.0 if arrays["x_train"].dtype == np.uint8 else 1.0,
    )


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    needed = f"expected exactly the arrays {', '.join(ARRAYS)}, saved by numpy.savez"
    try:
        file = path.open("rb")
    except OSError as error:
        raise MissingFileError(f"{path} cannot be read: {error.strerror}") from error
    with file:
        try:
            with zipfile.ZipFile(file) as archive:
                names = sorted(member.removesuffix(".npy") for member in archive.namelist())
                arrays = {name: _read_array(archive, name) for name in ARRAYS if name in names}
        # Damage lets a dozen unrelated types out of zipfile, zlib and numpy, MemoryError among them.
        except Exception as error:
            raise FileFormatError(f"{path} is not a whole .npz file of plain arrays: {error}; {needed}") from error
    if names != sorted(ARRAYS):
        raise FileFormatError(f"{path} holds {', '.join(names) or 'nothing'}; {needed}")
    return arrays


def _read_array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(f"{name}.npy") as member:
        array = np.lib.format.read_array(member, allow_pickle=False)
        if member.read(1):  # reading to the end is also what checks the CRC
            raise FileFormatError(f"{name} goes on after its last element")
    return array


def _class_indices(what: str, rows: np.ndarray) -> np.ndarray:
    if rows.shape[1] < 2:
        raise ShapeError(f"{what} has shape {rows.shape}; expected (N,) class indices or one-hot (N, C), C ≥ 2")
    one_hot = ((rows == 0) | (rows == 1)).all(axis=1) & ((rows == 1).sum(axis=1) == 1)
    if not one_hot.all():
        row = one_hot.argmin()
        raise ShapeError(f"{what} row {row} is {rows[row].tolist()}; expected a single 1 among zeros")
    return rows.argmax(axis=1)
