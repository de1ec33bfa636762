"""xpnet.data.splits: every row on one side, drawn by the seed alone, and fractions that cannot be."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from xpnet.data import Samples, split_validation
from xpnet.errors import ConfigurationError


def rows(count: int) -> Samples:
    """Row n is (n, 2n), its label n: so that a row tells where it is from."""
    numbers = np.arange(count)
    return Samples(np.stack([numbers, 2 * numbers], axis=1).astype(np.uint8), numbers)


@pytest.mark.parametrize(("count", "fraction", "expected"), [(10, 0.2, 2), (60, 0.1, 6), (7, 0.6, 4), (3, 0.5, 2)])
@pytest.mark.parametrize("seed", [0, 1, -5, 2**70])
def test_every_row_is_on_one_side_with_its_label_and_in_its_order(
    count: int, fraction: float, expected: int, seed: int
) -> None:
    parts = split_validation(rows(count), fraction, seed)
    assert [len(part.y) for part in parts] == [count - expected, expected]
    assert sorted(np.concatenate([part.y for part in parts]).tolist()) == list(range(count))
    for part in parts:
        assert part.y.tolist() == sorted(part.y.tolist())
        np.testing.assert_array_equal(part.x, rows(count).x[part.y])
        assert part.x.dtype == np.uint8


def test_the_seed_decides_which_rows() -> None:
    drawn = [split_validation(rows(50), 0.2, seed)[1].y.tolist() for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_every_set_of_rows_is_as_likely_as_another() -> None:
    """600 draws of two rows of four: each of the six pairs 100 times, within four standard deviations of 9.1."""
    drawn = [tuple(split_validation(rows(4), 0.5, seed)[1].y.tolist()) for seed in range(600)]
    assert all(abs(drawn.count(pair) - 100) < 37 for pair in combinations(range(4), 2))


def test_a_file_sorted_by_class_is_divided_too() -> None:
    y = np.repeat(np.arange(10), 100)
    counts = np.bincount(split_validation(Samples(y[:, None], y), 0.2)[1].y, minlength=10)
    assert counts.min() > 5
    assert counts.sum() == 200


def test_the_parts_are_copies() -> None:
    samples = rows(10)
    for part in split_validation(samples, 0.5):
        assert not np.shares_memory(part.x, samples.x)


@pytest.mark.parametrize(
    ("count", "fraction", "message"),
    [
        (10, 0.0, "validation_fraction must be a number above 0 and below 1, not 0.0"),
        (10, 1.0, "validation_fraction must be a number above 0 and below 1, not 1.0"),
        (10, -0.1, "validation_fraction must be a number above 0 and below 1, not -0.1"),
        (10, float("nan"), "validation_fraction must be a number, not nan"),
        (10, "a tenth", "validation_fraction must be a number, not 'a tenth'"),
        (10, 0.01, "a validation fraction of 0.01 sets 0 of 10 samples aside: both sets need at least one"),
        (10, 0.99, "a validation fraction of 0.99 sets 10 of 10 samples aside: both sets need at least one"),
    ],
)
def test_fractions_that_cannot_be(count: int, fraction: float, message: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        split_validation(rows(count), fraction)
    assert str(error.value).startswith(message)
