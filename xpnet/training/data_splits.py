"""The training, validation and test set of a run."""

from __future__ import annotations

from typing import NamedTuple

from xpnet.configuration import Recipe
from xpnet.data import Dataset, Samples, split_validation


class DataSplits(NamedTuple):
    """The training, validation and test set of a run.

    Attributes:
        train: the samples to train on.
        validation: the samples of the evaluations, which choose the best checkpoint; None: no validation.
        test: the samples that are measured once, at the end; None where the test set is the validation set.

    >>> import xpnet
    >>> recipe = xpnet.load_recipe("digits").with_options(validation_fraction=0.1)
    >>> splits = DataSplits.of(recipe, xpnet.data.load("digits"), seed=0)
    >>> len(splits.train.x), len(splits.validation.x), len(splits.test.x)
    (1293, 144, 360)
    """

    train: Samples
    validation: Samples | None
    test: Samples | None

    @classmethod
    def of(cls, recipe: Recipe, dataset: Dataset, seed: int) -> DataSplits:
        """The sets that a recipe asks for; raises ConfigurationError where one of them would be empty."""
        train, test = dataset.train, dataset.test
        if recipe.validate_on_test:
            return cls(train, test, None)
        if recipe.validation_fraction == 0.0:
            return cls(train, None, test)
        return cls(*split_validation(train, recipe.validation_fraction, seed), test)
