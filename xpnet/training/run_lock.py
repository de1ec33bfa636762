"""A lock on a run's folder, which one process can use at a time.

The operating system locks an open file, and unlocks it when the process ends, however it ends. The package filelock
does the same, but truncates the file before it has the lock, and so loses the name of the process that holds it.
"""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from pathlib import Path

from xpnet.errors import CallOrderError, RunFolderError

LOCK = ".lock"

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, 1 << 30, os.SEEK_SET)  # far behind the text: Windows keeps readers from locked bytes
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        os.lseek(descriptor, 0, os.SEEK_SET)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


class RunLock:
    """Locks a run's folder for this process, and detects that the folder was removed.

    A context manager: entering locks the file ``.lock`` in the folder and writes the process's number and machine into
    it; leaving removes it. On file systems without locks (some network ones) it locks nothing, and ``exclusive`` is
    False.

    Args:
        folder: an existing one.

    Raises:
        RunFolderError: another process, or another run in this one, holds the folder; or it cannot be written to.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, RunLock(Path(folder)) as lock:
    ...     os.listdir(folder), lock.exclusive
    (['.lock'], True)
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / LOCK
        self.exclusive = True
        self._descriptor: int | None = None

    def __enter__(self) -> RunLock:
        while not self._try():  # the process that held the lock removed the file after it was opened here
            pass
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor is None:
            return
        with contextlib.suppress(OSError):  # Windows removes no open file
            if self._is_in_place(self._descriptor):
                self.path.unlink()
        os.close(self._descriptor)
        self._descriptor = None

    def require_held(self) -> None:
        """Raise RunFolderError when the folder was removed or replaced since it was locked."""
        if self._descriptor is None:
            raise CallOrderError(
                f"the run folder {self.folder} is not open: use it in 'with RunFolder(...) as folder:'"
            )
        if not self._is_in_place(self._descriptor):
            raise RunFolderError(
                f"{self.folder}, or {LOCK} in it, was removed during the run: the run cannot be saved there"
            )

    def _try(self) -> bool:
        """Open and lock the file; False when it was removed in between."""
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise RunFolderError(f"cannot write {self.path}: {error.strerror}") from None
        try:
            self._lock(descriptor)
            if not self._is_in_place(descriptor):
                return False
            self._descriptor = descriptor
        finally:
            if self._descriptor is None:
                os.close(descriptor)
        with contextlib.suppress(OSError):  # a full disk: others then cannot name this process
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} on {platform.node()}".encode())
        return True

    def _lock(self, descriptor: int) -> None:
        try:
            _lock(descriptor)
        except (BlockingIOError, PermissionError):
            holder = os.read(descriptor, 1000).decode(errors="replace") or "another process"
            raise RunFolderError(
                f"the run folder {self.folder} is in use by {holder}: wait for its end, or stop it"
            ) from None
        except OSError:
            self.exclusive = False

    def _is_in_place(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), os.stat(self.path))
        except (FileNotFoundError, NotADirectoryError):
            return False
