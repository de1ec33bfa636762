"""xpnet.parity.rounding: bounds equal the theory's formulas where these exist, and hold for float32 everywhere."""

from __future__ import annotations

import math

import numpy as np
import pytest

import xpnet
from xpnet.parity.perturbation import ROUNDOFF, perturbed_backend
from xpnet.parity.rounding import rounding_bounds

RNG = np.random.default_rng(6)
PLACES = np.arange(1.0, 301.0)
A, B = RNG.standard_normal((40, 300)), RNG.standard_normal((300, 7))


def bounds(compute, *arrays):
    """Of ``compute(xp, *arrays)``, in units of the roundoff, beside the result."""
    backend = perturbed_backend()
    result = np.asarray(compute(xpnet.backend("float64").xp, *arrays))
    tracked = [backend.asarray(array) for array in arrays]
    bound = rounding_bounds(backend, lambda: {"": backend.to_numpy(compute(backend.xp, *tracked))})[""]
    return bound / ROUNDOFF, result


EXPECTED = {
    "a sum": (lambda xp, a: xp.sum(a, axis=1), lambda a: 2 * math.sqrt(300) * np.abs(a).sum(axis=1)),
    "a short sum": (lambda xp, a: xp.sum(a[:, :3], axis=1), lambda a: 3 * np.abs(a[:, :3]).sum(axis=1)),
    "a product": (lambda xp, a: a * a, lambda a: a * a),
    "a product in place": (lambda xp, a: xp.asarray(a, copy=True).__imul__(a), lambda a: a * a),
    "a square root": (lambda xp, a: xp.sqrt(xp.abs(a)), lambda a: np.sqrt(np.abs(a))),
    "a function": (lambda xp, a: xp.exp(a), lambda a: 8 * np.exp(a)),
    "running sums": (
        lambda xp, a: xp.cumulative_sum(a, axis=1),
        lambda a: np.minimum(PLACES, 2 * np.sqrt(PLACES)) * np.cumsum(np.abs(a), axis=1),
    ),
    "a matrix product": (
        lambda xp, a: xp.matmul(a, xp.asarray(B)),
        lambda a: 2 * math.sqrt(300) * np.abs(a) @ np.abs(B),
    ),
    "a tensor product": (
        lambda xp, a: xp.tensordot(a, xp.asarray(B), axes=1),
        lambda a: 2 * math.sqrt(300) * np.abs(a) @ np.abs(B),
    ),
    "what cancels": (lambda xp, a: (1 + a) - 1, lambda a: np.abs(1 + a) + np.abs(a)),
    "what was copied into fresh memory": (
        lambda xp, a: xp.add(_copied(xp, a), _copied(xp, a)),
        lambda a: 2 * np.abs(a),
    ),
}


def _copied(xp, a):
    fresh = xp.zeros(a.shape, dtype=xp.float64)
    fresh[...] = a
    return fresh


@pytest.mark.parametrize("case", EXPECTED)
def test_the_bound_of_an_operation(case):
    compute, formula = EXPECTED[case]
    bound, _ = bounds(compute, A)
    expected = formula(A)
    usual = np.median(bound) / 4  # the least that a bound may be
    assert (bound >= 0.999 * expected).all()
    assert (bound <= np.maximum(2.001 * expected, usual)).all()  # errors are drawn up to twice as large


@pytest.mark.parametrize(
    "compute",
    [
        lambda xp, a: xp.reshape(a, (-1,)),
        lambda xp, a: xp.where(a > 0, a, -a),
        lambda xp, a: xp.max(a, axis=0),
        lambda xp, a: xp.take(a, xp.asarray([1, 0]), axis=0),
        lambda xp, a: xp.concat([a, xp.zeros_like(a)]),
        lambda xp, a: xp.permute_dims(xp.unstack(xp.abs(a))[0], (0,)),
    ],
)
def test_what_moves_numbers_rounds_nothing(compute):
    bound, _ = bounds(compute, A)
    assert not bound.any()


