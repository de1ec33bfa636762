"""A replica: one backend's copy of the model, the loss and the optimizer that are compared."""

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
from xpnet.parameters import Views
from xpnet.training import Trainer, batches_for
from xpnet.training.hooks import named_layers

Numbers = Mapping[str, np.ndarray]


class Quantity(NamedTuple):
    """The key of an array of a training step, such as ("1 Linear", "gradient", "W")."""

    layer: str
    kind: str
    array: str


class Part(Protocol):
    """A part of a training step, with all its inputs."""

    def compute(self, replica: Replica) -> dict[Quantity, np.ndarray]:
        """The part's results on the replica's backend."""


class Replica:
    """One backend's copy of a model, in the backend's own element type, with its trainer.

    Args:
        backend: the backend to compute on.
        model, loss, optimizer: copied; the optimizer's state starts from zero.
        train: samples.
        batch_size: rows in a step.
        sampler: order of the samples.
        seed: of the order, and of layers that draw random numbers.
        narrowest: the element type to which the weights, and the inputs of a step's parts, are rounded; it may be
            "bfloat16".
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
            self.write(own, {name: self.rounded(given.backend.to_numpy(view)) for name, view in given.items()})
        optimizer = copy.copy(optimizer)
        optimizer.learning_rate = copy.deepcopy(optimizer.learning_rate)  # a schedule may have a state
        self.trainer = Trainer(self.model, copy.copy(loss), optimizer, seed=seed, precision=backend.precision)
        self.batches = batches_for(
            self.model, train, self.trainer.loss, batch_size=batch_size, sampler=sampler, seed=seed, drop_last=True
        )
        with backend.on_device():
            self.context = Context(backend, training=True, seed=seed, reuse=reuse)
        self.layers = dict(named_layers(self.model))

    def to_backend(self, numbers: np.ndarray) -> Array:
        """A copy on the backend, in the model's element type; integers keep theirs."""
        return self.backend.asarray(np.array(numbers), self.model.dtype if numbers.dtype.kind == "f" else None)

    def to_host(self, array: Array) -> np.ndarray:
        """A copy on the host, in float64; integers keep their type."""
        numbers = self.backend.to_numpy(self.backend.widened(array))
        return np.array(numbers, np.float64 if numbers.dtype.kind == "f" else None)

    def rounded_copies(self, views: Mapping[str, Array]) -> Numbers:
        """Copies of all views on the host, rounded."""
        return {name: self.rounded(self.to_host(view)) for name, view in views.items()}

    def write(self, views: Views, numbers: Numbers) -> None:
        """Write each array into the view of the same name."""
        for name, array in numbers.items():
            views[name] = array

    def rounded(self, numbers: np.ndarray) -> np.ndarray:
        """The numbers rounded to the narrowest type, as float64; integers are unchanged."""
        return numbers.astype(self.narrowest).astype(np.float64) if numbers.dtype.kind == "f" else numbers

    def train_step(self) -> None:
        """Take the next training step."""
        with self.backend.on_device(), self.backend.ignoring_overflow():
            self.trainer.train_step(self.batches, self.context)

    def compute(self, part: Part) -> dict[Quantity, np.ndarray]:
        """Compute a part of a step on this replica's backend."""
        with self.backend.on_device(), self.backend.ignoring_overflow():
            return part.compute(self)
