"""The team of threads that share short work through the scheduler."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from xpnet_kernels.cpu.threads.atomics import HAS_CLOCK
from xpnet_kernels.cpu.threads.limit import thread_limit
from xpnet_kernels.cpu.threads.scheduler import (
    AWAKE,
    INVALID_ARGUMENTS,
    LINE_WORDS,
    OK_WORKERS_ASLEEP,
    has_sleeping_workers,
    member_index,
    state_size,
    suspend_sharing,
    worker_loop,
)

_MAX_MEMBERS = 8  # with more, the overhead exceeds the gain for work this short
_LONG_WORK = 2**25  # multiplications; above, even an isolated call gains from waking the workers first
_MIN_STACK = 2**20  # bytes; blocks keep their buffers on the stack
_ANY = np.dtype(np.float32)  # the scheduler's kernels do not depend on the element type


class Team:
    """A caller and daemon threads, started at the first use, and again in a forked child, which inherits no threads."""

    def __init__(self) -> None:
        self._reset()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        self._state: np.ndarray | None = None
        self._alarms: list[threading.Lock] = []  # a sleeping worker waits for its own
        self._starting, self._waking = threading.Lock(), threading.Lock()
        self._cannot_start = False

    @property
    def state(self) -> np.ndarray:
        """What the members share, for :func:`~xpnet_kernels.cpu.threads.scheduler.parallel_for`; an int64 vector."""
        if self._state is None:
            with self._starting:
                if self._state is None:
                    self._state = _new_state(min(thread_limit(), _MAX_MEMBERS) if HAS_CLOCK else 1)
        return self._state

    def run(self, work: int, compiled: Callable[..., int], *arguments: Any) -> bool:
        """Call a kernel that shares its work; false if the kernel found its arguments invalid and did nothing.

        Args:
            work: an estimate of the kernel's work, in multiplications of a matrix product that take as long.
            compiled: takes the team's state and the arguments, and returns a status of the scheduler.
            arguments: of the kernel.
        """
        if work > _LONG_WORK:
            self.wake()
        status = compiled(self._state if self._state is not None else self.state, *arguments)
        if status == OK_WORKERS_ASLEEP:
            self.wake()
        return status != INVALID_ARGUMENTS

    def wake(self) -> None:
        """Make sure that the workers are awake, unless another caller is doing so."""
        state, waking = self.state, self._waking
        if not has_sleeping_workers[_ANY](state) or not waking.acquire(blocking=False):
            return
        try:
            for member in range(1, (state.size - state_size(0)) // LINE_WORDS):
                if member > len(self._alarms) and not self._start(member):
                    break
                alarm = self._alarms[member - 1]
                if state[member_index(member, AWAKE)] == 0 and alarm.locked():
                    alarm.release()
        finally:
            waking.release()

    def suspend(self) -> None:
        """Leave the cores to other threads for a fifth of a second."""
        if self._alarms:
            suspend_sharing[_ANY](self.state)

    def _start(self, member: int) -> bool:
        """Start a worker, asleep; false if the system refuses, now or before."""
        self._cannot_start |= 0 < threading.stack_size() < _MIN_STACK
        if self._cannot_start:
            return False
        alarm, compiled, state = threading.Lock(), worker_loop[_ANY], self.state
        alarm.acquire()

        def work() -> None:
            while True:
                alarm.acquire()
                compiled(state, member)

        try:
            threading.Thread(target=work, name=f"xpnet-team-{member}", daemon=True).start()
        except RuntimeError:  # the system has no more threads
            self._cannot_start = True
            return False
        self._alarms.append(alarm)
        return True


def _new_state(members: int) -> np.ndarray:
    size = state_size(members)
    memory = np.zeros(size + LINE_WORDS, np.int64)
    first = -(memory.ctypes.data // memory.itemsize) % LINE_WORDS  # no two members share a cache line
    return memory[first : first + size]


TEAM = Team()
