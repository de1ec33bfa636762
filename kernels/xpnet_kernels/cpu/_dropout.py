"""Dropout with a counter-based mask: a function of key and step, the same on every device, and never stored."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
from numba import njit

from xpnet_kernels.cpu.checks.arguments import check_kind, is_in_place
from xpnet_kernels.cpu.numba_extensions.compilation import INNER, InVector, OutVector, kernel
from xpnet_kernels.cpu.threads.pool import over_rows

_TILE = 1024
_MAX_ELEMENTS = 2**34  # the counter's lowest word counts groups of four


def dropout(x: np.ndarray, probability: float, key: tuple[int, int], step: int | np.ndarray, out: np.ndarray) -> None:
    """``out = x / (1 - probability)`` where an element is kept, and 0 elsewhere.

    Element i (in C order) is kept when word_i · 2**-32 >= probability, where the words are Philox 4x32-10 with this
    key and the counters (i // 4, 0, low half of step, high half of step); Salmon et al., "Parallel random numbers: as
    easy as 1, 2, 3", SC 2011. The backward pass is the same call on the gradient.

    Args:
        x: float32 or float64, contiguous, of any shape.
        probability: of dropping, in [0, 1).
        key: two 32-bit words.
        step: a number, or a (1,) int64 array.
        out: like ``x``, output; may be ``x``.

    Raises:
        TypeError, ValueError: an array of a wrong type, shape or layout, or a number outside its range.

    >>> import numpy as np
    >>> out = np.empty(8)
    >>> dropout(np.ones(8), 0.5, (0, 0), 0, out)
    >>> out
    array([0., 2., 2., 2., 2., 0., 2., 0.])
    """
    check_kind("x", x, np.ndim(x))
    check_kind("out", out, x.ndim)
    if out.dtype != x.dtype:
        raise TypeError(f"out must be {x.dtype}, not {out.dtype}")
    if out.shape != x.shape or not out.flags.writeable:
        raise ValueError(f"out must be writable and of the shape {x.shape}, not {out.shape}")
    if not (x.flags.c_contiguous and out.flags.c_contiguous):
        raise ValueError("x and out must be contiguous; numpy.ascontiguousarray makes a copy that is")
    if not 0 <= probability < 1:
        raise ValueError(f"probability must be a number from 0 to below 1, not {probability!r}")
    if not all(0 <= operator.index(word) < 2**32 for word in key):
        raise ValueError(f"key must be two words of 32 bits, not {key}")
    if x.size > _MAX_ELEMENTS:
        raise ValueError(f"x has {x.size} elements, and a step has random words for {_MAX_ELEMENTS}")
    in_place = is_in_place("out", out, "x", x)
    step = int(step[0]) if isinstance(step, np.ndarray) else int(step)
    threshold, scale = math.ceil(probability * 2**32), 1 / (1 - probability)
    source, target, compiled = x.reshape(-1), out.reshape(-1), _dropout[x.dtype]

    def block(first: int, last: int) -> None:
        tiles = slice(first * _TILE, last * _TILE)
        compiled(source[tiles], *key, step, first * (_TILE // 4), threshold, scale, target[tiles], in_place)

    over_rows(block, -(-x.size // _TILE), _TILE)


@njit(**INNER)
def _philox(words: Any, key0: int, key1: int, step: int, first: int) -> None:
    """The random words of the groups of four from ``first`` on, in ten rounds."""
    low = np.uint64(0xFFFFFFFF)
    for group in range(words.size // 4):
        c0, c1 = np.uint64(first + group), np.uint64(0)
        c2, c3 = np.uint64(step) & low, np.uint64(step) >> np.uint64(32)
        k0, k1 = np.uint64(key0), np.uint64(key1)
        for _ in range(10):
            product0, product1 = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
            c0, c1 = (product1 >> np.uint64(32)) ^ c1 ^ k0, product1 & low
            c2, c3 = (product0 >> np.uint64(32)) ^ c3 ^ k1, product0 & low
            k0, k1 = (k0 + np.uint64(0x9E3779B9)) & low, (k1 + np.uint64(0xBB67AE85)) & low
        words[4 * group] = c0
        words[4 * group + 1] = c1
        words[4 * group + 2] = c2
        words[4 * group + 3] = c3


@kernel
def _dropout(
    x: InVector,
    key0: int,
    key1: int,
    step: int,
    first: int,
    threshold: int,
    scale: float,
    out: OutVector,
    in_place: bool,
) -> None:
    zero, factor = x.dtype.type(0), x.dtype.type(scale)
    words = np.empty(_TILE, np.uint32)
    for start in range(0, out.size, _TILE):
        _philox(words, key0, key1, step, first + start // 4)
        y = out[start : start + _TILE]
        if not in_place:
            source = x[start : start + _TILE]
            for i in range(y.size):
                y[i] = source[i]
        for i in range(y.size):
            y[i] = y[i] * factor if np.int64(words[i]) >= threshold else zero
