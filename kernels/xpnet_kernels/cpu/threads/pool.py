"""A thread pool for long calls, whose threads sleep on locks between calls.

Numba's own threading layers do not fit: OpenMP's threads spin and slow down NumPy's matrix products, and workqueue
aborts the process when two Python threads call at once. Here a call takes the pool if it is idle, and otherwise runs
its blocks in the calling thread. Blocks are cut by the shape alone, so results do not depend on the number of threads.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable
from typing import Any

from xpnet_kernels.cpu.threads.limit import thread_limit


class _Task:
    """A function to call once for every block number; any thread may take the next block."""

    def __init__(self, function: Callable[[int], Any], blocks: int) -> None:
        self.function = function
        self.results: list[Any] = [None] * blocks
        self.error: BaseException | None = None
        self._next = itertools.count()  # its steps are atomic
        self._finished = itertools.count(1)
        self._done = threading.Lock()
        self._done.acquire()

    def work(self) -> None:
        """Run blocks until none is left."""
        blocks = len(self.results)
        while (block := next(self._next)) < blocks:
            try:
                self.results[block] = self.function(block)
            except BaseException as error:
                self.error = error
            if next(self._finished) == blocks:
                self._done.release()

    def finish(self) -> list[Any]:
        """Wait for the blocks that other threads took; return the results of all blocks."""
        self._done.acquire()
        if self.error is not None:
            raise self.error
        return self.results


class Pool:
    """Daemon threads, started at the first use, and again in a forked child, which inherits no threads."""

    def __init__(self) -> None:
        self._reset()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        self._idle = threading.Lock()
        self._wake: list[threading.Lock] = []
        self._task: _Task | None = None

    def run(self, function: Callable[[int], Any], blocks: int) -> list[Any]:
        """``[function(0), …, function(blocks - 1)]``; in parallel if the pool is idle."""
        helpers = min(thread_limit(), blocks) - 1
        if helpers < 1 or not self._idle.acquire(blocking=False):
            return [function(block) for block in range(blocks)]
        try:
            self._task = task = _Task(function, blocks)
            self._start(helpers)
            for wake in self._wake[:helpers]:
                if wake.locked():  # otherwise the thread is still waking from the last call, and will find this task
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
                del task  # so that an idle thread keeps no array alive


_POOL = Pool()
_BLOCK_ELEMENTS = 2**18  # for shorter blocks, passing the GIL between threads costs more than it saves
_PARALLEL_ELEMENTS = 2**20  # waking a sleeping core takes tens of microseconds, and slows NumPy's matrix products


def over_rows(function: Callable[[int, int], Any], rows: int, columns: int, max_blocks: int | None = None) -> list[Any]:
    """The results of ``function(first, last)`` for consecutive blocks of rows; large arrays use the thread pool.

    The blocks depend on the shape alone.
    """
    if rows * columns < _PARALLEL_ELEMENTS:
        return [function(0, rows)]
    height = max(1, _BLOCK_ELEMENTS // columns, -(-rows // max_blocks) if max_blocks else 0)
    return _POOL.run(lambda b: function(b * height, min((b + 1) * height, rows)), -(-rows // height))
