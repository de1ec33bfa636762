"""Recording a training step: the inputs of each of its parts, so that any backend can compute the part in isolation."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from xpnet.backends import Array
from xpnet.context import Context
from xpnet.layers import Layer, Sequential
from xpnet.ops import BatchLoss
from xpnet.ops.batch_loss import counted_loss
from xpnet.parity.parts import Gather, Inference, LossPass, Pass, Update
from xpnet.parity.replica import Part, Replica
from xpnet.training.hooks import hooked


def record_step(replica: Replica) -> list[Part]:
    """Take a training step, and return its parts with their inputs, rounded to the narrowest type."""
    step, trainer = replica.trainer.step, replica.trainer
    indices = replica.to_host(replica.batches.at(step).indices)
    layers = {name: layer for name, layer in replica.layers.items() if type(layer) is not Sequential}
    before = {
        name: (replica.rounded_copies(layer.parameters), replica.rounded_copies(layer.buffers))
        for name, layer in layers.items()
    }
    recorder = _Recorder(replica)
    methods: list[tuple[Any, str, Callable[..., Any]]] = [
        (trainer.loss, "forward", recorder.loss_forward),
        (trainer.optimizer, "update", recorder.optimizer_update),
    ]
    for name, layer in layers.items():
        overridden = type(layer).backward_parameters is not Layer.backward_parameters
        for method in ("forward", "backward", *(["backward_parameters"] if overridden else [])):
            methods.append((layer, method, partial(recorder.layer_pass, (name, method.partition("_")[0]), method)))
    with hooked(methods):
        replica.train_step()

    parts: list[Part] = [Gather(indices)]
    for name, (parameters, buffers) in before.items():
        if (name, "forward") in recorder.calls:
            forward, backward = recorder.calls[name, "forward"], recorder.calls.get((name, "backward"))
            back = backward and (backward.method, backward.given)
            parts.append(Pass(name, step, parameters, buffers, forward.given, forward.result, back))
            parts.append(Inference(name, parameters, replica.rounded_copies(layers[name].buffers), forward.given))
    return [*parts, recorder.loss, recorder.update]


class _Call(NamedTuple):
    """A call of a layer's method: its argument and its result (None: an empty array)."""

    method: str
    given: np.ndarray
    result: np.ndarray


class _Recorder:
    """Records the calls of a step."""

    loss: LossPass
    update: Update

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self.calls: dict[tuple[str, str], _Call] = {}

    def layer_pass(
        self, place: tuple[str, str], method: str, call: Callable[..., Any], array: Array, context: Context
    ) -> Any:
        given = self._rounded(array)
        result = call(array, context)
        # A method may call another of the same layer; the outer call ends last, and replaces the inner one.
        self.calls[place] = _Call(method, given, np.empty(0) if result is None else self._rounded(result))
        return result

    def loss_forward(self, call: Callable[..., BatchLoss], logits: Array, labels: Array, context: Context) -> BatchLoss:
        backend, given = context.backend, (self._rounded(logits), self._rounded(labels))
        result = call(logits, labels, context)
        counted = self._replica.to_host(backend.asarray(counted_loss(backend, result), "float64"))
        self.loss = LossPass(*given, counted)
        return result

    def optimizer_update(self, call: Callable[..., None], step: int, found_inf: Array) -> None:
        replica, state = self._replica, self._replica.trainer.optimizer.state
        self.update = Update(
            step,
            replica.to_host(found_inf),
            self.loss.counted,
            replica.rounded_copies(replica.model.parameters),
            replica.rounded_copies(replica.model.gradients),  # before clipping
            {slot: replica.rounded_copies(vector) for slot, vector in state.items()},
        )
        call(step, found_inf)

    def _rounded(self, array: Array) -> np.ndarray:
        return self._replica.rounded(self._replica.to_host(array))
