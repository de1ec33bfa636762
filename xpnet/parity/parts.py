"""The parts of a training step, which any backend can compute in isolation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from xpnet import ops
from xpnet.context import Context
from xpnet.data import Batch
from xpnet.parity.replica import Numbers, Quantity, Replica


@dataclass(frozen=True)
class Gather:
    """Gathering the rows of a batch."""

    indices: np.ndarray

    def compute(self, replica: Replica) -> dict[Quantity, np.ndarray]:
        """x and y."""
        x, y = replica.batches.gather(Batch(replica.backend.asarray(self.indices)), replica.context)
        return {Quantity("data", "batch", name): replica.to_host(array) for name, array in (("x", x), ("y", y))}


@dataclass(frozen=True)
class Pass:
    """A layer's forward pass, and its backward pass where the step has one."""

    layer: str
    step: int
    parameters: Numbers
    buffers: Numbers
    x: np.ndarray
    y: np.ndarray
    backward: tuple[str, np.ndarray] | None  # the method and its argument, dy

    def compute(self, replica: Replica) -> dict[Quantity, np.ndarray]:
        """The output, the gradients, and the updated buffers."""
        layer, context = replica.layers[self.layer], replica.context
        replica.write(layer.parameters, self.parameters)
        replica.write(layer.buffers, self.buffers)
        for view in layer.gradients.values():
            view[...] = float("nan")  # so that a gradient that is never written shows
        context.step = self.step
        y = layer.forward(replica.to_backend(self.x), context)
        found = {("forward", "y"): replica.to_host(y)}
        if layer.parameter_specs():
            # Every backend continues from the same output, where a layer saves it for backward: otherwise ReLU's
            # derivative would differ where a sum is 0 but for rounding. Layers without parameters may return a view
            # of x, which must not change.
            y[...] = replica.to_backend(self.y)
        if self.backward is not None:
            method, dy = self.backward
            dx = getattr(layer, method)(replica.to_backend(dy), context)
            if dx is not None:
                found["input gradient", "dx"] = replica.to_host(dx)
            for name in layer.parameter_specs():
                found["gradient", name] = replica.to_host(layer.gradients[name])
        for name in layer.buffer_specs():
            found["forward", name] = replica.to_host(layer.buffers[name])
        return {Quantity(self.layer, *key): array for key, array in found.items()}


@dataclass(frozen=True)
class Inference:
    """A layer's forward pass in inference, with the buffers as the step left them."""

    layer: str
    parameters: Numbers
    buffers: Numbers
    x: np.ndarray

    def compute(self, replica: Replica) -> dict[Quantity, np.ndarray]:
        """The output."""
        return {Quantity(self.layer, "inference", "y"): self._forward(replica, Context(replica.backend))}

    def equals_training(self, replica: Replica) -> bool:
        """Whether inference gives the same bits as training, so that there is nothing more to compare."""
        with replica.backend.on_device(), replica.backend.ignoring_overflow():
            contexts = (Context(replica.backend), replica.context)
            y, y_in_training = (self._forward(replica, context) for context in contexts)
        return np.array_equal(y, y_in_training, equal_nan=True)

    def _forward(self, replica: Replica, context: Context) -> np.ndarray:
        layer = replica.layers[self.layer]
        replica.write(layer.parameters, self.parameters)
        replica.write(layer.buffers, self.buffers)
        return replica.to_host(layer.forward(replica.to_backend(self.x), context))


@dataclass(frozen=True)
class LossPass:
    """The loss of a batch, and its gradient."""

    logits: np.ndarray
    labels: np.ndarray
    counted: np.ndarray  # the loss, as the check for finite numbers takes it

    def compute(self, replica: Replica) -> dict[Quantity, np.ndarray]:
        """The mean loss and its gradient."""
        loss, labels = replica.trainer.loss, replica.backend.asarray(self.labels)
        result = loss.forward(replica.to_backend(self.logits), labels, replica.context)
        found = {Quantity("loss", "forward", "loss"): replica.to_host(result.loss)}
        return found | {Quantity("loss", "gradient", "logits"): replica.to_host(result.gradient)}


@dataclass(frozen=True)
class Update:
    """The check for finite numbers and the optimizer's update, with the gradients before clipping."""

    step: int
    found_inf: np.ndarray
    loss: np.ndarray
    parameters: Numbers
    gradients: Numbers
    state: Mapping[str, Numbers]

    def compute(self, replica: Replica) -> dict[Quantity, np.ndarray]:
        """``found_inf``, the updated parameters and the updated optimizer state."""
        backend, optimizer, model = replica.backend, replica.trainer.optimizer, replica.model
        replica.write(model.parameters, self.parameters)
        replica.write(model.gradients, self.gradients)
        for slot, numbers in self.state.items():
            replica.write(optimizer.state[slot], numbers)
        found_inf = backend.aligned_zeros(1, "int32")
        ops.check_finite(backend, model.vectors.gradients.vector, backend.asarray(self.loss), found_inf)
        optimizer.update(self.step, replica.to_backend(self.found_inf))
        labels = {label.rpartition(" ")[0]: label for label in replica.layers}
        found = {Quantity("optimizer", "finite check", "found_inf"): replica.to_host(found_inf)}
        for name in self.parameters:
            layer, _, own = name.rpartition(".")
            found[Quantity(labels[layer], "update", own)] = replica.to_host(model.parameters[name])
            for slot, vector in optimizer.state.items():
                found[Quantity(labels[layer], "update", f"{slot} of {own}")] = replica.to_host(vector[name])
        return found
