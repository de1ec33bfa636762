"""The threads of shared products."""

from __future__ import annotations

import os
import threading

import numpy as np

from xpnet_kernels.cpu.pool import thread_limit
from xpnet_kernels.cpu.shared_products import ASLEEP, THREAD_WORDS, have_a_rest, serve

_MOST_THREADS = 8  # for products of this size, more are in each other's way
_ANY = np.dtype(np.float32)  # these kernels have no element type


class ProductThreads:
    """Daemon threads, started when first needed and again after a fork, whose child has none of them.

    Attributes:
        words: those of every thread, for :func:`shared_product`.
    """

    def __init__(self) -> None:
        self._reset()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        count = (min(thread_limit(), _MOST_THREADS) - 1) * THREAD_WORDS
        memory = np.zeros(count + 2 * THREAD_WORDS, np.int64)
        first = -(memory.ctypes.data // memory.itemsize) % THREAD_WORDS  # no two threads in one cache line
        self.words = memory[first : first + count + THREAD_WORDS]
        self._alarms: list[threading.Lock] = []
        self._waking = threading.Lock()

    def wake(self) -> None:
        """See that the threads look out for work, unless another caller sees to it."""
        if not self._waking.acquire(blocking=False):
            return
        try:
            for place in range(self.words.size // THREAD_WORDS - 1):
                if place == len(self._alarms):
                    self._start(place * THREAD_WORDS)
                alarm = self._alarms[place]
                if self.words[place * THREAD_WORDS] == ASLEEP and alarm.locked():
                    alarm.release()
        finally:
            self._waking.release()

    def rest(self) -> None:
        """Leave the cores to other threads, those of OpenBLAS, for about a tenth of a second."""
        if self._alarms:
            have_a_rest[_ANY](self.words)

    def _start(self, start: int) -> None:
        alarm, compiled, words = threading.Lock(), serve[_ANY], self.words
        alarm.acquire()

        def work() -> None:
            while True:
                alarm.acquire()
                compiled(words, start)

        threading.Thread(target=work, name=f"xpnet-products-{len(self._alarms) + 1}", daemon=True).start()
        self._alarms.append(alarm)


THREADS = ProductThreads()
