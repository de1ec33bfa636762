"""Setting samples aside from a training set."""

from __future__ import annotations

import numpy as np

from xpnet import random
from xpnet.data.samples import Samples
from xpnet.errors import ConfigurationError, finite_number


def require_fraction(name: str, value: object) -> float:
    """Return ``value`` when it is a number between 0 and 1, both left out, else raise :class:`ConfigurationError`.

    >>> require_fraction("validation_fraction", 0.1)
    0.1
    """
    number = finite_number(name, value)
    if not 0.0 < number < 1.0:
        raise ConfigurationError(f"{name} must be a number above 0 and below 1, not {value!r}")
    return number


def split_validation(samples: Samples, fraction: float, seed: int = 0) -> tuple[Samples, Samples]:
    """Divide samples into those to train on and those to validate on: (1 - fraction) N and fraction N rows, rounded.

    The rows to validate on are drawn without replacement, each set of them as likely as another, and depend on seed
    and N alone: a file that is sorted by class is divided as well as one that is not. Within each part the rows keep
    their order. Classes are not balanced.

    Args:
        samples: N of them; what is returned are copies.
        fraction: above 0 and below 1.
        seed: any integer; a run takes its own.

    Raises:
        ConfigurationError: the fraction is out of range, or leaves one of the parts without a row.

    >>> train, validation = split_validation(Samples(np.eye(10), np.arange(10)), 0.2)
    >>> len(train.y), validation.y.tolist()
    (8, [0, 9])
    """
    require_fraction("validation_fraction", fraction)
    rows = len(samples.x)
    count = round(fraction * rows)
    if not 0 < count < rows:
        raise ConfigurationError(
            f"a validation fraction of {fraction:g} sets {count} of {rows:,} samples aside: at least one must be, and "
            "one be left to train on; take another fraction (a run takes 0 for no validation), or more samples"
        )
    aside = np.zeros(rows, bool)
    aside[random.permutation(random.stream_key(seed, "validation"), rows)[:count]] = True
    train, validation = (samples._replace(x=samples.x[part], y=samples.y[part]) for part in (~aside, aside))
    return train, validation
