"""Subclasses of NumPy's array: memory maps are accepted; matrices and masked arrays are rejected."""

from __future__ import annotations

import numpy as np
import pytest
from xpnet_kernels import cpu


def arrays_after(function, *arguments, **named):
    """What the arrays among the arguments hold after the call."""
    function(*arguments, **named)
    return [array.tolist() for array in (*arguments, *named.values()) if isinstance(array, np.ndarray)]


def calls(make):
    """Every way into compiled code, small enough for the short one, each with one array made by ``make``."""
    logits, labels, real = np.ones((4, 3), np.float32), np.zeros(4, np.int64), np.float32
    x, W, b = np.ones((4, 3), real), np.ones((3, 2), real), np.ones(2, real)
    pixels, flat = np.ones((4, 3), np.uint8), np.ones(8, real)
    out = {"losses": np.empty(4, real), "summary": np.empty(4)}
    return {
        "softmax_cross_entropy": lambda: arrays_after(cpu.softmax_cross_entropy, make(logits), labels, **out),
        "in labels": lambda: arrays_after(cpu.softmax_cross_entropy, logits, make(labels), **out),
        "linear_softmax_cross_entropy": lambda: arrays_after(
            cpu.linear_softmax_cross_entropy, make(x), W, b, labels, **out
        ),
        "linear": lambda: arrays_after(cpu.linear, make(x), W, b, "relu", np.empty((4, 2), real)),
        "linear_backward": lambda: arrays_after(
            cpu.linear_backward, make(np.ones((4, 2), real)), x, None, W, None, np.empty_like(W), np.empty_like(b), None
        ),
        "bias_activation": lambda: arrays_after(cpu.bias_activation, make(x), np.ones(3, real), None, np.empty_like(x)),
        "gather": lambda: arrays_after(cpu.gather, make(pixels), labels, 255, np.empty((4, 3), real)),
        "gather to it": lambda: arrays_after(cpu.gather, pixels, labels, 255, make(np.empty((4, 3), real))),
        "sgd_update": lambda: arrays_after(cpu.sgd_update, make(flat), np.ones(8, real), np.ones(1)),
        "dropout": lambda: arrays_after(cpu.dropout, make(flat), 0.5, (0, 0), 0, np.empty(8, real)),
    }


@pytest.mark.parametrize("name", calls(None))
def test_masked_arrays_are_rejected(name):
    with pytest.raises(TypeError, match="must be a NumPy array, not MaskedArray"):
        calls(np.ma.masked_array)[name]()


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize("name", ["softmax_cross_entropy", "linear", "gather", "bias_activation"])
def test_numpy_matrices_are_rejected(name):
    with pytest.raises(TypeError, match="must be a NumPy array, not matrix"):
        calls(np.matrix)[name]()


@pytest.mark.parametrize("name", calls(None))
def test_memory_maps_are_accepted(name, tmp_path):
    def mapped(array):
        array.tofile(tmp_path / "file")
        return np.memmap(tmp_path / "file", array.dtype, shape=array.shape)

    assert calls(mapped)[name]() == calls(np.asarray)[name]()
