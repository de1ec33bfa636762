"""The threads among which short work is divided."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from xpnet_kernels.cpu.atomics import CAN_SHARE
from xpnet_kernels.cpu.pool import thread_limit
from xpnet_kernels.cpu.product_code import product_code
from xpnet_kernels.cpu.sharing import (
    AWAKE,
    DECLINED,
    DONE_ASLEEP,
    LINE,
    PRODUCT_CODE,
    is_asleep,
    member_word,
    rest,
    serve,
    team_words,
)
from xpnet_kernels.cpu.vectors import LANES

_MOST_MEMBERS = 8  # for work of this length, more are in each other's way
_LONG_WORK = 2**25  # multiplications: so long that a call alone gains by waking threads first
_LEAST_STACK = 2**20  # bytes: what is packed lies on a thread's stack
_ANY = np.dtype(np.float32)  # these kernels have no element type


class Team:
    """A caller and daemon threads, started when first needed and again after a fork, whose child has none of them."""

    def __init__(self) -> None:
        self._reset()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        self._words: np.ndarray | None = None
        self._alarms: list[threading.Lock] = []
        self._starting, self._waking = threading.Lock(), threading.Lock()
        self._refused = False

    @property
    def words(self) -> np.ndarray:
        """What the members share, for :func:`~xpnet_kernels.cpu.sharing.share`; (W,) int64."""
        if self._words is None:
            with self._starting:
                if self._words is None:
                    self._words = _new_words(min(thread_limit(), _MOST_MEMBERS) if CAN_SHARE else 1)
        return self._words

    def run(self, work: int, compiled: Callable[..., int], *arguments: Any) -> bool:
        """Call a kernel that shares its work, as long as so many multiplications; false if it declines."""
        if work > _LONG_WORK:
            self.wake()
        outcome = compiled(self._words if self._words is not None else self.words, *arguments)
        if outcome == DONE_ASLEEP:
            self.wake()
        return outcome != DECLINED

    def wake(self) -> None:
        """See that the threads look out for work, unless another caller sees to it."""
        words, waking = self.words, self._waking
        if not is_asleep[_ANY](words) or not waking.acquire(blocking=False):
            return
        try:
            for member in range(1, (words.size - team_words(0)) // LINE):
                if member > len(self._alarms) and not self._start(member):
                    break
                alarm = self._alarms[member - 1]
                if words[member_word(member, AWAKE)] == 0 and alarm.locked():
                    alarm.release()
        finally:
            waking.release()

    def rest(self) -> None:
        """Leave the cores to threads of others for a while."""
        if self._alarms:
            rest[_ANY](self.words)

    def _start(self, member: int) -> bool:
        """Start a member's thread, asleep, unless that was refused before."""
        self._refused |= 0 < threading.stack_size() < _LEAST_STACK
        if self._refused:
            return False
        alarm, compiled, words = threading.Lock(), serve[_ANY], self.words
        alarm.acquire()

        def work() -> None:
            while True:
                alarm.acquire()
                compiled(words, member)

        try:
            threading.Thread(target=work, name=f"xpnet-team-{member}", daemon=True).start()
        except RuntimeError:  # the system gives no more threads
            self._refused = True
            return False
        self._alarms.append(alarm)
        return True


def _new_words(members: int) -> np.ndarray:
    size = team_words(members)
    memory = np.zeros(size + LINE, np.int64)
    first = -(memory.ctypes.data // memory.itemsize) % LINE  # no two members in one cache line
    words = memory[first : first + size]
    words[PRODUCT_CODE] = product_code[_ANY]() if LANES else 0
    return words


TEAM = Team()
