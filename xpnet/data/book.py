"""MNIST as the deep-learning-from-scratch books load it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from xpnet.data.loading import load


def load_mnist(
    normalize: bool = True,
    flatten: bool = True,
    one_hot_label: bool = False,
    data_dir: str | Path | None = None,
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """MNIST as ``(x_train, t_train), (x_test, t_test)``: fresh, writable arrays of 60,000 and 10,000 rows.

    Args:
        normalize: pixels divided by 255, float32 in [0, 1]; else uint8 as published.
        flatten: images of shape (N, 784); else (N, 1, 28, 28).
        one_hot_label: one-hot labels, (N, 10) float32; else (N,) int64 class indices.
        data_dir: as for :func:`xpnet.data.load`, and with the same errors.

    Source: Saito, "Deep Learning from Scratch", chapter 3.

    >>> (x_train, t_train), (x_test, t_test) = load_mnist(data_dir="no such folder")
    Traceback (most recent call last):
    xpnet.errors.ConfigurationError: data_dir must be a folder that exists, not 'no such folder'
    """
    data = load("mnist", data_dir)

    def images(pixels: np.ndarray) -> np.ndarray:
        pixels = pixels / np.float32(255) if normalize else pixels.copy()
        return pixels.reshape((len(pixels), -1) if flatten else (len(pixels), 1, *data.sample_shape))

    def labels(indices: np.ndarray) -> np.ndarray:
        return np.eye(data.classes, dtype=np.float32)[indices] if one_hot_label else indices.copy()

    return (images(data.x_train), labels(data.y_train)), (images(data.x_test), labels(data.y_test))
