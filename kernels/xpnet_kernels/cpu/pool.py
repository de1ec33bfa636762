"""Blocks of work over a few threads of our own, which sleep on locks between calls.

Spinning threads, as OpenMP's, take the cores from NumPy's matrix products; Numba's own layers spin, or abort when two
Python threads call at once. Here a call takes the pool if it is idle, and else works alone. Which thread serves a block
is chance, but a block is the same work everywhere, so results do not depend on the number of threads.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable
from typing import Any

THREADS_VARIABLE = "XPNET_NUM_THREADS"


def thread_limit() -> int:
    """How many threads may work: ``XPNET_NUM_THREADS``, else the number of CPUs the process may use."""
    text = os.environ.get(THREADS_VARIABLE, "")
    if text:
        if not text.isdecimal() or int(text) < 1:
            raise ValueError(f"{THREADS_VARIABLE} must be a whole number of at least 1, not {text!r}")
        return int(text)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Task:
    """A function to call with every number below ``blocks``, by whoever comes."""

    def __init__(self, function: Callable[[int], Any], blocks: int) -> None:
        self.function = function
        self.results: list[Any] = [None] * blocks
        self.error: BaseException | None = None
        self._next = itertools.count()  # its steps are atomic
        self._finished = itertools.count(1)
        self._done = threading.Lock()
        self._done.acquire()

    def work(self) -> None:
        """Serve blocks until none is left."""
        blocks = len(self.results)
        while (block := next(self._next)) < blocks:
            try:
                self.results[block] = self.function(block)
            except BaseException as error:
                self.error = error
            if next(self._finished) == blocks:
                self._done.release()

    def finish(self) -> list[Any]:
        """Wait for the blocks that other threads took; return every block's result."""
        self._done.acquire()
        if self.error is not None:
            raise self.error
        return self.results


class Pool:
    """Daemon threads, started when first needed and again after a fork, whose child has none of them."""

    def __init__(self) -> None:
        self._reset()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        self._idle = threading.Lock()
        self._wake: list[threading.Lock] = []
        self._task: _Task | None = None

    def run(self, function: Callable[[int], Any], blocks: int) -> list[Any]:
        """``[function(0), …, function(blocks - 1)]``; the calls overlap when the pool is idle."""
        helpers = min(thread_limit(), blocks) - 1
        if helpers < 1 or not self._idle.acquire(blocking=False):
            return [function(block) for block in range(blocks)]
        try:
            self._task = task = _Task(function, blocks)
            self._start(helpers)
            for wake in self._wake[:helpers]:
                if wake.locked():  # else it has not yet woken from the last call, and will find this task
                    wake.release()
            task.work()
            return task.finish()
        finally:
            self._task = None
            self._idle.release()

    def _start(self, count: int) -> None:
        while len(self._wake) < count:
            wake = threading.Lock()
            wake.acquire()
            name = f"xpnet-kernels-{len(self._wake) + 1}"
            threading.Thread(target=self._serve, args=(wake,), name=name, daemon=True).start()
            self._wake.append(wake)

    def _serve(self, wake: threading.Lock) -> None:
        while True:
            wake.acquire()
            if (task := self._task) is not None:
                task.work()
                del task  # an idle thread keeps no array alive


_POOL = Pool()
_BLOCK_ELEMENTS = 2**18  # shorter work is lost in handing over the interpreter's lock
_PARALLEL_ELEMENTS = 2**20  # waking a core that sleeps costs tens of microseconds, and disturbs NumPy's matrix products


def over_rows(function: Callable[[int, int], Any], rows: int, columns: int, most: int | None = None) -> list[Any]:
    """The results of ``function(first, last)`` for blocks of rows, in order; large arrays use the pool.

    The blocks, ``most`` of them at most, follow from the shape alone.
    """
    if rows * columns < _PARALLEL_ELEMENTS:
        return [function(0, rows)]
    height = max(1, _BLOCK_ELEMENTS // columns, -(-rows // most) if most else 0)
    return _POOL.run(lambda b: function(b * height, min((b + 1) * height, rows)), -(-rows // height))
