"""Hooks: methods of a training step that are wrapped for a while, and its layers by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from xpnet.layers import Layer
from xpnet.layers.tree import walk


def named_layers(model: Layer) -> Iterator[tuple[str, Layer]]:
    """A model's layers, children before their parents, each with its name and class: "0 Linear", "2.1 ReLU".

    >>> from xpnet.layers import Linear, ReLU, Sequential
    >>> [name for name, _ in named_layers(Sequential(Linear(2, 3), Sequential(ReLU())))]
    ['0 Linear', '1.0 ReLU', '1 Sequential', 'Sequential']
    """
    for name, layer in walk(model, children_first=True):
        yield f"{name} {type(layer).__name__}".strip(), layer


@contextmanager
def hooked(methods: Iterable[tuple[Any, str, Callable[..., Any]]]) -> Iterator[None]:
    """A context in which, for each (owner, method, hook), a call runs ``hook(original, *arguments)`` instead."""
    with ExitStack() as stack:
        for owner, method, hook in methods:
            setattr(owner, method, partial(hook, getattr(owner, method)))
            stack.callback(delattr, owner, method)
        yield
