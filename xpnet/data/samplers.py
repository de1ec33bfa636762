"""Samplers: the order of the samples in each epoch, a pure function of seed and epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from xpnet import random
from xpnet.backends import require_indices
from xpnet.errors import DTypeError, ShapeError, positive_integer


def steps_per_epoch(samples: int, batch_size: int) -> int:
    """Batches in an epoch, ceil(samples / batch_size): the last one may be partial.

    Raises:
        ConfigurationError: one of the two is not a whole number of at least 1.

    >>> steps_per_epoch(60_000, 128)
    469
    """
    return -(-positive_integer("samples", samples) // positive_integer("batch_size", batch_size))


class Sampler(Protocol):
    """What a sampler has: a name for recipes, and the row indices of each epoch.

    >>> class Reversed:
    ...     name = "reversed"
    ...     def epoch(self, samples, batch_size, seed, epoch):
    ...         return np.arange(samples)[::-1]
    >>> epoch_order(Reversed(), 3, batch_size=2, seed=0, epoch=0)
    array([2, 1, 0])
    """

    name: ClassVar[str]

    def epoch(self, samples: int, batch_size: int, seed: int, epoch: int) -> np.ndarray:
        """The row indices of one epoch, int64; its batches are consecutive slices, the last one may be partial.

        Args:
            samples: rows of the training set.
            batch_size: rows in a batch.
            seed: of the run.
            epoch: 0 for the first.
        """


@dataclass(frozen=True)
class Shuffled:
    """Every row once, in another random order each epoch: (samples,) int64.

    >>> Shuffled().epoch(5, 2, seed=0, epoch=0).tolist() == Shuffled().epoch(5, 2, seed=0, epoch=1).tolist()
    False
    """

    name: ClassVar[str] = "shuffled"

    def epoch(self, samples: int, batch_size: int, seed: int, epoch: int) -> np.ndarray:
        """A permutation of the rows; see :meth:`Sampler.epoch`."""
        return random.permutation(random.stream_key(seed, "shuffle"), samples, step=epoch)


@dataclass(frozen=True)
class InOrder:
    """Every row once, in the order of the file: (samples,) int64.

    >>> InOrder().epoch(5, 2, seed=0, epoch=0).tolist()
    [0, 1, 2, 3, 4]
    """

    name: ClassVar[str] = "in-order"

    def epoch(self, samples: int, batch_size: int, seed: int, epoch: int) -> np.ndarray:
        """0 … samples - 1; see :meth:`Sampler.epoch`."""
        return np.arange(samples, dtype=np.int64)


@dataclass(frozen=True)
class WithReplacement:
    """Rows drawn independently and uniformly, every batch full: (steps_per_epoch * batch_size,) int64.

    >>> len(WithReplacement().epoch(5, 2, seed=0, epoch=0))
    6
    """

    name: ClassVar[str] = "with-replacement"

    def epoch(self, samples: int, batch_size: int, seed: int, epoch: int) -> np.ndarray:
        """Independent draws; see :meth:`Sampler.epoch`."""
        count = steps_per_epoch(samples, batch_size) * batch_size
        return random.integers(random.stream_key(seed, "sample"), count, below=samples, step=epoch)


def epoch_order(sampler: Sampler, samples: int, batch_size: int, seed: int, epoch: int) -> np.ndarray:
    """The row indices of an epoch from the sampler, checked on the host, without waiting for the device.

    Raises:
        DTypeError: they are not integers.
        ShapeError: they are not a 1-d array for as many batches as an epoch has.
        OutOfRangeError: one of them is outside the training set.

    >>> epoch_order(InOrder(), 3, batch_size=2, seed=0, epoch=0)
    array([0, 1, 2])
    """
    order = np.asarray(sampler.epoch(samples, batch_size, seed, epoch))
    steps = steps_per_epoch(samples, batch_size)
    if order.ndim != 1 or -(-len(order) // batch_size) != steps:
        raise ShapeError(
            f"{type(sampler).__name__}.epoch gave an array of shape {order.shape}; expected one index after the other, "
            f"enough for the epoch's {steps} batches of {batch_size} and no more"
        )
    if order.dtype.kind not in "iu":
        raise DTypeError(f"{type(sampler).__name__}.epoch gave {order.dtype}; expected the integer indices of rows")
    require_indices(order, samples, "row index")
    return order


SAMPLERS: Mapping[str, type[Sampler]] = {sampler.name: sampler for sampler in (Shuffled, InOrder, WithReplacement)}
