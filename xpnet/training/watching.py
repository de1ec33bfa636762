"""Looking into a training step: its layers by place, and methods with a watcher in between."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from xpnet.layers import Layer
from xpnet.layers.tree import walk


def layers_by_place(model: Layer) -> Iterator[tuple[str, Layer]]:
    """A model's layers, what a layer is made of before itself, by place and kind: "0 Linear", "2.1 ReLU".

    >>> from xpnet.layers import Linear, ReLU, Sequential
    >>> [name for name, _ in layers_by_place(Sequential(Linear(2, 3), Sequential(ReLU())))]
    ['0 Linear', '1.0 ReLU', '1 Sequential', 'Sequential']
    """
    for name, layer in walk(model, children_first=True):
        yield f"{name} {type(layer).__name__}".strip(), layer


@contextmanager
def watched(methods: Iterable[tuple[Any, str, Callable[..., Any]]]) -> Iterator[None]:
    """For as long as this lasts, each (owner, method, watcher) calls ``watcher(original, *arguments)`` instead."""
    with ExitStack() as stack:
        for owner, method, watcher in methods:
            setattr(owner, method, partial(watcher, getattr(owner, method)))
            stack.callback(delattr, owner, method)
        yield
