"""Atomic writes of files."""

from __future__ import annotations

import glob
import os
import threading
from pathlib import Path

from xpnet.errors import RunFolderError


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file so that a crash at any moment leaves either the old or the new content, complete.

    The bytes go to a temporary file in the same folder, are flushed to the disk, and the file is renamed to
    ``path``; last, the folder itself is flushed, so that the new name survives a loss of power.

    The temporary file is ``.NAME.THREAD.tmp``, with the system's number of the calling thread: two writers never share
    one. :func:`remove_leftovers` deletes those of killed writers.

    Raises:
        RunFolderError: the file cannot be written (full disk, no such folder, …). The old file is intact and the
            temporary file deleted; where only the flush of the folder failed, the new file is in place.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_atomically(f"{folder}/notes", b"first")
    ...     write_atomically(f"{folder}/notes", b"second")
    ...     os.listdir(folder), Path(folder, "notes").read_bytes()
    (['notes'], b'second')
    """
    path = Path(path)
    if not path.name:
        raise RunFolderError(f"cannot write {str(path)!r}: name a file")
    temporary = path.with_name(f".{path.name}.{threading.get_native_id()}.tmp")
    try:
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _flush_folder(path.parent)
    except OSError as error:
        raise RunFolderError(f"cannot write {path}: {error.strerror or error}") from error


def remove_leftovers(path: str | os.PathLike[str]) -> None:
    """Delete the temporary files of killed writers of ``path``; no other process may be writing it."""
    path = Path(path)
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        leftover.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # Windows cannot open folders; elsewhere it may be one without permission to list it
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
