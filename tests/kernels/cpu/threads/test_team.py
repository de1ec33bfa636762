"""The team of threads: started when needed, asleep when idle, renewed after a fork."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import numpy as np
import pytest
from xpnet_kernels.cpu.gemm import multiply
from xpnet_kernels.cpu.gemm.compiled_product import product_address
from xpnet_kernels.cpu.numba_extensions import simd
from xpnet_kernels.cpu.threads import team as team_module
from xpnet_kernels.cpu.threads.scheduler import INVALID_ARGUMENTS, JOB_COUNT, LINE_WORDS, state_size
from xpnet_kernels.cpu.threads.team import TEAM, Team

pytestmark = pytest.mark.skipif(
    not simd.LANES, reason="the matrix products of these tests are NumPy's on this processor"
)

SINGLE = np.dtype(np.float32)
RNG = np.random.default_rng(0)


def single(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def product(team: Team, A: np.ndarray, B: np.ndarray) -> np.ndarray:
    C = np.full((A.shape[0], B.shape[1]), np.nan, np.float32)
    assert team.run(1, multiply._multiply[SINGLE], product_address(), A, B, False, C)
    return C


def test_threads_are_started_once_and_sleep_when_there_is_nothing_to_do(team_of, is_up, awake, until):
    team, before = team_of(3), threading.active_count()
    assert awake(team) == [False, False]
    assert threading.active_count() == before
    for _ in range(3):
        assert until(lambda: is_up(team))
        assert threading.active_count() == before + 2
        assert until(lambda: awake(team) == [False, False])


def test_calls_that_follow_each_other_wake_them_and_one_alone_does_not(team_of, awake, until):
    team, A, B = team_of(2), single(100, 784), single(784, 50)
    product(team, A, B)
    assert team._alarms == []

    def is_awake() -> bool:
        product(team, A, B)
        return awake(team) == [True]

    assert until(is_awake)


def test_a_long_call_wakes_them_first(monkeypatch, team_of):
    team, seen = team_of(2), []
    monkeypatch.setattr(team, "wake", lambda: seen.append("woken"))

    def kernel(state: np.ndarray) -> int:
        seen.append("called")
        return INVALID_ARGUMENTS

    assert not team.run(2**26, kernel)
    assert seen == ["woken", "called"]


def test_one_member_starts_no_thread(team_of):
    team, before = team_of(1), threading.active_count()
    A, B = single(300, 784), single(784, 50)
    for _ in range(10):
        np.testing.assert_allclose(product(team, A, B), A @ B, rtol=1e-3, atol=1e-3)
    team.wake()
    assert threading.active_count() == before


def test_no_thread_is_started_when_the_system_refuses(monkeypatch, team_of):
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("can't start new thread")

    team, A, B = team_of(3), single(300, 784), single(784, 50)
    expected = product(team, A, B)
    monkeypatch.setattr(threading.Thread, "start", fail)
    for _ in range(20):
        team.wake()
        np.testing.assert_array_equal(product(team, A, B), expected)
    monkeypatch.undo()
    assert team._alarms == []  # it is not asked again


def test_small_stacks_get_no_threads(team_of):
    team, A, B = team_of(2), single(300, 784), single(784, 50)
    before = threading.stack_size(2**18)  # arm64 allows no less than 2**17
    try:
        for _ in range(20):
            team.wake()
            product(team, A, B)
        assert team._alarms == []
    finally:
        threading.stack_size(before)


def test_the_first_calls_of_two_threads(monkeypatch, team_of):
    """All see the same state."""
    team, seen = team_of(2), []
    real = team_module._new_state

    def slowly(members: int) -> np.ndarray:
        time.sleep(0.05)
        return real(members)

    monkeypatch.setattr(team_module, "_new_state", slowly)
    callers = [threading.Thread(target=lambda: seen.append(team.state)) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(30)
    assert len(seen) == 4
    assert all(state is team.state for state in seen)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")  # which is what is tested
def test_a_fork_while_another_thread_makes_the_state(monkeypatch, team_of):
    team = team_of(2)
    begun, over, real = threading.Event(), threading.Event(), team_module._new_state

    def slowly(members: int) -> np.ndarray:
        begun.set()
        over.wait(30)
        return real(members)

    monkeypatch.setattr(team_module, "_new_state", slowly)
    caller = threading.Thread(target=lambda: team.state)
    caller.start()
    begun.wait(30)
    monkeypatch.setattr(team_module, "_new_state", real)
    child = os.fork()
    if child == 0:
        os._exit(0 if team.state.size == state_size(2) else 1)
    over.set()
    caller.join(30)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_nothing_is_shared_after_a_product_of_numpys(monkeypatch, team_of, is_up, awake, until):
    team, A, B = team_of(2), single(300, 784), single(784, 50)
    product(team, A, B)  # compiled now, since sharing is suspended for a fifth of a second only
    assert until(lambda: is_up(team))
    monkeypatch.setattr(multiply, "TEAM", team)
    multiply.multiply(np.ones((2, 2)), np.ones((2, 2)), np.empty((2, 2)))
    assert until(lambda: awake(team) == [False])
    jobs = team.state[JOB_COUNT]
    product(team, A, B)
    assert team.state[JOB_COUNT] == jobs


def test_many_callers_at_once(team_of):
    team = team_of(3)
    problems = [(single(200, 300 + 20 * k), single(300 + 20 * k, 150)) for k in range(6)]
    expected = [product(team_of(1), *problem) for problem in problems]
    deadline, failures, calls = time.monotonic() + 1.0, [], [0] * 6

    def call(k: int) -> None:
        while time.monotonic() < deadline:
            if not np.array_equal(product(team, *problems[k]), expected[k]):
                failures.append(k)
            calls[k] += 1

    callers = [threading.Thread(target=call, args=(k,)) for k in range(6)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert not any(caller.is_alive() for caller in callers)
    assert failures == []
    assert min(calls) > 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")  # which is what is tested
def test_a_forked_process_starts_threads_of_its_own(team_of, is_up, awake, until):
    team, A, B = team_of(2), single(300, 784), single(784, 50)
    expected = product(team, A, B)
    assert until(lambda: is_up(team))
    child = os.fork()
    if child == 0:
        ok = awake(team) == [False] and np.array_equal(product(team, A, B), expected)
        os._exit(0 if ok and until(lambda: is_up(team)) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    np.testing.assert_array_equal(product(team, A, B), expected)


def test_no_two_members_share_a_cache_line():
    assert TEAM.state.ctypes.data % (8 * LINE_WORDS) == 0
    assert TEAM.state.size % LINE_WORDS == 0


@pytest.mark.parametrize("text", ["0", "two"])
def test_an_invalid_number_of_threads_is_an_error(monkeypatch, text):
    monkeypatch.setenv("XPNET_NUM_THREADS", text)
    with pytest.raises(ValueError, match=f"XPNET_NUM_THREADS must be a whole number of at least 1, not '{text}'"):
        Team().wake()
