"""The bundled data set: 1,797 handwritten digits of 8x8 pixels (digits.txt says where they come from)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from xpnet.data.dataset import Dataset


def load_digits() -> Dataset:
    """1,437 digits to train on and 360 to test on: (N, 8, 8) uint8 with pixels from 0 to 16.

    Source: Alpaydin, Kaynak, "Optical Recognition of Handwritten Digits", UCI Repository, 1998.

    >>> data = load_digits()
    >>> data.x_train.shape, data.x_test.shape, int(data.x_train.max())
    ((1437, 8, 8), (360, 8, 8), 16)
    """
    with np.load(Path(__file__).with_name("digits.npz"), allow_pickle=False) as arrays:
        return Dataset("digits", **arrays, classes=10)
