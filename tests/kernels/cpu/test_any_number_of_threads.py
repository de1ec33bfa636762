"""Kernels whose work a team shares: the same bits with any number of threads."""

from __future__ import annotations

import numpy as np
import pytest
from xpnet_kernels.cpu import (
    _adam_update,
    _check_finite,
    _gather,
    _linear,
    _linear_backward,
    _momentum_update,
    _sgd_update,
)
from xpnet_kernels.cpu.gemm import multiply
from xpnet_kernels.cpu.gemm.compiled_product import product_address
from xpnet_kernels.cpu.numba_extensions import simd
from xpnet_kernels.cpu.threads.scheduler import JOB_COUNT
from xpnet_kernels.cpu.threads.team import Team

pytestmark = pytest.mark.skipif(not simd.LANES, reason="this processor's matrix products are NumPy's")

SINGLE = np.dtype(np.float32)
RNG = np.random.default_rng(0)


def single(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def linear_layer(
    team: Team, x: np.ndarray, W: np.ndarray, b: np.ndarray, dy: np.ndarray, code: int
) -> list[np.ndarray]:
    """The layer's output and its four gradients."""
    y, dz, dW, db, dx = (np.full_like(array, np.nan) for array in (dy, dy, W, b, x))
    assert team.run(1, _linear._linear[SINGLE], product_address(), x, W, b, code, y)
    assert team.run(
        1, _linear_backward._linear_backward[SINGLE], product_address(), dy, x, y, W, code, dW, db, dz, dx, True
    )
    return [y, dz, dW, db, dx]


LAYERS = [(100, 784, 50), (256, 512, 64), (257, 512, 64), (33, 900, 17), (128, 784, 512), (700, 40, 600), (530, 300, 3)]


@pytest.mark.parametrize("members", [2, 3, 8])
@pytest.mark.parametrize("shape", LAYERS)
@pytest.mark.parametrize("code", [0, 1])
def test_a_layer_has_the_same_bits_with_any_number_of_threads(team_of, members, shape, code):
    rows, inputs, outputs = shape
    arguments = single(rows, inputs), single(inputs, outputs), single(outputs), single(rows, outputs), code
    expected = linear_layer(team_of(1), *arguments)
    team = team_of(members)
    for _ in range(4):
        team.wake()
        for ours, alone in zip(linear_layer(team, *arguments), expected, strict=True):
            np.testing.assert_array_equal(ours, alone)
    assert team.state[JOB_COUNT] > 0  # it was shared


@pytest.mark.parametrize("shape", LAYERS)
def test_the_fused_path_serves_the_usual_layers(shape):
    """If it rejected them because of a bug, the results would still be right, but slow."""
    rows, inputs, outputs = shape
    x, W, b, y = single(rows, inputs), single(inputs, outputs), single(outputs), single(rows, outputs)
    dx, dW, db = x.copy(), W.copy(), b.copy()
    small = rows * inputs * outputs <= multiply._MAX_WORK
    assert _linear._fused_linear(x, W, b, 1, y) is small
    assert _linear_backward._fused_linear_backward(y, x, y, W, 1, dW, db, y.copy(), dx) is small


@pytest.mark.parametrize(
    ("shape", "dtype", "forward", "backward"),
    [((1025, 40, 20), "f4", False, False), ((1, 784, 512), "f4", False, True), ((8, 30, 20), "f8", False, False)],
)
def test_the_fused_path_rejects_other_products_and_wakes_no_thread(
    monkeypatch, team_of, awake, shape, dtype, forward, backward
):
    team = team_of(2)
    monkeypatch.setattr(_linear, "TEAM", team)
    monkeypatch.setattr(_linear_backward, "TEAM", team)
    rows, inputs, outputs = shape
    x, W, b, y = (
        single(*size).astype(dtype) for size in ((rows, inputs), (inputs, outputs), (outputs,), (rows, outputs))
    )
    before = y.copy()
    assert _linear._fused_linear(x, W, b, 1, y) is forward
    np.testing.assert_array_equal(y, before)
    assert _linear_backward._fused_linear_backward(y, x, None, W, 0, W.copy(), b.copy(), None, None) is backward
    assert not any(awake(team))


@pytest.mark.parametrize("members", [2, 3, 8])
@pytest.mark.parametrize("length", [0, 1, 4095, 4097, 39_872, 300_003])
def test_updates_have_the_same_bits_with_any_number_of_threads(team_of, members, length):
    values, gradients, m, v = (single(length) for _ in range(4))
    v = abs(v)
    rules = [
        (_sgd_update._sgd, (), [0.1]),
        (_momentum_update._momentum, (m,), [0.1, 0.9, 1.0]),
        (_adam_update._adam, (m, v), [1e-3, 0.9, 0.999, 1e-8, 0.1, 0.001, 0.01]),
    ]
    for kernel, state, hyperparameters in rules:
        results = []
        for count in (1, members):
            team = team_of(count)
            team.wake()
            own = [array.copy() for array in (values, *state)]
            arguments = own[0], gradients, *own[1:], np.array(hyperparameters), np.zeros(1, np.int32)
            assert team.run(1, kernel[SINGLE], *arguments)
            results.append(own)
        for alone, ours in zip(*results, strict=True):
            np.testing.assert_array_equal(ours, alone)


@pytest.mark.parametrize("place", [0, 4096, 39_871, None])
def test_one_bad_element_is_found_in_any_block(team_of, place):
    gradients, found_inf = single(39_872), np.full(1, 7, np.int32)
    if place is not None:
        gradients[place] = np.inf
    team = team_of(3)
    for _ in range(20):
        team.run(1, _check_finite._check_finite[SINGLE], gradients, found_inf)
        assert found_inf[0] == (place is not None)


@pytest.mark.parametrize("rows", [1, 21, 22, 100, 1000])
def test_a_batch_is_gathered_by_any_number_of_threads(team_of, rows):
    images, indices = RNG.integers(0, 256, (500, 784)).astype(np.uint8), RNG.integers(0, 500, rows)
    team, out = team_of(3), np.full((rows, 784), np.nan, np.float32)
    team.wake()
    assert team.run(1, _gather._gather[SINGLE], images, indices, 255.0, out)
    np.testing.assert_array_equal(out, images[indices] / np.float32(255))
    before = out.copy()
    indices[-1] = 500
    assert not team.run(1, _gather._gather[SINGLE], images, indices, 255.0, out)
    np.testing.assert_array_equal(out, before)


def test_a_layer_of_which_only_the_first_part_is_shared_wakes_the_threads(team_of, awake, until):
    team = team_of(2)
    x, W, b, y = single(6, 8192), single(8192, 64), single(64), single(6, 64)

    def is_awake() -> bool:
        team.run(1, _linear._linear[SINGLE], product_address(), x, W, b, 0, y)
        return awake(team) == [True]

    assert until(is_awake)
