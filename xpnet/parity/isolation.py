"""A training step taken apart: each part computed by itself, from the same numbers, on any backend."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from xpnet.backends import Array, Backend
from xpnet.data import Samples
from xpnet.layers import Context, Layer, Sequential
from xpnet.losses import SoftmaxCrossEntropy
from xpnet.optimizers import Optimizer
from xpnet.training import DeviceSamples, Trainer
from xpnet.training.watching import layers_by_place, watched

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
        seed: for layers that draw.
        narrowest: the element type that the weights, and the inputs of a step's parts, are rounded to.
        reuse: whether layers reuse their memory from step to step, as in training.
    """

    def __init__(
        self,
        backend: Backend,
        model: Layer,
        loss: SoftmaxCrossEntropy,
        optimizer: Optimizer,
        train: Samples,
        seed: int,
        narrowest: str,
        reuse: bool = True,
    ) -> None:
        self.backend = backend
        self.narrowest = narrowest
        self.model = model.to(backend).initialize(backend)
        for own, given in zip(self.model.vectors, model.vectors, strict=True):
            self.fill(own, {name: self.rounded(given.backend.to_numpy(view)) for name, view in given.items()})
        self.trainer = Trainer(self.model, copy.copy(loss), copy.copy(optimizer), seed=seed)
        self.data = DeviceSamples(self.model, train)
        self.context = Context(backend, training=True, seed=seed, reuse=reuse)
        self.layers = dict(layers_by_place(self.model))

    def bring(self, numbers: np.ndarray) -> Array:
        """A fresh array, of the model's type unless it is of integers."""
        return self.backend.asarray(np.array(numbers), self.model.dtype if numbers.dtype.kind == "f" else None)

    def fetch(self, array: Array) -> np.ndarray:
        """A copy on the host, in float64 unless it is of integers."""
        numbers = self.backend.to_numpy(array)
        return np.array(numbers, np.float64 if numbers.dtype.kind == "f" else None)

    def fill(self, views: Mapping[str, Array], numbers: Numbers) -> None:
        """Write the numbers into the views of their names."""
        for name, array in numbers.items():
            views[name][...] = self.bring(array)

    def rounded(self, numbers: np.ndarray) -> np.ndarray:
        """The numbers, rounded to the narrowest type unless they are integers."""
        return numbers.astype(self.narrowest).astype(np.float64) if numbers.dtype.kind == "f" else numbers

    def train(self, indices: np.ndarray) -> None:
        """A step on those rows."""
        with self.backend.ignoring_overflow():
            self.trainer.train_step(self.data, self.backend.asarray(indices), self.context)

    def compute(self, part: Part) -> dict[Quantity, np.ndarray]:
        """What a part gives here."""
        with self.backend.ignoring_overflow():
            return part.compute(self)


@dataclass(frozen=True)
class Batch:
    """The rows of a step, gathered."""

    indices: np.ndarray

    def compute(self, bench: Workbench) -> dict[Quantity, np.ndarray]:
        """x and y."""
        x, y = bench.data.batch(bench.backend.asarray(self.indices), bench.context, bench.model.dtype)
        return {Quantity("data", "batch", name): bench.fetch(array) for name, array in (("x", x), ("y", y))}


@dataclass(frozen=True)
class Pass:
    """A layer forward and, where the step goes back through it, backward."""

    layer: str
    step: int
    parameters: Numbers
    buffers: Numbers
    x: np.ndarray
    backward: tuple[str, np.ndarray] | None  # the method, and the gradient it was given

    def compute(self, bench: Workbench) -> dict[Quantity, np.ndarray]:
        """The output, the gradients, and the buffers afterwards."""
        layer, context = bench.layers[self.layer], bench.context
        bench.fill(layer.parameters, self.parameters)
        bench.fill(layer.buffers, self.buffers)
        for view in layer.gradients.values():
            view[...] = float("nan")  # a gradient that is never written shall show
        context.step = self.step
        found = {("forward", "y"): bench.fetch(layer.forward(bench.bring(self.x), context))}
        if self.backward is not None:
            method, dy = self.backward
            dx = getattr(layer, method)(bench.bring(dy), context)
            if dx is not None:
                found["input gradient", "dx"] = bench.fetch(dx)
            for name in layer.declare_parameters():
                found["gradient", name] = bench.fetch(layer.gradients[name])
        for name in layer.declare_buffers():
            found["forward", name] = bench.fetch(layer.buffers[name])
        return {Quantity(self.layer, *key): array for key, array in found.items()}


