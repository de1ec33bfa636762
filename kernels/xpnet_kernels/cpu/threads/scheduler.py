"""A spinning work-stealing scheduler: ``parallel_for`` over blocks of compiled work, without the GIL.

Waking a sleeping core takes as long as a small layer. So a thread that has been woken stays in compiled code and spins:
it starts on the next job within a fraction of a microsecond. After a millisecond or two without a job it sleeps.

A job is a callback and a number of blocks. Each member of the team (the caller and its worker threads) first runs its
own blocks, which are the same in every training step, so that its core's cache holds much of what they read. Then it
steals blocks that other members have not started. So a caller never waits for a thread that sleeps or has lost its
core, except in the middle of a block.

The scheduler adds up the time that sharing saves, minus the time spent waiting. When the balance is negative, because
other processes use the cores, it suspends sharing for a fifth of a second.

A team runs one job at a time. A caller that finds it busy runs its blocks alone.
"""

from __future__ import annotations

from typing import Any

from numba import njit

from xpnet_kernels.cpu.numba_extensions.array_intrinsics import no_inline
from xpnet_kernels.cpu.numba_extensions.callbacks import invoke
from xpnet_kernels.cpu.numba_extensions.compilation import INNER, OutIntegers, kernel
from xpnet_kernels.cpu.threads.atomics import (
    atomic_load,
    atomic_store,
    compare_and_swap,
    cycle_count,
    fetch_and_add,
    spin_pause,
    yield_thread,
)

# The status that a kernel which shares its work returns. After the last one, the caller should wake the workers.
INVALID_ARGUMENTS, OK, OK_WORKERS_ASLEEP = range(3)

# The state of a team is a vector of int64 words. Words that different threads write lie on different lines.
LINE_WORDS = 16  # two cache lines, because processors fetch them in pairs
# The number of the open job, or 0; the number of workers that look at it; whether a caller has locked the team.
_JOB, _ACTIVE_WORKERS, _LOCK = 0, LINE_WORDS, 2 * LINE_WORDS
# A line for callers: the job's callback; the number of jobs so far; when the last one ended; until when sharing is
# suspended; the time saved minus the time waited.
_FUNCTION, _ARGUMENTS, JOB_COUNT, _LAST_END, _SUSPENDED_UNTIL, _BALANCE = range(3 * LINE_WORDS, 3 * LINE_WORDS + 6)
# A line for each member: its next own block; the end of its own blocks; whether it is awake (workers only).
_MEMBERS = 4 * LINE_WORDS
_NEXT, _END, AWAKE = range(3)

# Durations in clock cycles, of which a microsecond has two to four thousand.
_SPIN_CYCLES = 2**22
_SUSPENSION_CYCLES = 2**29
_MAX_CREDIT, _MAX_DEBT = 2**24, 2**22
_PAUSES_PER_YIELD = 4


def state_size(members: int) -> int:
    """The number of words in the state of a team with this many members, the caller included."""
    return _MEMBERS + members * LINE_WORDS


def member_index(member: int, field: int) -> int:
    """The index of a member's field, such as ``AWAKE``, in the state."""
    return _MEMBERS + member * LINE_WORDS + field


@njit(**INNER)
def team_size(team: Any) -> int:
    """The number of members, the caller included."""
    return (team.size - _MEMBERS) // LINE_WORDS


