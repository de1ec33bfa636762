"""One backend's copy of what is compared."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np

from xpnet.backends import Array, Backend
from xpnet.context import Context
from xpnet.data import Sampler, Samples
from xpnet.layers import Layer
from xpnet.losses import Loss
from xpnet.optimizers import Optimizer
from xpnet.training import Trainer, batches_for
from xpnet.training.hooks import named_layers

Numbers = Mapping[str, np.ndarray]


class Quantity(NamedTuple):
    """What an array of a step is: "1 Linear", "gradient", "W"."""

    layer: str
    kind: str
    array: str


class Part(Protocol):
    """A part of a step, with all that it needs."""

    def compute(self, bench: Workbench) -> dict[Quantity, np.ndarray]:
        """What that part gives on a backend."""


class Workbench:
    """One backend's copy of a model, in the backend's own element type, with what trains it.

    Args:
        backend: where.
        model, loss, optimizer: what is copied; the optimizer's state starts from zero.
        train: samples.
        batch_size: rows in a step.
        sampler: the order.
        seed: of the order, and for layers that draw random numbers.
        narrowest: the element type that the weights, and the inputs of a step's parts, are rounded to.
        reuse: whether layers reuse their memory from step to step, as in training.
    """

    def __init__(
        self,
        backend: Backend,
        model: Layer,
        loss: Loss,
        optimizer: Optimizer,
        train: Samples,
        batch_size: int,
        sampler: Sampler,
        seed: int,
        narrowest: str,
        reuse: bool = True,
    ) -> None:
        self.backend = backend
        self.narrowest = narrowest
        self.model = model.to(backend).initialize(backend)
        for own, given in zip(self.model.vectors, model.vectors, strict=True):
            self.fill(own, {name: self.rounded(given.backend.to_numpy(view)) for name, view in given.items()})
        optimizer = copy.copy(optimizer)
        optimizer.learning_rate = copy.deepcopy(optimizer.learning_rate)  # a schedule may have a state
        self.trainer = Trainer(self.model, copy.copy(loss), optimizer, seed=seed)
        self.batches = batches_for(
            self.model, train, self.trainer.loss, batch_size=batch_size, sampler=sampler, seed=seed, drop_last=True
        )
        self.context = Context(backend, training=True, seed=seed, reuse=reuse)
        self.layers = dict(named_layers(self.model))

    def bring(self, numbers: np.ndarray) -> Array:
        """A fresh array, of the model's type unless it is of integers."""
        return self.backend.asarray(np.array(numbers), self.model.dtype if numbers.dtype.kind == "f" else None)

    def fetch(self, array: Array) -> np.ndarray:
        """A copy on the host, in float64 unless it is of integers."""
        numbers = self.backend.to_numpy(array)
        return np.array(numbers, np.float64 if numbers.dtype.kind == "f" else None)

    def fetched(self, views: Mapping[str, Array]) -> Numbers:
        """Such copies of all views, rounded."""
        return {name: self.rounded(self.fetch(view)) for name, view in views.items()}

    def fill(self, views: Mapping[str, Array], numbers: Numbers) -> None:
        """Write the numbers into the views of their names."""
        for name, array in numbers.items():
            views[name][...] = self.backend.asarray(array, self.model.dtype if array.dtype.kind == "f" else None)

    def rounded(self, numbers: np.ndarray) -> np.ndarray:
        """The numbers, rounded to the narrowest type unless they are integers."""
        return numbers.astype(self.narrowest).astype(np.float64) if numbers.dtype.kind == "f" else numbers

    def train(self) -> None:
        """Take the next step."""
        with self.backend.ignoring_overflow():
            self.trainer.train_step(self.batches, self.context)

    def compute(self, part: Part) -> dict[Quantity, np.ndarray]:
        """What a part gives here."""
        with self.backend.ignoring_overflow():
            return part.compute(self)
