"""Writing a file whole or not at all."""

from __future__ import annotations

import glob
import os
import threading
from pathlib import Path

from xpnet.errors import RunFolderError


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Make ``data`` the content of a file; a crash at any instant leaves the old or the new one, whole.

    The bytes go to a temporary file in the same folder, are flushed to the disk, and the file is renamed to
    ``path``; last, the folder itself is flushed, so that the new name outlives a loss of power.

    The temporary file is ``.NAME.THREAD.tmp``, by the system's number of the calling thread: two writers never share
    one. What a killed writer left behind goes with :func:`remove_leftovers`.

    Raises:
        RunFolderError: the disk refused (full, read-only, no such folder, …). The old file is whole and
            the temporary file gone; where only the flush of the folder failed, the new file is in place.

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
    """Delete the temporary files that killed writers of ``path`` left: for whoever alone may write it now."""
    path = Path(path)
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        leftover.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # Windows opens no folders, nor do systems one that may not be listed
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
