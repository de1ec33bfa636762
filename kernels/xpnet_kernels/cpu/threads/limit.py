"""How many threads the kernels may use."""

from __future__ import annotations

import os

THREADS_VARIABLE = "XPNET_NUM_THREADS"


def thread_limit() -> int:
    """The value of ``XPNET_NUM_THREADS``, else the number of CPUs that the process may use."""
    text = os.environ.get(THREADS_VARIABLE, "")
    if text:
        if not text.isdecimal() or int(text) < 1:
            raise ValueError(f"{THREADS_VARIABLE} must be a whole number of at least 1, not {text!r}")
        return int(text)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
