"""xpnet.training.run_sets: which rows a run trains on, by which it chooses, and which it keeps for its end."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from xpnet.configuration import Recipe
from xpnet.data import Dataset, split_validation
from xpnet.errors import ConfigurationError
from xpnet.training.run_sets import RunSets


@pytest.mark.parametrize(("scale", "pixel_range"), [(True, 16.0), (False, 1.0)])
def test_with_a_fraction_the_test_set_is_kept_for_the_end(
    digits: Dataset, small_recipe: Recipe, scale: bool, pixel_range: float
) -> None:
    recipe = replace(small_recipe, scale=scale, validation_fraction=0.25)
    sets = RunSets.of(recipe, digits, seed=5)
    assert sets.validation_name == "validation"
    expected = split_validation(digits.train, 0.25, seed=5)
    for part, rows in zip((sets.train, sets.validation, sets.unseen), (*expected, digits.test), strict=True):
        assert part is not None
        np.testing.assert_array_equal(part.x, rows.x)
        np.testing.assert_array_equal(part.y, rows.y)
        assert part.pixel_range == pixel_range


def test_without_a_fraction_the_best_is_chosen_by_the_test_set(digits: Dataset, small_recipe: Recipe) -> None:
    sets = RunSets.of(small_recipe, digits, seed=5)
    assert (sets.validation_name, sets.unseen) == ("test", None)
    assert sets.train.x is digits.x_train
    assert sets.validation.x is digits.x_test


def test_a_fraction_that_leaves_a_part_empty(digits: Dataset, small_recipe: Recipe) -> None:
    with pytest.raises(ConfigurationError, match=r"a validation fraction of 0\.0001 sets 0 of 1,437 samples aside"):
        RunSets.of(replace(small_recipe, validation_fraction=1e-4), digits, seed=0)
