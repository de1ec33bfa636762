"""MNIST for the benchmarks; where it is not at hand, random images of its shape in ten classes."""

from __future__ import annotations

from functools import cache

import numpy as np

from xpnet import Error
from xpnet.data import Dataset, load


@cache
def dataset() -> Dataset:
    """MNIST from XPNET_DATA_DIR or the cache of downloads, else a stand-in called "synthetic"."""
    try:
        return load("mnist", download=False)
    except Error:
        return synthetic()


def synthetic(train: int = 60_000, test: int = 10_000) -> Dataset:
    """Noise around one random image for each class, which networks can tell apart."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, train + test)
    images = rng.integers(0, 128, (10, 28, 28), np.uint8)[labels]
    images += rng.integers(0, 128, images.shape, np.uint8)
    return Dataset("synthetic", images[:train], labels[:train], images[train:], labels[train:], classes=10)
