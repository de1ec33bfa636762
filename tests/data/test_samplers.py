import numpy as np
import pytest

from xpnet import errors, random
from xpnet.data.samplers import SAMPLERS, InOrder, Shuffled, WithReplacement, epoch_order, steps_per_epoch


@pytest.mark.parametrize(
    ("samples", "batch_size", "steps"),
    [(60_000, 100, 600), (60_000, 128, 469), (1, 100, 1), (100, 100, 1), (101, 100, 2)],
)
def test_the_last_partial_batch_counts(samples, batch_size, steps):
    assert steps_per_epoch(samples, batch_size) == steps


@pytest.mark.parametrize(
    ("samples", "batch_size", "name"), [(0, 1, "samples"), (5, 0, "batch_size"), (5, 2.5, "batch_size")]
)
def test_counts_that_cannot_be(samples, batch_size, name):
    with pytest.raises(errors.ConfigurationError, match=f"{name} must be a whole number of at least 1"):
        steps_per_epoch(samples, batch_size)


def test_names_for_recipes():
    assert dict(SAMPLERS) == {"shuffled": Shuffled, "in-order": InOrder, "with-replacement": WithReplacement}
    assert [sampler.name for sampler in SAMPLERS.values()] == list(SAMPLERS)
    assert Shuffled() == Shuffled()


@pytest.mark.parametrize("name", SAMPLERS)
def test_an_epoch_depends_on_seed_and_epoch_alone(name):
    sampler = SAMPLERS[name]()
    epochs = {key: sampler.epoch(1000, 10, *key) for key in ((0, 0), (0, 1), (1, 0))}
    assert all(indices.dtype == np.int64 for indices in epochs.values())
    assert np.array_equal(SAMPLERS[name]().epoch(1000, 10, 0, 1), epochs[0, 1])
    distinct = {tuple(indices) for indices in epochs.values()}
    assert len(distinct) == (1 if name == "in-order" else 3)


def test_shuffled_shows_every_row_once_whatever_the_batch_size():
    order = Shuffled().epoch(1003, 10, seed=3, epoch=2)
    assert sorted(order.tolist()) == list(range(1003))
    assert np.array_equal(order, Shuffled().epoch(1003, 7, seed=3, epoch=2))
    assert np.array_equal(order, random.permutation(random.stream_key(3, "shuffle"), 1003, step=2))
    # Of a random order's rows, one on average stands in its place.
    assert (order == np.arange(1003)).sum() < 8


def test_in_order_is_the_file():
    assert InOrder().epoch(7, 3, seed=3, epoch=2).tolist() == [0, 1, 2, 3, 4, 5, 6]


def test_with_replacement_draws_full_batches_uniformly():
    draws = WithReplacement().epoch(20, 7_000, seed=3, epoch=2)
    assert len(draws) == 7_000
    assert len(WithReplacement().epoch(20, 7, seed=3, epoch=2)) == 21
    counts = np.bincount(draws, minlength=20)
    assert len(counts) == 20
    assert ((counts - 350) ** 2 / 350).sum() < 52  # chi square, 19 degrees of freedom; once in 15,000
    key = random.stream_key(3, "sample")
    assert np.array_equal(draws, random.integers(key, 7_000, below=20, step=2))


@pytest.mark.parametrize("name", SAMPLERS)
def test_what_they_give_is_accepted_as_it_is(name):
    sampler = SAMPLERS[name]()
    assert (epoch_order(sampler, 103, 10, seed=1, epoch=2) == sampler.epoch(103, 10, 1, 2)).all()
