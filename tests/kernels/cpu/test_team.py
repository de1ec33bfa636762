"""The threads of a team: started when needed, asleep when not, and the same bits with any number of them."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import numpy as np
import pytest
from xpnet_kernels.cpu import gather_rows, linear_at_once, matrix_products, optimizers, vectors
from xpnet_kernels.cpu import team as team_module
from xpnet_kernels.cpu.sharing import AWAKE, COUNT, DECLINED, LINE, member_word, team_words
from xpnet_kernels.cpu.team import TEAM, Team

pytestmark = pytest.mark.skipif(not vectors.LANES, reason="on this processor nothing is shared")

SINGLE = np.dtype(np.float32)
RNG = np.random.default_rng(0)


def team_of(monkeypatch: pytest.MonkeyPatch, members: int) -> Team:
    monkeypatch.setenv("XPNET_NUM_THREADS", str(members))
    return Team()


def awake(team: Team) -> list[bool]:
    members = (team.words.size - team_words(0)) // LINE
    return [bool(team.words[member_word(member, AWAKE)]) for member in range(1, members)]


def is_up(team: Team) -> bool:
    team.wake()
    return all(awake(team))


def single(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def product(team: Team, A: np.ndarray, B: np.ndarray) -> np.ndarray:
    C = np.full((A.shape[0], B.shape[1]), np.nan, np.float32)
    assert team.run(1, matrix_products._multiply[SINGLE], A, B, False, C)
    return C


def linear_layer(
    team: Team, x: np.ndarray, W: np.ndarray, b: np.ndarray, dy: np.ndarray, code: int
) -> list[np.ndarray]:
    """The layer's output and its four gradients."""
    y, dz, dW, db, dx = (np.full_like(array, np.nan) for array in (dy, dy, W, b, x))
    assert team.run(1, linear_at_once._linear[SINGLE], x, W, b, code, y)
    assert team.run(1, linear_at_once._linear_backward[SINGLE], dy, x, y, W, code, dW, db, dz, dx, True)
    return [y, dz, dW, db, dx]


LAYERS = [(100, 784, 50), (256, 512, 64), (257, 512, 64), (33, 900, 17), (128, 784, 512), (700, 40, 600), (530, 300, 3)]


@pytest.mark.parametrize("members", [2, 3, 8])
@pytest.mark.parametrize("shape", LAYERS)
@pytest.mark.parametrize("code", [0, 1])
def test_a_layer_has_the_same_bits_with_any_number_of_threads(monkeypatch, members, shape, code):
    rows, inputs, outputs = shape
    arguments = single(rows, inputs), single(inputs, outputs), single(outputs), single(rows, outputs), code
    expected = linear_layer(team_of(monkeypatch, 1), *arguments)
    team = team_of(monkeypatch, members)
    for _ in range(4):
        team.wake()
        for ours, alone in zip(linear_layer(team, *arguments), expected, strict=True):
            np.testing.assert_array_equal(ours, alone)
    assert team.words[COUNT] > 0  # it was shared


@pytest.mark.parametrize("shape", LAYERS)
def test_small_layers_run_in_one_compiled_call_and_large_ones_do_not(shape):
    """Were they declined, for an error that nobody sees, they would be as right, and slow."""
    rows, inputs, outputs = shape
    x, W, b, y = single(rows, inputs), single(inputs, outputs), single(outputs), single(rows, outputs)
    dx, dW, db = x.copy(), W.copy(), b.copy()
    small = rows * inputs * outputs <= matrix_products._MOST_WORK
    assert linear_at_once.linear_at_once(x, W, b, 1, y) is small
    assert linear_at_once.linear_backward_at_once(y, x, y, W, 1, dW, db, y.copy(), dx) is small


@pytest.mark.parametrize(
    ("shape", "dtype", "forward", "backward"),
    [((1025, 40, 20), "f4", False, False), ((1, 784, 512), "f4", False, True), ((8, 30, 20), "f8", False, False)],
)
def test_layers_left_to_numpy_are_declined_and_wake_no_thread(monkeypatch, shape, dtype, forward, backward):
    team = team_of(monkeypatch, 2)
    monkeypatch.setattr(linear_at_once, "TEAM", team)
    rows, inputs, outputs = shape
    x, W, b, y = (
        single(*size).astype(dtype) for size in ((rows, inputs), (inputs, outputs), (outputs,), (rows, outputs))
    )
    before = y.copy()
    assert linear_at_once.linear_at_once(x, W, b, 1, y) is forward
    np.testing.assert_array_equal(y, before)
    assert linear_at_once.linear_backward_at_once(y, x, None, W, 0, W.copy(), b.copy(), None, None) is backward
    assert not any(awake(team))


