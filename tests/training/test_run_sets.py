"""xpnet.training.run_sets: which rows a run trains on, by which it chooses, and which it keeps for its end."""

from __future__ import annotations

import numpy as np
import pytest

from xpnet.configuration import Recipe
from xpnet.data import Dataset, split_validation
from xpnet.errors import ConfigurationError
from xpnet.training.run_sets import RunSets


def test_with_a_fraction_the_test_set_is_kept_for_the_end(digits: Dataset, small_recipe: Recipe) -> None:
    recipe = small_recipe.with_options(validation_fraction=0.25)
    sets = RunSets.of(recipe, digits, seed=5)
    expected = split_validation(digits.train, 0.25, seed=5)
    for part, rows in zip(sets, (*expected, digits.test), strict=True):
        assert part is not None
        np.testing.assert_array_equal(part.x, rows.x)
        np.testing.assert_array_equal(part.y, rows.y)


def test_validating_on_the_test_set(digits: Dataset, small_recipe: Recipe) -> None:
    sets = RunSets.of(small_recipe, digits, seed=5)
    assert sets.test is None
    assert sets.train.x is digits.x_train
    assert sets.validation is not None
    assert sets.validation.x is digits.x_test


def test_without_validation_all_is_trained_on_and_the_test_set_kept(digits: Dataset, small_recipe: Recipe) -> None:
    sets = RunSets.of(small_recipe.with_options(validation_fraction=0.0), digits, seed=5)
    assert sets.validation is None
    assert sets.test is not None
    assert sets.train.x is digits.x_train
    assert sets.test.x is digits.x_test


def test_a_fraction_that_leaves_a_part_empty(digits: Dataset, small_recipe: Recipe) -> None:
    with pytest.raises(ConfigurationError, match=r"a validation fraction of 0\.0001 sets 0 of 1,437 samples aside"):
        RunSets.of(small_recipe.with_options(validation_fraction=1e-4), digits, seed=0)
