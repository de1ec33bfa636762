"""Philox 4x32-10: random numbers as a pure function of a key and a counter.

The key is a hash of (seed, purpose, name), and the counter contains the training step; there is no other state. The
same seed gives the same bits on every backend, and a run can be resumed at any step from the step number alone.

Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

import hashlib
import operator

import numpy as np

from xpnet.errors import ConfigurationError

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_INCREMENTS = (0x9E3779B9, 0xBB67AE85)  # the golden ratio and sqrt(3) - 1, as fractions of 2**32

_LOW_32 = np.uint64(0xFFFFFFFF)
_SHIFT_32 = np.uint64(32)


def philox(counter: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """The 10-round Philox 4x32 function of each counter.

    Args:
        counter: (n, 4) uint32, one 128-bit counter per row, least significant word first.
        key: two 32-bit words.

    Returns:
        (n, 4) uint32.

    >>> philox(np.zeros((1, 4), np.uint32), (0, 0))[0].tolist() == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    True
    """
    c0, c1, c2, c3 = (counter[:, word].astype(np.uint64) for word in range(4))
    k0, k1 = key
    m0, m1 = (np.uint64(multiplier) for multiplier in MULTIPLIERS)
    product0, product1 = np.empty_like(c0), np.empty_like(c0)  # allocating in the loop would more than double the time
    for _ in range(ROUNDS):
        np.multiply(m0, c0, out=product0)
        np.multiply(m1, c2, out=product1)
        np.right_shift(product1, _SHIFT_32, out=c0)
        c0 ^= c1 ^ np.uint64(k0)
        np.right_shift(product0, _SHIFT_32, out=c2)
        c2 ^= c3 ^ np.uint64(k1)
        np.bitwise_and(product1, _LOW_32, out=c1)
        np.bitwise_and(product0, _LOW_32, out=c3)
        k0, k1 = (k0 + KEY_INCREMENTS[0]) & 0xFFFFFFFF, (k1 + KEY_INCREMENTS[1]) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=1, dtype=np.uint32, casting="unsafe")


def stream_key(seed: int, purpose: str, name: str = "") -> tuple[int, int]:
    """The two key words of a stream: the first 64 bits of SHA-256 over (seed, purpose, name).

    Raises:
        ConfigurationError: the seed is not an integer.

    >>> stream_key(0, "weights", "0.W") == stream_key(0, "weights", "1.W")
    False
    """
    try:
        whole = str(operator.index(seed))
    except TypeError:
        raise ConfigurationError(f"seed must be a whole number, not {seed!r}") from None
    digest = hashlib.sha256("\0".join((whole, purpose, name)).encode()).digest()
    return int.from_bytes(digest[0:4], "little"), int.from_bytes(digest[4:8], "little")


def words(key: tuple[int, int], step: int, count: int) -> np.ndarray:
    """The first ``count`` 32-bit words of a stream at ``step``: (count,) uint32.

    The counter is (block, 0, low half of step, high half of step); a block yields four words, so a step has at
    most 2**34; MemoryError for more.

    >>> words((0, 0), step=0, count=2).tolist() == [0x6627E8D5, 0xE169C58D]
    True
    """
    if count > 2**34:  # the block counter would wrap around
        raise MemoryError(
            f"{count:,} random words were asked for at once: a stream has at most 2**34 per step (64 GiB)"
        )
    counter = np.zeros((-(-count // 4), 4), np.uint32)
    counter[:, 0] = np.arange(len(counter), dtype=np.uint32)
    counter[:, 2] = step & 0xFFFFFFFF
    counter[:, 3] = step >> 32
    return philox(counter, key).reshape(-1)[:count]


def _words64(key: tuple[int, int], step: int, count: int) -> np.ndarray:
    pairs = words(key, step, 2 * count).reshape(count, 2).astype(np.uint64)
    return pairs[:, 0] | pairs[:, 1] << _SHIFT_32


def uniform(key: tuple[int, int], count: int, step: int = 0) -> np.ndarray:
    """(count,) float64, uniform on [0, 1): the upper 53 bits of 64-bit words, times 2**-53.

    >>> draws = uniform(stream_key(0, "example"), 1000)
    >>> bool(0.0 <= draws.min() and draws.max() < 1.0), round(float(draws.mean()), 1)
    (True, 0.5)
    """
    return (_words64(key, step, count) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def normal(key: tuple[int, int], count: int, step: int = 0) -> np.ndarray:
    """(count,) float64, standard normal, by Box and Muller's transform (Ann. Math. Stat. 29, 1958).

    >>> draws = normal(stream_key(0, "example"), 10_000)
    >>> round(abs(float(draws.mean())), 1), round(float(draws.std()), 1)
    (0.0, 1.0)
    """
    pairs = uniform(key, 2 * -(-count // 2), step).reshape(-1, 2)
    radius = np.sqrt(-2.0 * np.log1p(-pairs[:, 0]))  # 1 - u lies in (0, 1], so the logarithm is finite
    angle = 2.0 * np.pi * pairs[:, 1]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)[:count]


def integers(key: tuple[int, int], count: int, below: int, step: int = 0) -> np.ndarray:
    """(count,) int64, uniform on [0, below), ``below`` at most 2**32: the upper 32 bits of word · ``below``.

    >>> draws = integers(stream_key(0, "example"), 1000, below=10)
    >>> int(draws.min()), int(draws.max())
    (0, 9)
    """
    return ((words(key, step, count).astype(np.uint64) * np.uint64(below)) >> _SHIFT_32).astype(np.int64)


def permutation(key: tuple[int, int], count: int, step: int = 0) -> np.ndarray:
    """A permutation of 0 … count-1, (count,) int64: the stable argsort of 64-bit words.

    >>> sorted(permutation(stream_key(0, "example"), 5).tolist())
    [0, 1, 2, 3, 4]
    """
    count = operator.index(count)
    drawn, index_bits = _words64(key, step, count), np.uint64(count.bit_length())
    if 3 * index_bits >= 64:  # with so many words, ties among the upper bits are likely
        return np.argsort(drawn, kind="stable")
    # Each word's lower bits are replaced by its index, because NumPy's sort is many times as fast as its argsort.
    packed = np.sort(drawn >> index_bits << index_bits | np.arange(count, dtype=np.uint64))
    upper = packed >> index_bits
    if (upper[1:] == upper[:-1]).any():  # a tie, which the replaced bits decide
        return np.argsort(drawn, kind="stable")
    return (packed ^ upper << index_bits).astype(np.int64)
