"""Parameters by patterns of their names: what is updated in the same way is a piece of the flat vectors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import NamedTuple

from xpnet.errors import ConfigurationError, finite_number
from xpnet.parameters import NamedVector, Shape


class Group(NamedTuple):
    """What may differ between parameters: a factor of the learning rate, and the weight decay λ."""

    learning_rate_factor: float = 1.0
    weight_decay: float = 0.0


class Piece(NamedTuple):
    """Neighbouring parameters of one group: where they stand in the flat vectors, padding included."""

    group: Group
    place: slice


def pieces(parameters: NamedVector, group_of: Callable[[str, Shape], Group | None]) -> list[Piece]:
    """The flat vector in as few pieces as can be; where the group is None, nothing is updated.

    >>> from xpnet.backends import backend
    >>> vector = NamedVector(backend("cpu-reference"), {"0.W": (70, 2), "0.b": (2,), "1.b": (3,)}, "float32")
    >>> pieces(vector, lambda name, shape: Group(1.0, 0.1 if len(shape) > 1 else 0.0))
    [Piece(group=Group(learning_rate_factor=1.0, weight_decay=0.1), place=slice(0, 192, None)),
     Piece(group=Group(learning_rate_factor=1.0, weight_decay=0.0), place=slice(192, 320, None))]
    """
    found: list[Piece] = []
    starts = [*parameters.starts.values(), parameters.vector.shape[0]]
    previous: Group | None = None
    for (name, shape), start, stop in zip(parameters.shapes.items(), starts[:-1], starts[1:], strict=True):
        group = group_of(name, shape)
        if group is not None:
            begin = found.pop().place.start if group == previous else start
            found.append(Piece(group, slice(begin, stop)))
        previous = group
    return found


def patterns(option: str, value: str | Iterable[str]) -> tuple[str, ...]:
    """One pattern or several, as a tuple of texts, else ConfigurationError.

    >>> patterns("frozen", "0.*")
    ('0.*',)
    """
    given = (value,) if isinstance(value, str) else value
    if not isinstance(given, (list, tuple)) or not all(isinstance(pattern, str) for pattern in given):
        raise ConfigurationError(
            f"{option} must be a pattern of parameters' names, such as '*.b', or a list of them, not {value!r}"
        )
    return tuple(given)


def factors(option: str, value: Mapping[str, float]) -> dict[str, float]:
    """A factor for each pattern, else ConfigurationError."""
    if not isinstance(value, Mapping):
        raise ConfigurationError(
            f"{option} must be a table of patterns and factors, such as {{'0.*': 0.1}}, not {value!r}"
        )
    return {pattern: finite_number(f"{option}[{pattern!r}]", number, low=0.0) for pattern, number in value.items()}


def matches(name: str, chosen: Iterable[str]) -> bool:
    """Whether one of the patterns is the name's: ``*`` is any text, ``?`` any character, ``[01]`` one of several."""
    return any(fnmatchcase(name, pattern) for pattern in chosen)


def factor_of(name: str, table: Mapping[str, float]) -> float:
    """The product of the factors of all patterns that match.

    >>> factor_of("0.b", {"0.*": 0.1, "*.b": 2.0, "1.*": 5.0})
    0.2
    """
    # Sorted: the product's last bit shall not depend on the order of a table that was saved and read again.
    return math.prod(sorted(factor for pattern, factor in table.items() if fnmatchcase(name, pattern)))


def require_matches(option: str, chosen: Iterable[str], names: Iterable[str]) -> None:
    """Raise ConfigurationError for a pattern that no parameter's name matches."""
    names = list(names)
    for pattern in chosen:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ConfigurationError(f"{option}: no parameter is called {pattern!r}; there are {', '.join(names)}")
