"""xpnet.training.data_splits: the training, validation and test set of a run."""

from __future__ import annotations

import numpy as np
import pytest

from xpnet.configuration import Recipe
from xpnet.data import Dataset, split_validation
from xpnet.errors import ConfigurationError
from xpnet.training.data_splits import DataSplits


def test_with_a_fraction_the_test_set_is_kept_for_the_end(digits: Dataset, small_recipe: Recipe) -> None:
    recipe = small_recipe.with_options(validation_fraction=0.25)
    splits = DataSplits.of(recipe, digits, seed=5)
    expected = split_validation(digits.train, 0.25, seed=5)
    for part, rows in zip(splits, (*expected, digits.test), strict=True):
        assert part is not None
        np.testing.assert_array_equal(part.x, rows.x)
        np.testing.assert_array_equal(part.y, rows.y)


def test_validating_on_the_test_set(digits: Dataset, small_recipe: Recipe) -> None:
    splits = DataSplits.of(small_recipe, digits, seed=5)
    assert splits.test is None
    assert splits.train.x is digits.x_train
    assert splits.validation is not None
    assert splits.validation.x is digits.x_test


def test_without_validation_all_is_trained_on_and_the_test_set_kept(digits: Dataset, small_recipe: Recipe) -> None:
    splits = DataSplits.of(small_recipe.with_options(validation_fraction=0.0), digits, seed=5)
    assert splits.validation is None
    assert splits.test is not None
    assert splits.train.x is digits.x_train
    assert splits.test.x is digits.x_test


def test_a_fraction_that_leaves_a_part_empty(digits: Dataset, small_recipe: Recipe) -> None:
    with pytest.raises(ConfigurationError, match=r"a validation fraction of 0\.0001 sets 0 of 1,437 samples aside"):
        DataSplits.of(small_recipe.with_options(validation_fraction=1e-4), digits, seed=0)
