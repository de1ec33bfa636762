"""Blocks shared among threads: each is done once, whoever comes, and nobody returns too early."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numba import njit
from xpnet_kernels.cpu import sharing
from xpnet_kernels.cpu.atomics import CAN_SHARE, add_to_word, load_word, store_word
from xpnet_kernels.cpu.outlining import outlined
from xpnet_kernels.cpu.sharing import AWAKE, COUNT, DONE, DONE_ASLEEP, member_word, share, team_words

pytestmark = pytest.mark.skipif(not CAN_SHARE, reason="on this system nothing is shared")

ANY = np.dtype(np.float32)
NEVER = 2**40


@njit(nogil=True)
def _count(counts: Any, block: int) -> None:
    add_to_word(counts, block, 1)


@njit(nogil=True)
def _meet(places: Any, block: int) -> None:
    """Wait for the other block, which only another thread can be at; give up after some milliseconds."""
    store_word(places, block, 1)
    for _ in range(2**24):
        if load_word(places, 1 - block) == 1:
            places[2 + block] = 1
            return


_COUNT, _MEET = outlined(_count), outlined(_meet)


@njit(nogil=True)
def count(words: Any, counts: Any) -> int:
    return share(words, _COUNT((counts,)), counts.size)


@njit(nogil=True)
def meet(words: Any, places: Any) -> int:
    return share(words, _MEET((places,)), 2)


@njit(nogil=True)
def step_of(words: Any, length: int, unit: int, longest: int) -> int:
    return sharing.stripe(words, length, unit, longest)


def words_of(members: int, awake: bool = True) -> np.ndarray:
    """The words of a team whose threads are not there, but seem to be awake."""
    words = np.zeros(team_words(members), np.int64)
    for member in range(1, members):
        words[member_word(member, AWAKE)] = awake
    return words


@pytest.mark.parametrize("members", [1, 2, 3, 8])
@pytest.mark.parametrize("blocks", [0, 1, 2, 3, 7, 1000])
def test_a_caller_whom_nobody_helps_does_every_block_once(members, blocks):
    words, counts = words_of(members), np.zeros(blocks, np.int64)
    assert count(words, counts) == DONE
    assert counts.tolist() == [1] * blocks


@pytest.mark.parametrize("members", [2, 3, 8])
def test_every_block_is_done_once_by_threads_that_come_and_go(members):
    words = words_of(members, awake=False)
    end = time.monotonic() + 0.3

    def serve(member: int) -> None:
        serve_until(lambda: time.monotonic() > end, words, member)

    threads = [threading.Thread(target=serve, args=(member,)) for member in range(1, members)]
    for thread in threads:
        thread.start()
    while time.monotonic() < end:
        for blocks in (2, 3, 17, 200):
            counts = np.zeros(blocks, np.int64)
            count(words, counts)
            assert counts.tolist() == [1] * blocks
    for thread in threads:
        thread.join(30)
    assert words[COUNT] > 10


def serve_until(end: Callable[[], bool], words: np.ndarray, member: int) -> None:
    while not end():
        sharing.serve[ANY](words, member)


def test_two_threads_are_at_one_job_together(until):
    words, over = words_of(2, awake=False), threading.Event()
    thread = threading.Thread(target=serve_until, args=(over.is_set, words, 1))
    thread.start()

    def is_met() -> bool:
        places = np.zeros(4, np.int64)
        meet(words, places)
        return places.tolist() == [1, 1, 1, 1]

    try:
        assert until(is_met)
    finally:
        over.set()
        thread.join()


def test_the_caller_waits_for_a_thread_that_looks_at_its_job(until):
    words, counts = words_of(2), np.zeros(5, np.int64)
    words[sharing._HELPING] = 1
    caller = threading.Thread(target=count, args=(words, counts))
    caller.start()
    assert until(lambda: counts.tolist() == [1] * 5)
    time.sleep(0.05)
    assert caller.is_alive()
    words[sharing._HELPING] = 0
    caller.join(30)
    assert not caller.is_alive()


def test_a_thread_leaves_a_closed_job_alone():
    words, counts = words_of(2), np.zeros(5, np.int64)
    count(words, counts)
    before = words.copy()
    sharing.serve[ANY](words, 1)
    before[member_word(1, AWAKE)] = 0
    np.testing.assert_array_equal(words, before)
    assert counts.tolist() == [1] * 5


def test_a_team_that_another_caller_has_is_left_to_it():
    words, counts = words_of(2), np.zeros(5, np.int64)
    words[sharing._TAKEN] = 1
    before = words.copy()
    assert count(words, counts) == DONE
    np.testing.assert_array_equal(words, before)
    assert counts.tolist() == [1] * 5


def test_threads_that_sleep_are_asked_for_by_calls_that_follow_each_other(until):
    words, counts = words_of(2, awake=False), np.zeros(5, np.int64)
    assert count(words, counts) == DONE  # alone
    assert until(lambda: count(words, counts) == DONE_ASLEEP)
    words[member_word(1, AWAKE)] = 1
    assert count(words, counts) == DONE


def test_what_does_not_pay_is_not_done_for_a_while(until):
    words, counts = words_of(2, awake=False), np.zeros(5, np.int64)
    count(words, counts)
    assert sharing.is_asleep[ANY](words)
    words[sharing._BALANCE] = -NEVER
    count(words, counts)
    assert words[sharing._REST] > 0
    assert words[sharing._BALANCE] == 0
    jobs = words[COUNT]
    assert not sharing.is_asleep[ANY](words)
    assert count(words, counts) == DONE
    assert words[COUNT] == jobs
    assert until(lambda: sharing.is_asleep[ANY](words))
    assert until(lambda: count(words, counts) == DONE_ASLEEP)
    words[sharing._REST] = NEVER**2 // 2**20  # as after a clock that was set back
    count(words, counts)
    assert words[COUNT] > jobs + 1


def test_waiting_is_taken_from_what_was_saved(until):
    words, counts = words_of(2), np.zeros(5, np.int64)
    words[sharing._HELPING] = 1
    caller = threading.Thread(target=count, args=(words, counts))
    caller.start()
    assert until(lambda: counts.tolist() == [1] * 5)
    time.sleep(0.01)
    words[sharing._HELPING] = 0
    caller.join(30)
    assert words[sharing._REST] > 0  # ten milliseconds are more than it may owe


def test_what_was_saved_is_not_remembered_for_ever():
    words, counts = words_of(2), np.zeros(5, np.int64)
    words[sharing._BALANCE] = NEVER
    count(words, counts)
    assert words[sharing._BALANCE] == sharing._MOST_CREDIT


@pytest.mark.parametrize("members", [1, 2, 3, 8])
def test_blocks_are_as_many_as_members_or_short_enough(members):
    words = words_of(members)
    for length in (0, 1, 5, 100, 784, 39_872):
        for unit in (1, 6, 64, 4096):
            for longest in (10 * unit, max(length, 1)):
                step = step_of(words, length, unit, longest)
                assert step > 0
                assert step % unit == 0
                assert step < max(longest, 1) + unit
                blocks = [sharing.block_of.py_func(length, step, block) for block in range(-(-length // step))]
                assert len(blocks) <= members * max(-(-length // (members * longest)), 1)
                assert [k for first, last in blocks for k in (first, last)][1:-1:2] == [k for _, k in blocks[:-1]]
                assert not blocks or (blocks[0][0], blocks[-1][1]) == (0, length)


def test_threads_sleep_when_they_are_told_to(until):
    words, counts = words_of(2, awake=False), np.zeros(5, np.int64)
    count(words, counts)
    sharing.rest[ANY](words)
    jobs = words[COUNT]
    assert count(words, counts) == DONE
    assert words[COUNT] == jobs
    assert until(lambda: count(words, counts) == DONE_ASLEEP)
