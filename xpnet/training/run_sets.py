"""The parts of a data set that a run uses, and for what."""

from __future__ import annotations

from typing import NamedTuple

from xpnet.configuration import Recipe
from xpnet.data import Dataset, Samples, split_validation


class RunSets(NamedTuple):
    """What a run trains on, and what it is judged by.

    Attributes:
        train: what it trains on.
        validation: what it evaluates on meanwhile, and chooses the best by; None: nothing is chosen.
        test: what the result is measured on, once, at the end; None where the test set was the validation set.

    >>> import xpnet
    >>> recipe = xpnet.load_recipe("digits").with_options(validation_fraction=0.1)
    >>> sets = RunSets.of(recipe, xpnet.data.load("digits"), seed=0)
    >>> len(sets.train.x), len(sets.validation.x), len(sets.test.x)
    (1293, 144, 360)
    """

    train: Samples
    validation: Samples | None
    test: Samples | None

    @classmethod
    def of(cls, recipe: Recipe, dataset: Dataset, seed: int) -> RunSets:
        """The parts that a recipe asks for; ConfigurationError where one of them would be empty."""
        pixel_range = dataset.pixel_range if recipe.scale else 1.0
        train, test = (samples._replace(pixel_range=pixel_range) for samples in (dataset.train, dataset.test))
        if recipe.validate_on_test:
            return cls(train, test, None)
        if recipe.validation_fraction == 0.0:
            return cls(train, None, test)
        return cls(*split_validation(train, recipe.validation_fraction, seed), test)
