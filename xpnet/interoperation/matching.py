"""Matching the tensors of another library's file with the layers of a model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from xpnet.errors import ConfigurationError, FileFormatError, ShapeError, one_of
from xpnet.interoperation.layouts import Layout, Place
from xpnet.parameters import Shape


class Stored(NamedTuple):
    """A tensor of a file.

    Attributes:
        name: its full name in the file.
        values: the numbers.
        dtype: the element type in the file; ``values`` may be wider, as NumPy has no bfloat16.
    """

    name: str
    values: np.ndarray
    dtype: str


Group = Mapping[str, Stored]


class ForeignWeights(NamedTuple):
    """The contents of another library's file.

    Attributes:
        library: its name.
        layout: how it stores each layer.
        groups: the tensors of each layer by name, by name of the layer.
        in_order: whether the groups are in the order of the layers.
        channels_last: whether the library flattens images in the order (H, W, C).
    """

    library: str
    layout: Layout
    groups: Mapping[str, Group]
    in_order: bool = False
    channels_last: bool = False

    def select(self, names: Sequence[str]) -> ForeignWeights:
        """Only these groups, in this order."""
        if isinstance(names, str) or len(set(names)) < len(names):
            raise ConfigurationError(f"names must be a list of the file's layers, each once, not {names!r}")
        chosen = {one_of("layer of the file", name, self.groups): self.groups[name] for name in names}
        return self._replace(groups=chosen, in_order=True)


def group_by_layer(tensors: Sequence[Stored], separator: str, depth: int = 1) -> dict[str, dict[str, Stored]]:
    """Group tensors whose names differ only in the last ``depth`` parts, in natural order: "2" before "10".

    >>> stored = [Stored(name, np.zeros(1), "float32") for name in ("10.weight", "2.bias", "2.weight")]
    >>> [(name, list(group)) for name, group in group_by_layer(stored, ".").items()]
    [('2', ['bias', 'weight']), ('10', ['weight'])]
    """
    groups: dict[str, dict[str, Stored]] = {}
    for tensor in tensors:
        parts = tensor.name.split(separator)
        name, own = separator.join(parts[:-depth]), separator.join(parts[-depth:])
        groups.setdefault(name, {})[own] = tensor
    return {name: groups[name] for name in sorted(groups, key=_natural)}


def match(places: Sequence[Place], weights: ForeignWeights, origin: str) -> list[Group]:
    """The group of each place: the first remaining one with the tensors and shapes that the layer needs.

    Raises:
        ConfigurationError: the library has no counterpart of a layer; or several groups fit a layer, and their names
            do not imply an order.
        ShapeError: no remaining group fits a layer.
        FileFormatError: the file has more layers than the model.
    """
    left, matched = dict(weights.groups), []
    for place in places:
        needed = {
            tensor.theirs: tensor.their_shape(place.views[tensor.ours].shape)
            for tensor in place.tensors(weights.layout, weights.library)
        }
        candidates = list(left)[:1] if weights.in_order else list(left)
        fitting = [name for name in candidates if _shapes(left[name]) == needed]
        if not fitting:
            raise ShapeError(f"{origin}: {place} needs {_text(needed)}; {_nearest(candidates, left, needed)}")
        if not all(_numbered(fitting[0], name) for name in fitting[1:]):
            raise ConfigurationError(
                f"{origin}: {' and '.join(fitting)} fit {place}, and the file does not keep their order: give the "
                "names of its layers, first to last"
            )
        matched.append(left.pop(fitting[0]))
    if left:
        extra = ", ".join(list(left)[:3]) + (", …" if len(left) > 3 else "")
        raise FileFormatError(
            f"{origin}: the model has no layer for {extra}: take another architecture, or give the names of the file's "
            "layers to take, first to last"
        )
    return matched


def _nearest(candidates: Sequence[str], groups: Mapping[str, Group], needed: Mapping[str, Shape]) -> str:
    """A description of the group with the fewest differences, for an error."""

    def differences(name: str) -> int:
        found = _shapes(groups[name])
        return sum(found.get(own) != needed.get(own) for own in found.keys() | needed.keys())

    if not candidates:
        return "the file has no more layers"
    name = min(candidates, key=differences)
    found = _shapes(groups[name])
    missing = [own for own in needed if own not in found]
    if len(missing) == 1 and found == {own: shape for own, shape in needed.items() if own not in missing}:
        return (
            f"{name!r} fits, but has no {missing[0]}: if it was trained without, save zeros there or take "
            "Linear(bias=False)"
        )
    return f"{name!r} in the file has {_text({own: found[own] for own in (*needed, *sorted(found)) if own in found})}"


def _shapes(group: Group) -> dict[str, Shape]:
    return {own: tensor.values.shape for own, tensor in group.items()}


def _text(shapes: Mapping[str, Shape]) -> str:
    return " and ".join(f"{name} {shape}" for name, shape in shapes.items())


def _natural(name: str) -> list[list[str | tuple[int, str]]]:
    """The sort key: for each part of a name, text and numbers in turn; a number with more digits is larger."""
    return [
        [
            (len(piece.lstrip("0")), piece) if place % 2 else piece
            for place, piece in enumerate(re.split("([0-9]+)", part))
        ]
        for part in _parts(name)
    ]


def _numbered(one: str, other: str) -> bool:
    """Whether two names differ first in a number: "block1.a" and "block2.b", but not "block.a" and "block.b"."""
    for first, second in zip(_parts(one), _parts(other), strict=False):
        if first != second:
            return re.sub(r"_?\d+", "", first) == re.sub(r"_?\d+", "", second)
    return False


def _parts(name: str) -> list[str]:
    return re.split("[./]", name)
