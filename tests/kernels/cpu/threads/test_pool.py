"""The thread pool: every block runs once, results are in order, errors reach the caller."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time

import pytest
from xpnet_kernels.cpu.threads import pool
from xpnet_kernels.cpu.threads.limit import THREADS_VARIABLE


@pytest.fixture(params=["1", "2", "5"])
def threads(request, monkeypatch):
    monkeypatch.setenv(THREADS_VARIABLE, request.param)
    return int(request.param)


@pytest.mark.parametrize("blocks", [0, 1, 2, 3, 50])
def test_every_block_runs_once_and_results_are_in_order(threads, blocks):
    served = []

    def square(block: int) -> int:
        served.append(block)
        return block * block

    instance = pool.Pool()
    for _ in range(20):
        served.clear()
        assert instance.run(square, blocks) == [block * block for block in range(blocks)]
        assert sorted(served) == list(range(blocks))


def test_blocks_overlap(monkeypatch):
    monkeypatch.setenv(THREADS_VARIABLE, "3")
    together = threading.Barrier(3, timeout=30)  # breaks unless three threads meet
    pool.Pool().run(lambda block: together.wait(), 3)


def test_one_thread_stays_in_the_caller(monkeypatch):
    monkeypatch.setenv(THREADS_VARIABLE, "1")
    assert set(pool.Pool().run(lambda block: threading.get_ident(), 10)) == {threading.get_ident()}


def test_a_busy_pool_leaves_the_work_to_the_caller(monkeypatch):
    monkeypatch.setenv(THREADS_VARIABLE, "3")
    instance = pool.Pool()

    def outer(block: int) -> bool:
        time.sleep(0.001)
        return set(instance.run(lambda inner: threading.get_ident(), 4)) == {threading.get_ident()}

    assert instance.run(outer, 6) == [True] * 6


def test_an_error_reaches_the_caller_and_the_pool_lives_on(threads):
    instance = pool.Pool()

    def fail(block: int) -> int:
        if block == 3:
            raise MemoryError("block 3")
        return block

    for _ in range(3):
        with pytest.raises(MemoryError, match="block 3"):
            instance.run(fail, 6)
        assert instance.run(lambda block: block, 6) == list(range(6))


def test_an_idle_pool_keeps_nothing_alive(monkeypatch):
    monkeypatch.setenv(THREADS_VARIABLE, "3")
    instance = pool.Pool()

    class Work:
        alive = 0

        def __init__(self) -> None:
            Work.alive += 1

        def __del__(self) -> None:
            Work.alive -= 1

        def __call__(self, block: int) -> int:
            return block

    instance.run(Work(), 6)
    deadline = time.monotonic() + 30
    while Work.alive and time.monotonic() < deadline:
        time.sleep(0.001)
    assert Work.alive == 0


def test_blocks_of_rows_follow_from_the_shape_alone(threads):
    def blocks(rows: int, columns: int, max_blocks: int | None = None) -> list[tuple[int, int]]:
        return pool.over_rows(lambda first, last: (first, last), rows, columns, max_blocks)

    assert blocks(10, 100) == [(0, 10)]
    assert blocks(0, 100) == [(0, 0)]
    large = blocks(2**15 + 1, 2**6)
    assert large == [(2**12 * k, min(2**12 * (k + 1), 2**15 + 1)) for k in range(9)]
    assert blocks(2, 2**20) == [(0, 1), (1, 2)]
    assert blocks(9, 2**20, max_blocks=4) == [(0, 3), (3, 6), (6, 9)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_the_pool_works_after_a_fork_in_the_middle_of_a_call(monkeypatch):
    monkeypatch.setenv(THREADS_VARIABLE, "3")
    instance = pool.Pool()
    started, forked = threading.Event(), threading.Event()

    def busy(block: int) -> None:
        started.set()
        forked.wait(30)

    caller = threading.Thread(target=instance.run, args=(busy, 3))
    caller.start()
    started.wait(30)

    def child(results: multiprocessing.SimpleQueue) -> None:
        results.put(instance.run(lambda block: (block, threading.get_ident()), 50))

    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    process = context.Process(target=child, args=(results,))
    process.start()
    served = results.get()
    process.join(30)
    forked.set()
    caller.join(30)
    assert [block for block, _ in served] == list(range(50))
    assert process.exitcode == 0
