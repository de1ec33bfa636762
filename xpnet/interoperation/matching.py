"""Which tensors of a foreign file belong to which layer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from xpnet.errors import ConfigurationError, FileFormatError, ShapeError, one_of
from xpnet.interoperation.layouts import Layout, Place
from xpnet.parameters import Shape


class Stored(NamedTuple):
    """A tensor of a foreign file.

    Attributes:
        name: its whole name there.
        values: the numbers.
        dtype: the element type there: bfloat16 has no NumPy array, so ``values`` may be wider.
    """

    name: str
    values: np.ndarray
    dtype: str


Group = Mapping[str, Stored]


class ForeignWeights(NamedTuple):
    """A foreign file, read.

    Attributes:
        library: whose it is.
        layout: how that library keeps each layer.
        groups: for each of its layers, by name, the tensors by their names within it.
        in_order: whether the groups stand in the order of the layers.
        channels_last: whether it flattens images in the order (H, W, C).
    """

    library: str
    layout: Layout
    groups: Mapping[str, Group]
    in_order: bool = False
    channels_last: bool = False

    def select(self, names: Sequence[str]) -> ForeignWeights:
        """These groups alone, in this order."""
        if isinstance(names, str) or len(set(names)) < len(names):
            raise ConfigurationError(f"names must be a list of the file's layers, each once, not {names!r}")
        chosen = {one_of("layer of the file", name, self.groups): self.groups[name] for name in names}
        return self._replace(groups=chosen, in_order=True)


def group_by_layer(tensors: Sequence[Stored], separator: str, depth: int = 1) -> dict[str, dict[str, Stored]]:
    """Groups of what has the same name but for its last ``depth`` parts, in natural order: "2" before "10".

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
    """The group of each place: the first one left that has the tensors and shapes which the layer needs.

    Raises:
        ConfigurationError: a layer that the library has no counterpart for; or several groups fit a layer, and their
            names do not say which comes first.
        ShapeError: nothing left fits a layer.
        FileFormatError: the file holds more than the model.
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
            "layers that the model shall have, first to last"
        )
    return matched


def _nearest(candidates: Sequence[str], groups: Mapping[str, Group], needed: Mapping[str, Shape]) -> str:
    """What the file has instead: the group with the fewest differences."""

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
    """Part by part, text and numbers by turns; of two numbers, the longer is the larger."""
    return [
        [
            (len(piece.lstrip("0")), piece) if place % 2 else piece
            for place, piece in enumerate(re.split("([0-9]+)", part))
        ]
        for part in _parts(name)
    ]


def _numbered(one: str, other: str) -> bool:
    """Whether numbers order two names: the first parts that differ, "block1" and "block2", do so in nothing else."""
    for first, second in zip(_parts(one), _parts(other), strict=False):
        if first != second:
            return re.sub(r"_?\d+", "", first) == re.sub(r"_?\d+", "", second)
    return False


def _parts(name: str) -> list[str]:
    return re.split("[./]", name)
