"""Work on the GPU that is checked and planned once, and from then on only queued."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Protocol

from .arrays import memory

_PLAIN = frozenset({type(None), bool, int, float, str, tuple})  # classes whose objects are no arrays
_MOST_KEPT = 512  # far more than a training step has; those used longest ago are dropped


class Work(Protocol):
    """A kernel's launch, or a matrix product."""

    def queue(self, stream: int) -> None:
        """Queue it on the stream with this handle, and return at once."""


def run(prepare: Callable[..., Sequence[Work]], stream: int, *arguments: Any) -> None:
    """Queue the work that ``prepare`` plans for these arrays and options."""
    queue(planned(prepare, *arguments), stream)


def planned(prepare: Callable[..., Sequence[Any]], *arguments: Any) -> Sequence[Any]:
    """The work that ``prepare`` plans for these arrays and options.

    In place of an array ``prepare`` gets its :class:`~.arrays.Memory`: what it returns must depend on nothing else. It
    is kept, so that a call with the same addresses, shapes, types and options repeats neither checks nor plans.
    """
    described = [value if type(value) in _PLAIN else memory(value) for value in arguments]
    try:
        return _kept(prepare, *described)
    except TypeError:  # of ``prepare``, or of an option that has no hash
        pass
    return prepare(*described)


def queue(works: Sequence[Work], stream: int) -> None:
    """Queue them one after the other."""
    for work in works:
        work.queue(stream)


@lru_cache(_MOST_KEPT, typed=True)
def _kept(prepare: Callable[..., Sequence[Any]], *arguments: Any) -> Sequence[Any]:
    return prepare(*arguments)
