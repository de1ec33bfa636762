"""xpnet.ops.clipping: against NumPy's norms in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest

from xpnet import ops

TOLERANCE = {"float32": 1e-6, "float64": 1e-14}


def owned(backend, values, dtype):
    return backend.xp.asarray(backend.asarray(values, dtype), copy=True)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("limit", [0.0, 0.5, 13.0, 1e3])
def test_all_vectors_shrink_by_one_factor(backend, numbers, dtype, limit) -> None:
    before = [numbers(100).astype(dtype), numbers(71).astype(dtype)]
    vectors = [owned(backend, vector, dtype) for vector in before]
    ops.clip_norm(backend, vectors, limit)
    norm = np.linalg.norm(np.concatenate(before).astype(np.float64))
    assert 13.0 < norm < 1e3
    for vector, start in zip(vectors, before, strict=True):
        after = backend.to_numpy(vector)
        assert after.dtype == dtype
        np.testing.assert_allclose(after, start * min(1.0, limit / (norm + 1e-6)), rtol=TOLERANCE[dtype])


def test_the_squares_are_summed_in_float64(backend) -> None:
    """Ten of 1e38 are more than float32 has."""
    vector = owned(backend, [1e19] * 10, "float32")
    ops.clip_norm(backend, [vector], 1.0)
    np.testing.assert_allclose(backend.to_numpy(vector), 1 / math.sqrt(10), rtol=1e-6)


@pytest.mark.parametrize(("bad", "others"), [(math.inf, 0.0), (math.nan, 1.0)])
def test_what_is_not_finite_stays_visible(backend, bad, others) -> None:
    vector = owned(backend, [1.0, bad], "float64")
    with backend.ignoring_overflow():
        ops.clip_norm(backend, [vector], 1.0)
    np.testing.assert_array_equal(backend.to_numpy(vector), [others, math.nan])


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_each_gradient_by_itself(backend, dtype) -> None:
    vectors = [owned(backend, [-3.0, -0.5, 0.0, 0.25], dtype), owned(backend, [math.nan, math.inf, -math.inf], dtype)]
    ops.clip_value(backend, vectors, 0.25)
    assert backend.to_numpy(vectors[0]).tolist() == [-0.25, -0.25, 0.0, 0.25]
    np.testing.assert_array_equal(backend.to_numpy(vectors[1]), np.array([math.nan, 0.25, -0.25], dtype))