FUNCTIONS = {
    "softmax": lambda xp, a, b: xp.exp(a - xp.max(a)) / xp.sum(xp.exp(a - xp.max(a)), axis=1, keepdims=True),
    "variance": lambda xp, a, b: xp.var(a + 30.0, axis=1),
    "mean": lambda xp, a, b: xp.mean(a, axis=0),
    "saturated": lambda xp, a, b: 1 - 1 / (1 + xp.exp(-4 * xp.abs(a))),
    "two products": lambda xp, a, b: xp.matmul(xp.matrix_transpose(a), xp.tanh(xp.matmul(a, b))),
    "unrolled": lambda xp, a, b: sum((a[:, k] * b[k, 0] for k in range(100)), 0.0 * a[:, 0]),
    "backwards": lambda xp, a, b: xp.sum(xp.flip(a, axis=1) * xp.flip(b[:, 0]), axis=1),
    "cancelling": lambda xp, a, b: xp.sum(a * a, axis=1) - xp.sum(xp.abs(a) * xp.abs(a) + 1e-3, axis=1),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_float32_keeps_within_the_bounds(name):
    a, b = A.astype(np.float32), B.astype(np.float32)
    bound, exact = bounds(FUNCTIONS[name], a.astype(float), b.astype(float))
    error = np.abs(FUNCTIONS[name](xpnet.backend("cpu-reference").xp, a, b) - exact) / ROUNDOFF
    assert error.any()
    assert (error <= 2 * bound).all()
    assert np.median(bound) <= 1e4 * np.median(error)  # and they are of some use


def test_what_rounding_may_carry_across_a_kink_is_carried_across():
    x = np.array([1.0, 1.0 - 5e-8, 1.0 + 5e-8, 1.0 - 1e-5, 1.0 + 1e-5])
    bound, y = bounds(lambda xp, x: xp.where(3 * x - 3 >= 0, 5 * xp.ones_like(x), xp.zeros_like(x)), x)
    assert y.tolist() == [5, 0, 5, 0, 5]
    assert (bound[:3] * ROUNDOFF > 4.9).all()
    assert bound[3] == 0.0
    assert 0.0 <= bound[4] <= 2 * 5.0


def test_a_result_that_is_not_finite_has_no_bound():
    with np.errstate(divide="ignore", invalid="ignore"):
        bound, _ = bounds(lambda xp, x: 1 / x, np.array([0.0, 1.0]))
    assert math.isnan(bound[0])
    assert 1.0 <= bound[1] <= 2.0


def test_long_computations_in_groups_have_good_bounds():
    """201 operations that round, in 8 groups: between the root of their number and their number."""
    bound, _ = bounds(lambda xp, x: sum((-x for _ in range(201)), 201 * x + 1.0), np.ones(50))
    added = np.arange(1.0, 203.0)
    assert math.sqrt((added**2).sum()) < np.median(bound) < 2 * added.sum()
    assert bound.min() >= 0.999 * np.median(bound) / 4


def _added_in_place(xp, terms):
    total = xp.zeros(terms.shape[1:], dtype=xp.float64)
    for k in range(terms.shape[0]):
        place = total[:: (-1) ** k]  # now from the front, now from the back
        place += terms[k, ...]
    return total


def test_errors_of_additions_in_place_do_not_cancel():
    """The k-th addition makes s + t, and errs by u (|s| + |t|) up to twice that."""
    given = RNG.standard_normal((30, 2_000))
    terms = given.copy()
    terms[1::2] = given[1::2, ::-1]
    sums = np.cumsum(terms, axis=0)
    expected = np.abs(terms).sum(axis=0) + np.abs(sums[:-1]).sum(axis=0)
    bound, y = bounds(_added_in_place, given)
    np.testing.assert_allclose(y, sums[-1], atol=1e-12)
    assert (bound >= 0.999 * expected).all()
    assert (bound <= 2.001 * expected).all()


def test_errors_added_in_place_do_not_cancel_by_chance():
    """Of x + x, with products x = 1: the additions err by 1 + 2, each product by 1 to 2 with a random sign."""
    bound, _ = bounds(lambda xp, x: _added_in_place(xp, x * x), np.ones((2, 20_000)))
    assert bound.min() > 3.15


def test_overflow_gives_no_warning_and_results_are_plain_arrays():
    backend = perturbed_backend()
    with backend.ignoring_overflow():
        result = rounding_bounds(backend, lambda: {"y": backend.to_numpy(backend.asarray([1e308]) * 10.0)})
    assert type(result["y"]) is np.ndarray
