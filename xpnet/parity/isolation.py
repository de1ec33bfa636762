"""A training step taken apart: each part as it was computed, to be computed again by itself on any backend."""

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
from xpnet.parity.parts import Inference, LossPass, Pass, Rows, Update
from xpnet.parity.workbench import Part, Workbench
from xpnet.training.hooks import hooked


def taken_apart(bench: Workbench) -> list[Part]:
    """Train a step, and return its parts as they were computed, but for rounding what each was given."""
    step, trainer = bench.trainer.step, bench.trainer
    indices = bench.fetch(bench.batches.at(step).indices)
    layers = {name: layer for name, layer in bench.layers.items() if type(layer) is not Sequential}
    before = {name: (bench.fetched(layer.parameters), bench.fetched(layer.buffers)) for name, layer in layers.items()}
    watcher = _Watcher(bench)
    methods: list[tuple[Any, str, Callable[..., Any]]] = [
        (trainer.loss, "forward", watcher.loss_forward),
        (trainer.optimizer, "update", watcher.optimizer_update),
    ]
    for name, layer in layers.items():
        own_form = type(layer).backward_parameters is not Layer.backward_parameters
        for method in ("forward", "backward", *(["backward_parameters"] if own_form else [])):
            methods.append((layer, method, partial(watcher.layer_pass, (name, method.partition("_")[0]), method)))
    with hooked(methods):
        bench.train()

    parts: list[Part] = [Rows(indices)]
    for name, (parameters, buffers) in before.items():
        if (name, "forward") in watcher.passes:
            forward, backward = watcher.passes[name, "forward"], watcher.passes.get((name, "backward"))
            back = backward and (backward.method, backward.given)
            parts.append(Pass(name, step, parameters, buffers, forward.given, forward.result, back))
            parts.append(Inference(name, parameters, bench.fetched(layers[name].buffers), forward.given))
    return [*parts, watcher.loss, watcher.update]


class _Call(NamedTuple):
    """A layer's method, what it was given and what it returned (nothing: an empty array)."""

    method: str
    given: np.ndarray
    result: np.ndarray


class _Watcher:
    """Writes down what goes through a step."""

    loss: LossPass
    update: Update

    def __init__(self, bench: Workbench) -> None:
        self._bench = bench
        self.passes: dict[tuple[str, str], _Call] = {}

    def layer_pass(
        self, place: tuple[str, str], method: str, call: Callable[..., Any], array: Array, context: Context
    ) -> Any:
        given = self._rounded(array)
        result = call(array, context)
        # The outermost call counts, which ends last: one method of a layer may hand over to another.
        self.passes[place] = _Call(method, given, np.empty(0) if result is None else self._rounded(result))
        return result

    def loss_forward(self, call: Callable[..., BatchLoss], logits: Array, labels: Array, context: Context) -> BatchLoss:
        backend, given = context.backend, (self._rounded(logits), self._rounded(labels))
        result = call(logits, labels, context)
        counted = self._bench.fetch(backend.asarray(counted_loss(backend, result), "float64"))
        self.loss = LossPass(*given, counted)
        return result

    def optimizer_update(self, call: Callable[..., None], step: int, found_inf: Array) -> None:
        bench, state = self._bench, self._bench.trainer.optimizer.state
        self.update = Update(
            step,
            bench.fetch(found_inf),
            self.loss.counted,
            bench.fetched(bench.model.parameters),
            bench.fetched(bench.model.gradients),  # before they are clipped
            {slot: bench.fetched(vector) for slot, vector in state.items()},
        )
        call(step, found_inf)

    def _rounded(self, array: Array) -> np.ndarray:
        return self._bench.rounded(self._bench.fetch(array))
