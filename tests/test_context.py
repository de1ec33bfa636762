"""xpnet.context: fresh arrays, or the same memory step after step."""

from __future__ import annotations

import pytest

from xpnet.layers import Context


@pytest.fixture
def context(backend) -> Context:
    return Context(backend, reuse=True)


def same_memory(a, b) -> bool:
    """Whether a number written into one shows in the other."""
    a[0, 0] = 1.0
    b[0, 0] = 2.0
    return float(a[0, 0]) == 2.0


def test_outside_a_trainer_there_is_nothing_to_reuse(backend) -> None:
    context = Context(backend)
    assert context.empty("owner", "y", (2, 3), backend.xp.float32) is None
    assert (context.training, context.seed, context.step) == (False, 0, 0)


def test_the_same_request_gets_the_same_memory(context) -> None:
    float32 = context.backend.xp.float32
    first = context.empty("owner", "y", (4, 3), float32)
    assert (tuple(first.shape), first.dtype) == ((4, 3), float32)
    context.backend.require(first)
    assert same_memory(first, context.empty("owner", "y", (4, 3), float32))


def test_a_smaller_batch_gets_the_first_rows_and_a_full_one_all_of_them_again(context) -> None:
    float32 = context.backend.xp.float32
    full = context.empty("owner", "y", (4, 3), float32)
    small = context.empty("owner", "y", (2, 3), float32)
    assert tuple(small.shape) == (2, 3)
    assert same_memory(full, small)
    again = context.empty("owner", "y", (4, 3), float32)
    assert tuple(again.shape) == (4, 3)
    assert same_memory(full, again)
    assert tuple(context.empty("owner", "y", (0, 3), float32).shape) == (0, 3)


@pytest.mark.parametrize(
    ("owner", "name", "shape", "dtype"),
    [
        ("other", "y", (4, 3), "float32"),
        ("owner", "dx", (4, 3), "float32"),
        ("owner", "y", (9, 3), "float32"),
        ("owner", "y", (4, 5), "float32"),
        ("owner", "y", (4, 3), "float64"),
    ],
)
def test_whatever_differs_gets_memory_of_its_own(context, owner, name, shape, dtype) -> None:
    xp = context.backend.xp
    first = context.empty("owner", "y", (4, 3), xp.float32)
    array = context.empty(owner, name, shape, getattr(xp, dtype))
    assert (tuple(array.shape), array.dtype) == (shape, getattr(xp, dtype))
    assert not same_memory(first, array)


def test_two_contexts_share_nothing(backend) -> None:
    first, second = (Context(backend, reuse=True).empty("owner", "y", (2, 2), backend.xp.float32) for _ in range(2))
    assert not same_memory(first, second)
