"""Samples: what training and evaluation take."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Samples(NamedTuple):
    """Images and labels on the host, and what brings the images to [0, 1].

    Attributes:
        x: (N, *sample shape), uint8 or floating point.
        y: (N,) class indices, (N, C) rows of probabilities, or what else the loss holds against the outputs.
        pixel_range: x is divided by it, batch by batch, on the device; 1 leaves it as it is.

    >>> Samples(np.zeros((3, 2)), np.array([0, 1, 1])).pixel_range
    1.0
    """

    x: np.ndarray
    y: np.ndarray
    pixel_range: float = 1.0
