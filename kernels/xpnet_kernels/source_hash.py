"""A hash of the sources, which is part of compiled kernels' names, so that changes invalidate the cache on disk."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path


@functools.cache
def source_hash(package: str) -> str:
    """A hash of the contents of all Python files in ``cpu`` or ``cuda``.

    Numba's cache on disk is keyed by a function's name and the time stamp of its file, so it misses changes of
    functions in other files that the function calls. With this hash in its name, a kernel is compiled again when any
    source changes.
    """
    folder, digest = Path(__file__).parent / package, hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]
