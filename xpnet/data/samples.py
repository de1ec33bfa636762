"""Samples: inputs and targets of training and evaluation."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Samples(NamedTuple):
    """Inputs and targets on the host.

    Attributes:
        x: (N, *sample shape), uint8 or floating point, not scaled: the model's first layer does that, see
            :class:`~xpnet.layers.Rescale`.
        y: (N,) class indices, (N, C) rows of probabilities, or other targets of the loss.

    >>> Samples(np.zeros((3, 2)), np.array([0, 1, 1])).y.tolist()
    [0, 1, 1]
    """

    x: np.ndarray
    y: np.ndarray
