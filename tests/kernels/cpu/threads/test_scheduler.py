"""The scheduler: every block runs once, and a caller returns only after its last block."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numba import njit
from xpnet_kernels.cpu.numba_extensions.callbacks import callback
from xpnet_kernels.cpu.threads import scheduler
from xpnet_kernels.cpu.threads.atomics import HAS_CLOCK, atomic_load, atomic_store, fetch_and_add
from xpnet_kernels.cpu.threads.scheduler import (
    AWAKE,
    JOB_COUNT,
    OK,
    OK_WORKERS_ASLEEP,
    member_index,
    parallel_for,
    state_size,
)

pytestmark = pytest.mark.skipif(not HAS_CLOCK, reason="on this system nothing is shared")

ANY = np.dtype(np.float32)
NEVER = 2**40


@njit(nogil=True)
def _count(counts: Any, block: int) -> None:
    fetch_and_add(counts, block, 1)


@njit(nogil=True)
def _meet(places: Any, block: int) -> None:
    """Wait for the other block, which only another thread can be at; give up after some milliseconds."""
    atomic_store(places, block, 1)
    for _ in range(2**24):
        if atomic_load(places, 1 - block) == 1:
            places[2 + block] = 1
            return


_COUNT, _MEET = callback(_count), callback(_meet)


@njit(nogil=True)
def count(team: Any, counts: Any) -> int:
    return parallel_for(team, _COUNT((counts,)), counts.size)


@njit(nogil=True)
def meet(team: Any, places: Any) -> int:
    return parallel_for(team, _MEET((places,)), 2)


@njit(nogil=True)
def step_of(team: Any, length: int, unit: int, longest: int) -> int:
    return scheduler.block_length(team, length, unit, longest)


def team_of(members: int, awake: bool = True) -> np.ndarray:
    """The state of a team whose workers seem to be awake, but do not exist."""
    team = np.zeros(state_size(members), np.int64)
    for member in range(1, members):
        team[member_index(member, AWAKE)] = awake
    return team


@pytest.mark.parametrize("members", [1, 2, 3, 8])
@pytest.mark.parametrize("blocks", [0, 1, 2, 3, 7, 1000])
def test_a_caller_without_workers_runs_every_block_once(members, blocks):
    team, counts = team_of(members), np.zeros(blocks, np.int64)
    assert count(team, counts) == OK
    assert counts.tolist() == [1] * blocks


@pytest.mark.parametrize("members", [2, 3, 8])
def test_every_block_runs_once_with_workers_that_come_and_go(members):
    team = team_of(members, awake=False)
    end = time.monotonic() + 0.3

    def serve(member: int) -> None:
        work_until(lambda: time.monotonic() > end, team, member)

    threads = [threading.Thread(target=serve, args=(member,)) for member in range(1, members)]
    for thread in threads:
        thread.start()
    while time.monotonic() < end:
        for blocks in (2, 3, 17, 200):
            counts = np.zeros(blocks, np.int64)
            count(team, counts)
            assert counts.tolist() == [1] * blocks
    for thread in threads:
        thread.join(30)
    assert team[JOB_COUNT] > 10


def work_until(end: Callable[[], bool], team: np.ndarray, member: int) -> None:
    while not end():
        scheduler.worker_loop[ANY](team, member)


def test_two_threads_run_blocks_of_one_job_at_the_same_time(until):
    team, over = team_of(2, awake=False), threading.Event()
    thread = threading.Thread(target=work_until, args=(over.is_set, team, 1))
    thread.start()

    def is_met() -> bool:
        places = np.zeros(4, np.int64)
        meet(team, places)
        return places.tolist() == [1, 1, 1, 1]

    try:
        assert until(is_met)
    finally:
        over.set()
        thread.join()


def test_the_caller_waits_for_active_workers(until):
    team, counts = team_of(2), np.zeros(5, np.int64)
    team[scheduler._ACTIVE_WORKERS] = 1
    caller = threading.Thread(target=count, args=(team, counts))
    caller.start()
    assert until(lambda: counts.tolist() == [1] * 5)
    time.sleep(0.05)
    assert caller.is_alive()
    team[scheduler._ACTIVE_WORKERS] = 0
    caller.join(30)
    assert not caller.is_alive()


def test_a_worker_ignores_a_closed_job():
    team, counts = team_of(2), np.zeros(5, np.int64)
    count(team, counts)
    before = team.copy()
    scheduler.worker_loop[ANY](team, 1)
    before[member_index(1, AWAKE)] = 0
    np.testing.assert_array_equal(team, before)
    assert counts.tolist() == [1] * 5


def test_a_caller_works_alone_while_another_has_locked_the_team():
    team, counts = team_of(2), np.zeros(5, np.int64)
    team[scheduler._LOCK] = 1
    before = team.copy()
    assert count(team, counts) == OK
    np.testing.assert_array_equal(team, before)
    assert counts.tolist() == [1] * 5


def test_calls_that_follow_each_other_report_sleeping_workers(until):
    team, counts = team_of(2, awake=False), np.zeros(5, np.int64)
    assert count(team, counts) == OK  # alone
    assert until(lambda: count(team, counts) == OK_WORKERS_ASLEEP)
    team[member_index(1, AWAKE)] = 1
    assert count(team, counts) == OK


def test_sharing_is_suspended_while_the_balance_is_negative(until):
    team, counts = team_of(2, awake=False), np.zeros(5, np.int64)
    count(team, counts)
    assert scheduler.has_sleeping_workers[ANY](team)
    team[scheduler._BALANCE] = -NEVER
    count(team, counts)
    assert team[scheduler._SUSPENDED_UNTIL] > 0
    assert team[scheduler._BALANCE] == 0
    jobs = team[JOB_COUNT]
    assert not scheduler.has_sleeping_workers[ANY](team)
    assert count(team, counts) == OK
    assert team[JOB_COUNT] == jobs
    assert until(lambda: scheduler.has_sleeping_workers[ANY](team))
    assert until(lambda: count(team, counts) == OK_WORKERS_ASLEEP)
    team[scheduler._SUSPENDED_UNTIL] = NEVER**2 // 2**20  # as after a clock that was set back
    count(team, counts)
    assert team[JOB_COUNT] > jobs + 1


def test_waiting_reduces_the_balance(until):
    team, counts = team_of(2), np.zeros(5, np.int64)
    team[scheduler._ACTIVE_WORKERS] = 1
    caller = threading.Thread(target=count, args=(team, counts))
    caller.start()
    assert until(lambda: counts.tolist() == [1] * 5)
    time.sleep(0.01)
    team[scheduler._ACTIVE_WORKERS] = 0
    caller.join(30)
    assert team[scheduler._SUSPENDED_UNTIL] > 0  # ten milliseconds are more than it may owe


def test_the_balance_has_an_upper_limit():
    team, counts = team_of(2), np.zeros(5, np.int64)
    team[scheduler._BALANCE] = NEVER
    count(team, counts)
    assert team[scheduler._BALANCE] == scheduler._MAX_CREDIT


@pytest.mark.parametrize("members", [1, 2, 3, 8])
def test_the_number_of_blocks_is_that_of_the_members_unless_blocks_are_too_long(members):
    team = team_of(members)
    for length in (0, 1, 5, 100, 784, 39_872):
        for unit in (1, 6, 64, 4096):
            for longest in (10 * unit, max(length, 1)):
                step = step_of(team, length, unit, longest)
                assert step > 0
                assert step % unit == 0
                assert step < max(longest, 1) + unit
                blocks = [scheduler.block_range.py_func(length, step, block) for block in range(-(-length // step))]
                assert len(blocks) <= members * max(-(-length // (members * longest)), 1)
                assert [k for first, last in blocks for k in (first, last)][1:-1:2] == [k for _, k in blocks[:-1]]
                assert not blocks or (blocks[0][0], blocks[-1][1]) == (0, length)


def test_suspend_sharing(until):
    team, counts = team_of(2, awake=False), np.zeros(5, np.int64)
    count(team, counts)
    scheduler.suspend_sharing[ANY](team)
    jobs = team[JOB_COUNT]
    assert count(team, counts) == OK
    assert team[JOB_COUNT] == jobs
    assert until(lambda: count(team, counts) == OK_WORKERS_ASLEEP)
