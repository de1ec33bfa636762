import itertools
import math
import re

import numpy as np
import pytest

from xpnet import random
from xpnet.errors import ConfigurationError

KEY = random.stream_key(7, "test")

# kat_vectors of the Random123 library, "philox4x32 10".
KNOWN_ANSWERS = [
    ([0, 0, 0, 0], [0, 0], [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


def scalar_philox(counter, key):
    """One block in Python's integers, round by round as in the paper's figure."""
    left0, right0, left1, right1 = counter[1], counter[0], counter[3], counter[2]
    k0, k1 = key
    for _ in range(10):
        high0, low0 = divmod(0xD2511F53 * right0, 2**32)
        high1, low1 = divmod(0xCD9E8D57 * right1, 2**32)
        left0, right0, left1, right1 = low1, high1 ^ left0 ^ k0, low0, high0 ^ left1 ^ k1
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return [right0, left0, right1, left1]


def scalar_words(key, step, count):
    blocks = (scalar_philox([b, 0, step % 2**32, step // 2**32], key) for b in range(-(-count // 4)))
    return list(itertools.chain.from_iterable(blocks))[:count]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_published_vectors(counter, key, answer):
    assert random.philox(np.array([counter], np.uint32), tuple(key)).tolist() == [answer]
    assert scalar_philox(counter, key) == answer


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 97])
@pytest.mark.parametrize("step", [0, 1, 2**32 - 1, 2**32, 2**40 + 17, 2**64 - 1])
def test_words_equal_the_scalar_ones(count, step):
    words = random.words(KEY, step, count)
    assert words.dtype == np.uint32
    assert words.tolist() == scalar_words(KEY, step, count)


def test_key_is_the_start_of_sha256_of_seed_purpose_and_name():
    # printf '0\0weights\0%s' 0.W | sha256sum
    digest = bytes.fromhex("3766bc55483d16fa")
    assert random.stream_key(0, "weights", "0.W") == (
        int.from_bytes(digest[:4], "little"),
        int.from_bytes(digest[4:], "little"),
    )


@pytest.mark.parametrize("seed", [0.9, 1.0, "1", None, np.float64(2.0)])
def test_a_seed_is_an_integer(seed):
    with pytest.raises(ConfigurationError, match=f"seed must be a whole number, not {re.escape(repr(seed))}"):
        random.stream_key(seed, "weights")


def test_any_integer_is_a_seed():
    assert random.stream_key(np.int64(7), "test") == KEY
    assert random.stream_key(-7, "test") != KEY
    assert random.stream_key(2**70, "test") != KEY


def test_keys_differ_by_seed_purpose_and_name():
    names = itertools.product(range(20), ["weights", "shuffle"], ["", "0.W", "1.W"])
    keys = [random.stream_key(*name) for name in names]
    assert len(set(keys)) == len(keys)


def test_values_follow_from_the_words():
    words = scalar_words(KEY, 3, 14)
    wide = [low + 2**32 * high for low, high in zip(words[::2], words[1::2], strict=True)]
    uniform = [(word >> 11) / 2**53 for word in wide]
    assert random.uniform(KEY, 7, step=3).tolist() == uniform

    normal = []
    for u, v in zip([*uniform[::2], 0.0], [*uniform[1::2], 0.0], strict=False):
        radius = math.sqrt(-2 * math.log(1 - u))
        normal += [radius * math.cos(2 * math.pi * v), radius * math.sin(2 * math.pi * v)]
    np.testing.assert_allclose(random.normal(KEY, 6, step=3), normal[:6], rtol=1e-14)

    assert random.integers(KEY, 14, below=10, step=3).tolist() == [word * 10 >> 32 for word in words]
    assert random.permutation(KEY, 7, step=3).tolist() == sorted(range(7), key=wide.__getitem__)


@pytest.mark.parametrize("draw", [random.uniform, random.normal, lambda *a, **k: random.integers(*a, below=9, **k)])
def test_a_longer_draw_begins_like_a_shorter_one(draw):
    long = draw(KEY, 1001, step=5)
    for count in (0, 1, 2, 3, 5, 1000):
        assert draw(KEY, count, step=5).tolist() == long[:count].tolist()


def test_uniform_fills_its_interval_evenly():
    draws = random.uniform(KEY, 100_000)
    assert draws.dtype == np.float64
    assert 0.0 <= draws.min() < 1e-4
    assert 1 - 1e-4 < draws.max() < 1.0
    counts = np.bincount((draws * 64).astype(int), minlength=64)
    assert chi_square(counts) < 115  # 63 degrees of freedom; exceeded once in 10,000
    np.testing.assert_allclose([draws.mean(), draws.var()], [1 / 2, 1 / 12], atol=0.003)


def test_normal_has_the_moments_and_the_distribution_of_a_normal():
    draws = np.sort(random.normal(KEY, 100_001))
    assert draws.dtype == np.float64
    moments = [np.mean(draws**power) for power in (1, 2, 3, 4)]
    np.testing.assert_allclose(moments, [0, 1, 0, 3], atol=0.08)
    expected = np.array([0.5 * (1 + math.erf(x / math.sqrt(2))) for x in draws])
    distance = np.abs(np.arange(1, len(draws) + 1) / len(draws) - expected).max()
    assert distance < 2.3 / math.sqrt(len(draws))  # Kolmogorov: exceeded once in 20,000


@pytest.mark.parametrize(("below", "bins"), [(1, 1), (7, 7), (10, 10), (60_000, 8), (2**32, 8)])
def test_integers_are_uniform_below_any_bound(below, bins):
    draws = random.integers(KEY, 70_000, below)
    assert draws.dtype == np.int64
    assert draws.min() >= 0
    assert draws.max() < below
    counts = np.bincount(draws * bins // below, minlength=bins)
    assert chi_square(counts) < 34  # at most 9 degrees of freedom; exceeded once in 10,000


def test_every_permutation_is_equally_likely():
    orders = {order: 0 for order in itertools.permutations(range(4))}
    for step in range(6000):
        orders[tuple(random.permutation(KEY, 4, step).tolist())] += 1
    assert chi_square(np.array(list(orders.values()))) < 60  # 23 degrees of freedom; once in 25,000


@pytest.mark.parametrize("count", [0, 1, 2, 3, 1001])
def test_a_permutation_holds_each_row_once(count):
    order = random.permutation(KEY, count, step=2)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(count))


@pytest.mark.parametrize("equal_bits", [0, 1, 8, 50, 64])
@pytest.mark.parametrize("count", [2, 100, 2**16 - 1, 2**16, 2**16 + 1])
def test_a_permutation_is_the_stable_order_also_among_equals(count, equal_bits, monkeypatch):
    drawn = np.random.default_rng(count).integers(0, 2**64, count, np.uint64, endpoint=False)
    drawn &= np.uint64(2 ** (64 - equal_bits) - 1)  # the upper bits of all
    drawn[count // 2] = drawn[0]
    monkeypatch.setattr(random, "_words64", lambda *_: drawn)
    expected = np.lexsort((np.arange(count), drawn))
    assert np.array_equal(random.permutation(KEY, np.int64(count)), expected)


def test_steps_seeds_and_purposes_are_independent():
    streams = [random.normal(KEY, 20_000, step) for step in (0, 1, 2, 2**32)]
    streams += [random.normal(random.stream_key(*name), 20_000) for name in ((8, "test"), (7, "other"))]
    correlations = np.corrcoef(streams)
    assert np.abs(correlations - np.eye(len(streams))).max() < 4.5 / math.sqrt(20_000)


def test_a_draw_leaves_numpys_generator_alone():
    before = np.random.get_state()[1].tolist()
    random.normal(KEY, 100)
    random.permutation(KEY, 100)
    assert np.random.get_state()[1].tolist() == before


def chi_square(counts):
    expected = counts.sum() / len(counts)
    return ((counts - expected) ** 2 / expected).sum()