@njit(**INNER)
def block_length(team: Any, length: int, unit: int, longest: int) -> int:
    """The length of the blocks into which ``length`` elements are divided: one per member, more above ``longest``.

    It is a multiple of ``unit``: a loop that handles ``unit`` elements per iteration then computes an element in the
    same way whatever the number of blocks.
    """
    members = team_size(team)
    blocks = members * max(-(-length // (members * longest)), 1)
    return unit * max(-(-length // (unit * blocks)), 1)


@njit(**INNER)
def block_range(length: int, step: int, block: int) -> tuple[int, int]:
    """The first element of a block, and the first after it."""
    return block * step, min((block + 1) * step, length)


@njit(**INNER)
def parallel_for(team: Any, callback: tuple[int, int], blocks: int) -> int:
    """Invoke a callback (see :func:`~xpnet_kernels.cpu.numba_extensions.callbacks.callback`) once for each block.

    Returns ``OK`` or ``OK_WORKERS_ASLEEP``. Different blocks must write to different memory, and their results must not
    depend on the thread.
    """
    no_inline()
    function, arguments = callback
    began = cycle_count()
    if blocks < 2 or team_size(team) < 2 or _is_suspended(team, began) or not compare_and_swap(team, _LOCK, 0, 1):
        for block in range(blocks):
            invoke(function, arguments, block)
        return OK
    asleep = _post(team, function, arguments, blocks)
    asleep &= began - atomic_load(team, _LAST_END) < _SPIN_CYCLES  # an isolated call wakes no workers
    done = _run_blocks(team, 0, function, arguments)
    atomic_store(team, _JOB, 0)
    ready = cycle_count()
    while atomic_load(team, _ACTIVE_WORKERS) > 0:
        _wait()
    ended = cycle_count()
    saved = (ready - began) * (blocks - done) // max(done, 1)
    _update_balance(team, saved - (ended - ready), ended)
    atomic_store(team, _LAST_END, ended)
    atomic_store(team, _LOCK, 0)
    return OK_WORKERS_ASLEEP if asleep else OK


@njit(**INNER)
def _post(team: Any, function: int, arguments: int, blocks: int) -> bool:
    """Open a job; return whether a worker sleeps. No worker is still at an earlier job: its caller waited for that."""
    asleep, members = False, team_size(team)
    for member in range(members):
        place = _MEMBERS + member * LINE_WORDS
        atomic_store(team, place + _NEXT, blocks * member // members)
        atomic_store(team, place + _END, blocks * (member + 1) // members)
        asleep |= member > 0 and atomic_load(team, place + AWAKE) == 0
    atomic_store(team, _FUNCTION, function)
    atomic_store(team, _ARGUMENTS, arguments)
    atomic_store(team, _JOB, fetch_and_add(team, JOB_COUNT, 1) + 1)
    return asleep


@njit(**INNER)
def _run_blocks(team: Any, member: int, function: int, arguments: int) -> int:
    """Run the member's own blocks, then steal from the others; return the number of blocks run."""
    members, done = team_size(team), 0
    for distance in range(members):
        place = _MEMBERS + (member + distance) % members * LINE_WORDS
        while True:
            block = fetch_and_add(team, place + _NEXT, 1)
            if block >= atomic_load(team, place + _END):
                break
            invoke(function, arguments, block)
            done += 1
    return done


@njit(**INNER)
def _update_balance(team: Any, gain: int, now: int) -> None:
    balance = min(atomic_load(team, _BALANCE) + gain, _MAX_CREDIT)
    if balance < -_MAX_DEBT:
        atomic_store(team, _SUSPENDED_UNTIL, now + _SUSPENSION_CYCLES)
        balance = 0
    atomic_store(team, _BALANCE, balance)


@njit(**INNER)
def _is_suspended(team: Any, now: int) -> bool:
    return 0 < atomic_load(team, _SUSPENDED_UNTIL) - now <= _SUSPENSION_CYCLES  # more if the clock was set back


@njit(**INNER)
def _wait() -> None:
    for _ in range(_PAUSES_PER_YIELD):
        spin_pause()
    yield_thread()  # where cores are scarce, the thread that we wait for may need this one


@kernel
def worker_loop(team: OutIntegers, member: int) -> None:
    """Take part in every job, until none has come for ``_SPIN_CYCLES`` or sharing is suspended."""
    finished, since, awake = 0, cycle_count(), _MEMBERS + member * LINE_WORDS + AWAKE
    atomic_store(team, awake, 1)
    while True:
        job = atomic_load(team, _JOB)
        if job not in (0, finished):
            fetch_and_add(team, _ACTIVE_WORKERS, 1)  # from here on the caller waits: its stack holds the arguments
            job = atomic_load(team, _JOB)
            if job != 0:
                _run_blocks(team, member, atomic_load(team, _FUNCTION), atomic_load(team, _ARGUMENTS))
                finished = job
            fetch_and_add(team, _ACTIVE_WORKERS, -1)
            since = cycle_count()
        now = cycle_count()
        if now - since > _SPIN_CYCLES or _is_suspended(team, now):
            atomic_store(team, awake, 0)
            return
        _wait()


@kernel
def has_sleeping_workers(team: OutIntegers) -> bool:
    """Whether a worker sleeps although sharing is not suspended."""
    asleep = False
    for member in range(1, team_size(team)):
        asleep |= atomic_load(team, _MEMBERS + member * LINE_WORDS + AWAKE) == 0
    return asleep and not _is_suspended(team, cycle_count())


@kernel
def suspend_sharing(team: OutIntegers) -> None:
    """Share nothing for ``_SUSPENSION_CYCLES``, and let the workers sleep."""
    atomic_store(team, _SUSPENDED_UNTIL, cycle_count() + _SUSPENSION_CYCLES)
