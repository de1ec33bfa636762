"""xpnet.ops.moving_average."""

from __future__ import annotations

import numpy as np
import pytest

from xpnet import ops


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-6), ("float64", 1e-14)])
@pytest.mark.parametrize("decay", [0.0, 0.9, 0.9999])
def test_fifty_steps_are_the_weighted_sum(backend, numbers, dtype, tolerance, decay) -> None:
    """aₙ = βⁿ a₀ + (1-β) Σ βⁿ⁻ⁱ θᵢ."""
    start, values = numbers(71).astype(dtype), numbers((50, 71)).astype(dtype)
    average = backend.xp.asarray(backend.asarray(start), copy=True)
    for row in values:
        ops.moving_average_update(backend, average, backend.asarray(row), decay)
    weights = (1 - decay) * np.array([decay ** (49 - place) for place in range(50)])
    expected = decay**50 * start.astype(np.float64) + weights @ values
    assert backend.to_numpy(average).dtype == dtype
    np.testing.assert_allclose(backend.to_numpy(average), expected, rtol=tolerance, atol=tolerance)


def test_a_step_that_makes_no_sense_changes_nothing(backend) -> None:
    average, values = (backend.xp.asarray(backend.asarray(number), copy=True) for number in ([1.0], [3.0]))
    ops.moving_average_update(backend, average, values, 0.5, backend.asarray([1], "int32"))
    assert float(average[0]) == 1.0
    ops.moving_average_update(backend, average, values, 0.5, backend.asarray([0], "int32"))
    assert float(average[0]) == 2.0