@dataclass(frozen=True)
class LossPass:
    """The loss of a batch, and its gradient."""

    logits: np.ndarray
    labels: np.ndarray

    def compute(self, bench: Workbench) -> dict[Quantity, np.ndarray]:
        """The mean loss and its gradient."""
        loss, labels = bench.trainer.loss, bench.backend.asarray(self.labels)
        value = loss.forward(bench.bring(self.logits), labels, bench.context).loss
        found = {Quantity("loss", "forward", "loss"): bench.fetch(value)}
        return found | {Quantity("loss", "gradient", "logits"): bench.fetch(loss.backward(bench.context))}


@dataclass(frozen=True)
class Update:
    """The optimizer's step."""

    step: int
    parameters: Numbers
    gradients: Numbers
    state: Mapping[str, Numbers]

    def compute(self, bench: Workbench) -> dict[Quantity, np.ndarray]:
        """Each parameter afterwards, and the optimizer's state of it."""
        optimizer, model = bench.trainer.optimizer, bench.model
        bench.fill(model.parameters, self.parameters)
        bench.fill(model.gradients, self.gradients)
        for slot, numbers in self.state.items():
            bench.fill(optimizer.state[slot], numbers)
        optimizer.update(self.step)
        at = {label.rpartition(" ")[0]: label for label in bench.layers}
        found = {}
        for name in self.parameters:
            place, _, own = name.rpartition(".")
            found[Quantity(at[place], "update", own)] = bench.fetch(model.parameters[name])
            for slot, vector in optimizer.state.items():
                found[Quantity(at[place], "update", f"{slot} of {own}")] = bench.fetch(vector[name])
        return found


def taken_apart(bench: Workbench, indices: np.ndarray) -> list[Part]:
    """Train a step, and return its parts as they were computed, but for rounding what each was given."""

    def fetched(views: Mapping[str, Array]) -> Numbers:
        return {name: bench.rounded(bench.fetch(view)) for name, view in views.items()}

    model, optimizer, step = bench.model, bench.trainer.optimizer, bench.trainer.step
    layers = {name: layer for name, layer in bench.layers.items() if type(layer) is not Sequential}
    before = {name: (fetched(layer.parameters), fetched(layer.buffers)) for name, layer in layers.items()}
    parameters, state = fetched(model.parameters), {slot: fetched(vector) for slot, vector in optimizer.state.items()}
    taken: dict[tuple[str, str], Any] = {}

    def watch(name: str, method: str) -> Callable[..., Any]:
        direction = method.partition("_")[0]

        def watcher(call: Callable[..., Any], array: Array, *more: Any) -> Any:
            # The outermost call counts: one method of a layer may hand over to another.
            taken.setdefault((name, direction), (method, bench.rounded(bench.fetch(array)), *more))
            return call(array, *more)

        return watcher

    methods: list[tuple[Any, str, Callable[..., Any]]] = [(bench.trainer.loss, "forward", watch("loss", "forward"))]
    for name, layer in layers.items():
        methods += [(layer, method, watch(name, method)) for method in ("forward", "backward")]
        if type(layer).backward_parameters is not Layer.backward_parameters:
            methods.append((layer, "backward_parameters", watch(name, "backward_parameters")))
    with watched(methods):
        bench.train(indices)

    parts: list[Part] = [Batch(indices)]
    for name, (own, buffers) in before.items():
        if (name, "forward") in taken:
            x = taken[name, "forward"][1]
            backward = taken.get((name, "backward"))
            parts.append(Pass(name, step, own, buffers, x, backward and backward[:2]))
    _, logits, labels, _ = taken["loss", "forward"]
    parts.append(LossPass(logits, bench.backend.to_numpy(labels)))
    return [*parts, Update(step, parameters, fetched(model.gradients), state)]
