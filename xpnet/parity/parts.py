"""The parts of a training step, each of which any backend can compute by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from xpnet import ops
from xpnet.context import Context
from xpnet.data import Batch
from xpnet.parity.workbench import Numbers, Quantity, Workbench


@dataclass(frozen=True)
class Rows:
    """The rows of a step, gathered."""

    indices: np.ndarray

    def compute(self, bench: Workbench) -> dict[Quantity, np.ndarray]:
        """x and y."""
        x, y = bench.batches.gather(Batch(bench.backend.asarray(self.indices)), bench.context)
        return {Quantity("data", "batch", name): bench.fetch(array) for name, array in (("x", x), ("y", y))}


@dataclass(frozen=True)
class Pass:
    """A layer forward and, where the step goes back through it, backward."""

    layer: str
    step: int
    parameters: Numbers
    buffers: Numbers
    x: np.ndarray
    y: np.ndarray
    backward: tuple[str, np.ndarray] | None  # the method, and the gradient it was given

    def compute(self, bench: Workbench) -> dict[Quantity, np.ndarray]:
        """The output, the gradients, and the buffers afterwards."""
        layer, context = bench.layers[self.layer], bench.context
        bench.fill(layer.parameters, self.parameters)
        bench.fill(layer.buffers, self.buffers)
        for view in layer.gradients.values():
            view[...] = float("nan")  # a gradient that is never written shall show
        context.step = self.step
        y = layer.forward(bench.bring(self.x), context)
        found = {("forward", "y"): bench.fetch(y)}
        if layer.parameter_specs():
            # What a layer keeps of its own output is the same everywhere, too: else a ReLU's derivative would be
            # another one on each backend where a sum is 0 but for rounding. Others may hand out a view of x.
            y[...] = bench.bring(self.y)
        if self.backward is not None:
            method, dy = self.backward
            dx = getattr(layer, method)(bench.bring(dy), context)
            if dx is not None:
                found["input gradient", "dx"] = bench.fetch(dx)
            for name in layer.parameter_specs():
                found["gradient", name] = bench.fetch(layer.gradients[name])
        for name in layer.buffer_specs():
            found["forward", name] = bench.fetch(layer.buffers[name])
        return {Quantity(self.layer, *key): array for key, array in found.items()}


@dataclass(frozen=True)
class Inference:
    """A layer's forward pass in inference, with the buffers that the step left."""

    layer: str
    parameters: Numbers
    buffers: Numbers
    x: np.ndarray

    def compute(self, bench: Workbench) -> dict[Quantity, np.ndarray]:
        """The output."""
        return {Quantity(self.layer, "inference", "y"): self._forward(bench, Context(bench.backend))}

    def is_as_in_training(self, bench: Workbench) -> bool:
        """Whether there is nothing to compare here that a pass in training has not shown, to the last bit."""
        with bench.backend.ignoring_overflow():
            y, y_in_training = (self._forward(bench, context) for context in (Context(bench.backend), bench.context))
        return np.array_equal(y, y_in_training, equal_nan=True)

    def _forward(self, bench: Workbench, context: Context) -> np.ndarray:
        layer = bench.layers[self.layer]
        bench.fill(layer.parameters, self.parameters)
        bench.fill(layer.buffers, self.buffers)
        return bench.fetch(layer.forward(bench.bring(self.x), context))


@dataclass(frozen=True)
class LossPass:
    """The loss of a batch, and its gradient."""

    logits: np.ndarray
    labels: np.ndarray
    counted: np.ndarray  # the loss that the check for finite numbers is given

    def compute(self, bench: Workbench) -> dict[Quantity, np.ndarray]:
        """The mean loss and its gradient."""
        loss, labels = bench.trainer.loss, bench.backend.asarray(self.labels)
        result = loss.forward(bench.bring(self.logits), labels, bench.context)
        found = {Quantity("loss", "forward", "loss"): bench.fetch(result.loss)}
        return found | {Quantity("loss", "gradient", "logits"): bench.fetch(result.gradient)}


@dataclass(frozen=True)
class Update:
    """The optimizer's step, with the gradients as they are before it clips them."""

    step: int
    found_inf: np.ndarray
    loss: np.ndarray
    parameters: Numbers
    gradients: Numbers
    state: Mapping[str, Numbers]

    def compute(self, bench: Workbench) -> dict[Quantity, np.ndarray]:
        """Whether all is finite; each parameter afterwards, and the optimizer's state of it."""
        backend, optimizer, model = bench.backend, bench.trainer.optimizer, bench.model
        bench.fill(model.parameters, self.parameters)
        bench.fill(model.gradients, self.gradients)
        for slot, numbers in self.state.items():
            bench.fill(optimizer.state[slot], numbers)
        found_inf = backend.aligned_zeros(1, "int32")
        ops.check_finite(backend, model.vectors.gradients.vector, backend.asarray(self.loss), found_inf)
        optimizer.update(self.step, bench.bring(self.found_inf))
        at = {label.rpartition(" ")[0]: label for label in bench.layers}
        found = {Quantity("optimizer", "finite check", "found_inf"): bench.fetch(found_inf)}
        for name in self.parameters:
            place, _, own = name.rpartition(".")
            found[Quantity(at[place], "update", own)] = bench.fetch(model.parameters[name])
            for slot, vector in optimizer.state.items():
                found[Quantity(at[place], "update", f"{slot} of {own}")] = bench.fetch(vector[name])
        return found
