"""Parameter groups, chosen by patterns of names, and the segments of the flat vectors that they cover."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import NamedTuple

from xpnet.errors import ConfigurationError, finite_number
from xpnet.parameters import NamedVector, Shape


class Group(NamedTuple):
    """The options that may differ between parameters: a factor of the learning rate, and the weight decay λ."""

    learning_rate_factor: float = 1.0
    weight_decay: float = 0.0


class Segment(NamedTuple):
    """Consecutive parameters of one group: their slice of the flat vectors, padding included."""

    group: Group
    place: slice


def segments(parameters: NamedVector, group_of: Callable[[str, Shape], Group | None]) -> list[Segment]:
    """The fewest segments that cover the flat vector, without the parameters whose group is None.

    >>> from xpnet.backends import backend
    >>> vector = NamedVector(backend("cpu-reference"), {"0.W": (70, 2), "0.b": (2,), "1.b": (3,)}, "float32")
    >>> segments(vector, lambda name, shape: Group(1.0, 0.1 if len(shape) > 1 else 0.0))
    [Segment(group=Group(learning_rate_factor=1.0, weight_decay=0.1), place=slice(0, 192, None)),
     Segment(group=Group(learning_rate_factor=1.0, weight_decay=0.0), place=slice(192, 320, None))]
    """
    found: list[Segment] = []
    starts = [*parameters.starts.values(), parameters.vector.shape[0]]
    previous: Group | None = None
    for (name, shape), start, stop in zip(parameters.shapes.items(), starts[:-1], starts[1:], strict=True):
        group = group_of(name, shape)
        if group is not None:
            begin = found.pop().place.start if group == previous else start
            found.append(Segment(group, slice(begin, stop)))
        previous = group
    return found


def patterns(option: str, value: str | Iterable[str]) -> tuple[str, ...]:
    """One pattern or several as a tuple, else ConfigurationError.

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
    """Whether the name matches one of the patterns: ``*`` is any text, ``?`` any character, ``[01]`` one of several."""
    return any(fnmatchcase(name, pattern) for pattern in chosen)


def factor_of(name: str, table: Mapping[str, float]) -> float:
    """The product of the factors of all patterns that match.

    >>> factor_of("0.b", {"0.*": 0.1, "*.b": 2.0, "1.*": 5.0})
    0.2
    """
    # Sorted, so that the product's last bit does not depend on the table's order, which files do not keep.
    return math.prod(sorted(factor for pattern, factor in table.items() if fnmatchcase(name, pattern)))


def require_matches(option: str, chosen: Iterable[str], names: Iterable[str]) -> None:
    """Raise ConfigurationError for a pattern that no parameter's name matches."""
    names = list(names)
    for pattern in chosen:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ConfigurationError(f"{option}: no parameter matches {pattern!r}; there are {', '.join(names)}")
