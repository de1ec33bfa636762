"""Traversal of the layers of a model, and their names."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from xpnet.errors import ConfigurationError

Layer = Any  # xpnet.Layer, whose module imports this one

Kind = TypeVar("Kind")


def find_instances(value: Any, kind: type[Kind], name: str) -> Iterator[tuple[str, Kind]]:
    """The instances of a class in a value and its nested lists, tuples and dictionaries, with their names.

    Dictionaries are traversed in the order of their sorted keys.

    >>> list(find_instances({"left": 1, "right": [2, "three"]}, int, "heads"))
    [('heads.left', 1), ('heads.right.0', 2)]
    """
    if isinstance(value, kind):
        yield name, value
    elif isinstance(value, (list, tuple)):
        for place, item in enumerate(value):
            yield from find_instances(item, kind, f"{name}.{place}")
    elif isinstance(value, dict):
        for key in sorted(value, key=str):  # files do not keep another order
            yield from find_instances(value[key], kind, f"{name}.{key}")


def map_instances(value: Any, kind: type[Kind], change: Callable[[Kind], Kind]) -> Any:
    """A copy of a value, its lists, tuples and dictionaries, with ``change`` applied to each instance of a class.

    >>> map_instances({"left": 1, "right": [2, "three"]}, int, lambda number: -number)
    {'left': -1, 'right': [-2, 'three']}
    """
    if isinstance(value, kind):
        return change(value)
    if isinstance(value, tuple):
        items = [map_instances(item, kind, change) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if isinstance(value, (list, dict)):
        changed = copy.copy(value)
        for key in range(len(value)) if isinstance(value, list) else list(value):
            changed[key] = map_instances(value[key], kind, change)
        return changed
    return value


def walk(
    layer: Layer, into: Callable[[Layer], bool] | None = None, children_first: bool = False
) -> Iterator[tuple[str, Layer]]:
    """A layer and all layers in it, depth first, with their names: "" for itself, "1.0" for the first one in "1".

    Args:
        layer: the model.
        into: whether to descend into a layer; None: into all.
        children_first: whether a layer comes after its children.

    Raises:
        ConfigurationError: a layer contains itself.

    >>> from xpnet.layers import Linear, ReLU, Sequential
    >>> [name for name, _ in walk(Sequential(Linear(2, 3), Sequential(ReLU())))]
    ['', '0', '1', '1.0']
    """
    return _walk("", layer, into, children_first, ())


def _walk(
    name: str,
    layer: Layer,
    into: Callable[[Layer], bool] | None,
    children_first: bool,
    above: tuple[Layer, ...],
) -> Iterator[tuple[str, Layer]]:
    if any(layer is one for one in above):
        raise ConfigurationError(f"{described(name, layer)} contains itself")
    if not children_first:
        yield name, layer
    if into is None or into(layer):
        for own, child in layer.children().items():
            yield from _walk(full_name(name, own), child, into, children_first, (*above, layer))
    if children_first:
        yield name, layer


def full_name(layer: str, own: str) -> str:
    """The name in the model of the parameter, buffer or child ``own`` of a layer.

    >>> full_name("1.0", "W"), full_name("", "W")
    ('1.0.W', 'W')
    """
    return f"{layer}.{own}" if layer else own


def described(name: str, layer: Layer) -> str:
    """A layer's name and class, for messages.

    >>> from xpnet.layers import ReLU
    >>> described("1.0", ReLU()), described("", ReLU())
    ('layer 1.0 (ReLU)', 'the ReLU')
    """
    kind = type(layer).__name__
    return f"layer {name} ({kind})" if name else f"the {kind}"