@pytest.mark.parametrize("members", [2, 3, 8])
@pytest.mark.parametrize("length", [0, 1, 4095, 4097, 39_872, 300_003])
def test_updates_have_the_same_bits_with_any_number_of_threads(monkeypatch, members, length):
    values, gradients, m, v = (single(length) for _ in range(4))
    v = abs(v)
    rules = {
        "_sgd": ((), [0.1]),
        "_momentum": ((m,), [0.1, 0.9, 1.0]),
        "_adam": ((m, v), [1e-3, 0.9, 0.999, 1e-8, 0.1, 0.001, 0.01]),
    }
    for name, (state, hyperparameters) in rules.items():
        results = []
        for count in (1, members):
            team = team_of(monkeypatch, count)
            team.wake()
            own = [array.copy() for array in (values, *state)]
            arguments = own[0], gradients, *own[1:], np.array(hyperparameters), np.zeros(1, np.int32)
            assert team.run(1, getattr(optimizers, name)[SINGLE], *arguments)
            results.append(own)
        for alone, ours in zip(*results, strict=True):
            np.testing.assert_array_equal(ours, alone)


@pytest.mark.parametrize("place", [0, 4096, 39_871, None])
def test_one_infinite_element_is_found_in_any_block(monkeypatch, place):
    gradients, found_inf = single(39_872), np.full(1, 7, np.int32)
    if place is not None:
        gradients[place] = np.inf
    team = team_of(monkeypatch, 3)
    for _ in range(20):
        team.run(1, optimizers._check_finite[SINGLE], gradients, found_inf)
        assert found_inf[0] == (place is not None)


@pytest.mark.parametrize("rows", [1, 21, 22, 100, 1000])
def test_a_batch_is_gathered_by_any_number_of_threads(monkeypatch, rows):
    images, indices = RNG.integers(0, 256, (500, 784)).astype(np.uint8), RNG.integers(0, 500, rows)
    team, out = team_of(monkeypatch, 3), np.full((rows, 784), np.nan, np.float32)
    team.wake()
    assert team.run(1, gather_rows._gather[SINGLE], images, indices, 255.0, out)
    np.testing.assert_array_equal(out, images[indices] / np.float32(255))
    before = out.copy()
    indices[-1] = 500
    assert not team.run(1, gather_rows._gather[SINGLE], images, indices, 255.0, out)
    np.testing.assert_array_equal(out, before)


def test_threads_are_started_once_and_sleep_when_there_is_nothing_to_do(monkeypatch, until):
    team, before = team_of(monkeypatch, 3), threading.active_count()
    assert awake(team) == [False, False]
    assert threading.active_count() == before
    for _ in range(3):
        assert until(lambda: is_up(team))
        assert threading.active_count() == before + 2
        assert until(lambda: awake(team) == [False, False])


def test_calls_that_follow_each_other_wake_them_and_one_alone_does_not(monkeypatch, until):
    team, A, B = team_of(monkeypatch, 2), single(100, 784), single(784, 50)
    product(team, A, B)
    assert team._alarms == []

    def is_awake() -> bool:
        product(team, A, B)
        return awake(team) == [True]

    assert until(is_awake)


def test_a_long_call_wakes_them_first(monkeypatch):
    team, seen = team_of(monkeypatch, 2), []
    monkeypatch.setattr(team, "wake", lambda: seen.append("woken"))

    def kernel(words: np.ndarray) -> int:
        seen.append("called")
        return DECLINED

    assert not team.run(2**26, kernel)
    assert seen == ["woken", "called"]


def test_one_member_starts_no_thread(monkeypatch):
    team, before = team_of(monkeypatch, 1), threading.active_count()
    A, B = single(300, 784), single(784, 50)
    for _ in range(10):
        np.testing.assert_allclose(product(team, A, B), A @ B, rtol=1e-3, atol=1e-3)
    team.wake()
    assert threading.active_count() == before


