"""Splitting a validation set off a training set."""

from __future__ import annotations

import numpy as np

from xpnet import random
from xpnet.data.samples import Samples
from xpnet.errors import ConfigurationError, finite_number


def require_fraction(name: str, value: object) -> float:
    """Return ``value`` when it is a number above 0 and below 1, else raise :class:`ConfigurationError`.

    >>> require_fraction("validation_fraction", 0.1)
    0.1
    """
    number = finite_number(name, value)
    if not 0.0 < number < 1.0:
        raise ConfigurationError(f"{name} must be a number above 0 and below 1, not {value!r}")
    return number


def split_validation(samples: Samples, fraction: float, seed: int = 0) -> tuple[Samples, Samples]:
    """Split samples into a training set of (1 - fraction) N rows and a validation set of fraction N, rounded.

    The validation rows are drawn uniformly without replacement, and depend on seed and N alone, so the file may be
    sorted by class. Both sets keep the order of the rows. The split is not stratified by class.

    Args:
        samples: N of them, which are copied.
        fraction: above 0 and below 1.
        seed: any integer.

    Raises:
        ConfigurationError: the fraction is out of range, or leaves one of the sets empty.

    >>> train, validation = split_validation(Samples(np.eye(10), np.arange(10)), 0.2)
    >>> len(train.y), validation.y.tolist()
    (8, [0, 9])
    """
    require_fraction("validation_fraction", fraction)
    rows = len(samples.x)
    count = round(fraction * rows)
    if not 0 < count < rows:
        raise ConfigurationError(
            f"a validation fraction of {fraction:g} sets {count} of {rows:,} samples aside: both sets need at "
            "least one; choose another fraction (0 in a run: no validation), or more samples"
        )
    aside = np.zeros(rows, bool)
    aside[random.permutation(random.stream_key(seed, "validation"), rows)[:count]] = True
    train, validation = (samples._replace(x=samples.x[part], y=samples.y[part]) for part in (~aside, aside))
    return train, validation
