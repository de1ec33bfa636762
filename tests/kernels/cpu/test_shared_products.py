"""Products divided among threads: the same bits as undivided ones, whatever the threads are doing."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
from xpnet_kernels.cpu import vectors
from xpnet_kernels.cpu.matrix_products import _multiply
from xpnet_kernels.cpu.product_threads import THREADS, ProductThreads
from xpnet_kernels.cpu.shared_products import (
    ASLEEP,
    POSTED,
    TAKEN,
    THREAD_WORDS,
    WAITING,
    WORKING,
    have_a_rest,
)

pytestmark = pytest.mark.skipif(not vectors.LANES, reason="this processor's products are NumPy's")

SINGLE = np.dtype(np.float32)
SHAPES = [(300, 784, 50), (128, 300, 512), (784, 300, 50), (9, 16_000, 64), (2, 6000, 701), (137, 257, 300)]


def matrices(rows: int, terms: int, columns: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, terms)).astype(np.float32), rng.normal(size=(terms, columns)).astype(np.float32)


def product(words: np.ndarray, A: np.ndarray, B: np.ndarray, transposed: bool = False) -> tuple[np.ndarray, bool]:
    """The product, and whether it asked for threads that sleep."""
    C = np.full((A.shape[0], B.shape[0 if transposed else 1]), np.nan, np.float32)
    return C, _multiply[SINGLE](words, A, B, transposed, C)


def alone(A: np.ndarray, B: np.ndarray, transposed: bool = False) -> np.ndarray:
    return product(np.zeros(THREAD_WORDS, np.int64), A, B, transposed)[0]


def threads_of(monkeypatch: pytest.MonkeyPatch, count: int) -> ProductThreads:
    monkeypatch.setenv("XPNET_NUM_THREADS", str(count))
    return ProductThreads()


def states(threads: ProductThreads) -> list[int]:
    return threads.words[:-THREAD_WORDS:THREAD_WORDS].tolist()


def is_up(threads: ProductThreads) -> bool:
    """Whether all of them wait for work; they are woken if not."""
    threads.wake()
    return set(states(threads)) == {WAITING}


def until(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 30
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.0002)
    return condition()


@pytest.mark.parametrize("count", [1, 2, 3, 8])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["plain", "transposed B", "strided A"])
def test_the_bits_depend_on_no_thread(monkeypatch, count, shape, kind):
    threads = threads_of(monkeypatch, count)
    A, B = matrices(*shape)
    if kind == "strided A":
        A = A.T.copy().T
    if kind == "transposed B":
        B = B.T.copy()
    expected = alone(A, B, kind == "transposed B")
    threads.wake()
    for _ in range(20):
        C, asleep = product(threads.words, A, B, kind == "transposed B")
        np.testing.assert_array_equal(C, expected)
        if asleep:
            threads.wake()


def test_work_is_shared(monkeypatch):
    """Posted, and not taken back: then the thread has done it. It waits for more, and sleeps in the end."""
    threads = threads_of(monkeypatch, 2)
    A, B = matrices(400, 400, 400)
    expected = alone(A, B)

    def is_shared() -> bool:
        threads.words[1:] = 0
        if not is_up(threads):
            return False
        C, _ = product(threads.words, A, B)
        np.testing.assert_array_equal(C, expected)
        was_posted, was_taken_back = threads.words[1:THREAD_WORDS].any(), threads.words[-THREAD_WORDS] > 0
        return bool(was_posted and not was_taken_back)

    assert until(is_shared)
    assert until(lambda: states(threads) == [ASLEEP])


@pytest.mark.parametrize("shape", SHAPES)
def test_a_part_that_nobody_begins_is_taken_back(shape):
    """Two threads that wait for work, by their words, and do not run."""
    words = np.zeros(3 * THREAD_WORDS, np.int64)
    words[[0, THREAD_WORDS]] = WAITING
    A, B = matrices(*shape)
    C, asleep = product(words, A, B)
    np.testing.assert_array_equal(C, alone(A, B))
    assert not asleep
    assert words[[0, THREAD_WORDS]].tolist() == [WAITING, WAITING]
    assert words[2 * THREAD_WORDS] > 0  # a rest, for six milliseconds
    words[[0, THREAD_WORDS]] = ASLEEP
    words[2 * THREAD_WORDS] = 2**62
    assert not product(words, A, B)[1]  # in which nobody is woken


@pytest.mark.parametrize("state", [TAKEN, POSTED, WORKING])
def test_a_thread_that_another_caller_has_is_left_to_it(state):
    words = np.zeros(2 * THREAD_WORDS, np.int64)
    words[0] = state + 8 * 5  # of the fifth product
    before = words.copy()
    A, B = matrices(300, 784, 50)
    C, asleep = product(words, A, B)
    np.testing.assert_array_equal(C, alone(A, B))
    np.testing.assert_array_equal(words, before)
    assert not asleep


def test_threads_that_sleep_are_asked_for_by_larger_products_alone():
    words = np.zeros(2 * THREAD_WORDS, np.int64)
    assert product(words, *matrices(300, 784, 50))[1]
    assert not product(words, *matrices(100, 784, 50))[1]
    have_a_rest[SINGLE](words)
    assert words[THREAD_WORDS] > 0
    assert until(lambda: product(words, *matrices(300, 784, 50))[1])


def test_threads_sleep_when_there_is_nothing_to_do(monkeypatch):
    threads = threads_of(monkeypatch, 3)
    before = threading.active_count()
    for _ in range(3):
        assert until(lambda: is_up(threads))
        assert threading.active_count() == before + 2
        assert until(lambda: states(threads) == [ASLEEP, ASLEEP])


def test_many_callers_at_once(monkeypatch):
    threads = threads_of(monkeypatch, 3)
    problems = [matrices(200, 300 + 20 * seed, 150, seed) for seed in range(6)]
    references = [alone(*problem) for problem in problems]
    deadline, failures, calls = time.monotonic() + 1.0, [], [0] * 6

    def call(k: int) -> None:
        while time.monotonic() < deadline:
            C, asleep = product(threads.words, *problems[k])
            if not np.array_equal(C, references[k]):
                failures.append(k)
            if asleep:
                threads.wake()
            calls[k] += 1

    callers = [threading.Thread(target=call, args=(k,)) for k in range(6)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert not failures
    assert not any(caller.is_alive() for caller in callers)
    assert min(calls) > 0
    assert until(lambda: states(threads) == [ASLEEP, ASLEEP])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")  # which is what is tested
def test_a_forked_process_starts_threads_of_its_own(monkeypatch):
    threads = threads_of(monkeypatch, 2)
    A, B = matrices(300, 784, 50)
    expected = alone(A, B)
    assert until(lambda: is_up(threads))
    child = os.fork()
    if child == 0:
        ok = states(threads) == [ASLEEP] and np.array_equal(product(threads.words, A, B)[0], expected)
        os._exit(0 if ok and until(lambda: is_up(threads)) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    np.testing.assert_array_equal(product(threads.words, A, B)[0], expected)


def test_one_thread_needs_no_other(monkeypatch):
    threads = threads_of(monkeypatch, 1)
    assert states(threads) == []
    assert not product(threads.words, *matrices(300, 784, 50))[1]
    threads.wake()
    threads.rest()
    assert states(threads) == []


def test_no_two_threads_share_a_cache_line():
    assert THREADS.words.ctypes.data % (8 * THREAD_WORDS) == 0
    assert THREADS.words.size % THREAD_WORDS == 0
