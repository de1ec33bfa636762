"""Blocks of work divided among a few threads that look out for it, for a short while, without sleeping.

Waking a core that sleeps takes as long as a small layer. So a thread that has been woken stays in compiled code, where
it needs no interpreter's lock, and begins with the next job a fraction of a microsecond after it was posted. When none
comes for a millisecond or two, it sleeps.

A job is a function and a number of blocks. Each member of the team (the caller, and the threads) begins with blocks
that are its own, the same in each job of a training step, so that much of what it reads is in its core's cache; then it
takes what the others have not begun. So a caller never waits for a thread that sleeps, or whose core has other work,
unless in the midst of a block. What is saved and what is waited for is added up: where waiting costs more, because the
cores have other work, nothing is shared for a while.

A team has one job at a time. A caller that finds it taken works alone.
"""

from __future__ import annotations

from typing import Any

from numba import njit

from xpnet_kernels.cpu.arrays import stay_apart
from xpnet_kernels.cpu.atomics import add_to_word, cycles, give_way, load_word, pause, replace_word, store_word
from xpnet_kernels.cpu.compilation import INNER, OutIntegers, kernel
from xpnet_kernels.cpu.outlining import call_outlined

DECLINED, DONE, DONE_ASLEEP = range(3)  # what kernels that share return; the last: threads should be woken

LINE = 16  # words: two cache lines, for processors fetch them by twos
# Words that are the first of a line: the number of the open job, or 0; how many threads look at it; whether a caller
# has the team.
_JOB, _HELPING, _TAKEN = 0, LINE, 2 * LINE
# A line for callers: what the open job is; how many there were; when the last one ended; until when no work is shared;
# what sharing has saved. And a line for what blocks read: where the code of the matrix product is.
_CODE, _DATA, COUNT, _LAST, _REST, _BALANCE = range(3 * LINE, 3 * LINE + 6)
PRODUCT_CODE = 4 * LINE
# A line for each member: the next of its own blocks, the end of these, and of a thread whether it is awake.
_MEMBERS = 5 * LINE
_NEXT, _END, AWAKE = range(3)

# Lengths of time in cycles, of which a microsecond has two to four thousand.
_PATIENCE = 2**22
_REST_LENGTH = 2**29
_MOST_CREDIT, _MOST_DEBT = 2**24, 2**22
_PAUSES = 4


def team_words(members: int) -> int:
    """How many words a team of so many has, the caller included."""
    return _MEMBERS + members * LINE


def member_word(member: int, place: int) -> int:
    """Which word says something of a member."""
    return _MEMBERS + member * LINE + place


@njit(**INNER)
def team_size(words: Any) -> int:
    """How many members the team has, the caller included."""
    return (words.size - _MEMBERS) // LINE


@njit(**INNER)
def stripe(words: Any, length: int, unit: int, longest: int) -> int:
    """How long blocks of so many elements should be: one for each member, or more if the ``longest`` is exceeded.

    It is a multiple of ``unit``; where a unit is computed at once, an element is the same in whichever block it is.
    """
    members = team_size(words)
    blocks = members * max(-(-length // (members * longest)), 1)
    return unit * max(-(-length // (unit * blocks)), 1)


@njit(**INNER)
def block_of(length: int, step: int, block: int) -> tuple[int, int]:
    """The first element of a block, and the first after it."""
    return block * step, min((block + 1) * step, length)


@njit(**INNER)
def share(words: Any, call: tuple[int, int], blocks: int) -> int:
    """Make a call (see :func:`~xpnet_kernels.cpu.outlining.outlined`) for each block; ``DONE``, or ``DONE_ASLEEP``.

    What it writes is something else for each block, and the same whoever makes it.
    """
    stay_apart()
    code, data = call
    began = cycles()
    if blocks < 2 or team_size(words) < 2 or _is_resting(words, began) or not replace_word(words, _TAKEN, 0, 1):
        for block in range(blocks):
            call_outlined(code, data, block)
        return DONE
    asleep = _post(words, code, data, blocks)
    asleep &= began - load_word(words, _LAST) < _PATIENCE  # for a call that comes alone, nobody is woken
    done = _take_part(words, 0, code, data)
    store_word(words, _JOB, 0)
    ready = cycles()
    while load_word(words, _HELPING) > 0:
        _wait()
    ended = cycles()
    saved = (ready - began) * (blocks - done) // max(done, 1)
    _account(words, saved - (ended - ready), ended)
    store_word(words, _LAST, ended)
    store_word(words, _TAKEN, 0)
    return DONE_ASLEEP if asleep else DONE


@njit(**INNER)
def _post(words: Any, code: int, data: int, blocks: int) -> bool:
    """Open a job; whether a thread sleeps. No thread is at an earlier one: its caller has seen to that."""
    asleep, members = False, team_size(words)
    for member in range(members):
        place = _MEMBERS + member * LINE
        store_word(words, place + _NEXT, blocks * member // members)
        store_word(words, place + _END, blocks * (member + 1) // members)
        asleep |= member > 0 and load_word(words, place + AWAKE) == 0
    store_word(words, _CODE, code)
    store_word(words, _DATA, data)
    store_word(words, _JOB, add_to_word(words, COUNT, 1) + 1)
    return asleep


@njit(**INNER)
def _take_part(words: Any, member: int, code: int, data: int) -> int:
    """Do the member's own blocks, then what is left of the others'; how many they were."""
    members, done = team_size(words), 0
    for distance in range(members):
        place = _MEMBERS + (member + distance) % members * LINE
        while True:
            block = add_to_word(words, place + _NEXT, 1)
            if block >= load_word(words, place + _END):
                break
            call_outlined(code, data, block)
            done += 1
    return done


@njit(**INNER)
def _account(words: Any, gain: int, now: int) -> None:
    balance = min(load_word(words, _BALANCE) + gain, _MOST_CREDIT)
    if balance < -_MOST_DEBT:
        store_word(words, _REST, now + _REST_LENGTH)
        balance = 0
    store_word(words, _BALANCE, balance)


@njit(**INNER)
def _is_resting(words: Any, now: int) -> bool:
    return 0 < load_word(words, _REST) - now <= _REST_LENGTH  # if more, the clock was set back


@njit(**INNER)
def _wait() -> None:
    for _ in range(_PAUSES):
        pause()
    give_way()  # where cores are short, it is our own caller, or its thread, that waits for this one


@kernel
def serve(words: OutIntegers, member: int) -> None:
    """Take part in every job until there is none for a while, or a rest."""
    served, since, awake = 0, cycles(), _MEMBERS + member * LINE + AWAKE
    store_word(words, awake, 1)
    while True:
        job = load_word(words, _JOB)
        if job not in (0, served):
            add_to_word(words, _HELPING, 1)  # from here on the caller stays, with the arguments on its stack
            job = load_word(words, _JOB)
            if job != 0:
                _take_part(words, member, load_word(words, _CODE), load_word(words, _DATA))
                served = job
            add_to_word(words, _HELPING, -1)
            since = cycles()
        now = cycles()
        if now - since > _PATIENCE or _is_resting(words, now):
            store_word(words, awake, 0)
            return
        _wait()


@kernel
def is_asleep(words: OutIntegers) -> bool:
    """Whether a thread sleeps that should not."""
    asleep = False
    for member in range(1, team_size(words)):
        asleep |= load_word(words, _MEMBERS + member * LINE + AWAKE) == 0
    return asleep and not _is_resting(words, cycles())


@kernel
def rest(words: OutIntegers) -> None:
    """Share nothing for a while, and let the threads sleep."""
    store_word(words, _REST, cycles() + _REST_LENGTH)