def test_a_system_that_gives_no_threads(monkeypatch):
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("can't start new thread")

    team, A, B = team_of(monkeypatch, 3), single(300, 784), single(784, 50)
    expected = product(team, A, B)
    monkeypatch.setattr(threading.Thread, "start", fail)
    for _ in range(20):
        team.wake()
        np.testing.assert_array_equal(product(team, A, B), expected)
    monkeypatch.undo()
    assert team._alarms == []  # it is not asked again


def test_small_stacks_get_no_threads(monkeypatch):
    team, A, B = team_of(monkeypatch, 2), single(300, 784), single(784, 50)
    before = threading.stack_size(65_536)
    try:
        for _ in range(20):
            team.wake()
            product(team, A, B)
        assert team._alarms == []
    finally:
        threading.stack_size(before)


def test_the_first_calls_of_two_threads(monkeypatch):
    """Both see the same words, of which one of them compiles a part."""
    team, seen = team_of(monkeypatch, 2), []
    real = team_module._new_words

    def slowly(members: int) -> np.ndarray:
        time.sleep(0.05)
        return real(members)

    monkeypatch.setattr(team_module, "_new_words", slowly)
    callers = [threading.Thread(target=lambda: seen.append(team.words)) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(30)
    assert len(seen) == 4
    assert all(words is team.words for words in seen)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")  # which is what is tested
def test_a_fork_while_another_thread_makes_the_words(monkeypatch):
    team = team_of(monkeypatch, 2)
    begun, over, real = threading.Event(), threading.Event(), team_module._new_words

    def slowly(members: int) -> np.ndarray:
        begun.set()
        over.wait(30)
        return real(members)

    monkeypatch.setattr(team_module, "_new_words", slowly)
    caller = threading.Thread(target=lambda: team.words)
    caller.start()
    begun.wait(30)
    monkeypatch.setattr(team_module, "_new_words", real)
    child = os.fork()
    if child == 0:
        os._exit(0 if team.words.size == team_words(2) else 1)
    over.set()
    caller.join(30)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_layer_of_which_only_the_first_part_is_shared_wakes_them_too(monkeypatch, until):
    team = team_of(monkeypatch, 2)
    x, W, b, y = single(6, 8192), single(8192, 64), single(64), single(6, 64)

    def is_awake() -> bool:
        team.run(1, linear_at_once._linear[SINGLE], x, W, b, 0, y)
        return awake(team) == [True]

    assert until(is_awake)


def test_a_product_is_not_shared_with_sleeping_threads(monkeypatch, until):
    team, A, B = team_of(monkeypatch, 2), single(300, 784), single(784, 50)
    assert until(lambda: is_up(team))
    monkeypatch.setattr(matrix_products, "TEAM", team)
    matrix_products.multiply(A.astype(float), B.astype(float), np.empty((300, 50)))
    assert until(lambda: awake(team) == [False])
    jobs = team.words[COUNT]
    product(team, A, B)
    assert team.words[COUNT] == jobs


def test_many_callers_at_once(monkeypatch):
    team = team_of(monkeypatch, 3)
    problems = [(single(200, 300 + 20 * k), single(300 + 20 * k, 150)) for k in range(6)]
    expected = [product(team_of(monkeypatch, 1), *problem) for problem in problems]
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
def test_a_forked_process_starts_threads_of_its_own(monkeypatch, until):
    team, A, B = team_of(monkeypatch, 2), single(300, 784), single(784, 50)
    expected = product(team, A, B)
    assert until(lambda: is_up(team))
    child = os.fork()
    if child == 0:
        ok = awake(team) == [False] and np.array_equal(product(team, A, B), expected)
        os._exit(0 if ok and until(lambda: is_up(team)) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    np.testing.assert_array_equal(product(team, A, B), expected)


def test_no_two_members_share_a_cache_line():
    assert TEAM.words.ctypes.data % (8 * LINE) == 0
    assert TEAM.words.size % LINE == 0


@pytest.mark.parametrize("text", ["0", "two"])
def test_a_senseless_number_of_threads_is_an_error(monkeypatch, text):
    monkeypatch.setenv("XPNET_NUM_THREADS", text)
    with pytest.raises(ValueError, match=f"XPNET_NUM_THREADS must be a whole number of at least 1, not '{text}'"):
        Team().wake()
