"""The first array that is not finite: a step is run again, and every array that it computes is checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from xpnet.backends import Array
from xpnet.context import Context
from xpnet.data import Batch, Batches
from xpnet.layers import Layer
from xpnet.ops.batch_loss import BatchLoss, counted_loss
from xpnet.training.hooks import hooked, named_layers
from xpnet.training.step import TrainingStep

Gather = Callable[[Batch, Context], tuple[Array, Array]]


def first_non_finite(training_step: TrainingStep, batches: Batches, step: int, seed: int) -> str | None:
    """Run a step again, and name the first array that holds infinity or NaN; None when all are finite.

    Args:
        training_step: its model has the parameters and buffers from before the step. They do not change; gradients are
            overwritten.
        batches: of the training set.
        step: the step's number, from 0.
        seed: the run's.

    >>> import numpy as np, xpnet
    >>> model = xpnet.Sequential(xpnet.Linear(1, 2)).initialize(xpnet.backend("cpu-reference"))
    >>> trainer = xpnet.Trainer(model, xpnet.SoftmaxCrossEntropy(), xpnet.SGD(0.1))
    >>> model.parameters["0.b"][1] = np.inf
    >>> batches = Batches(model.backend, np.ones((3, 1)), np.array([0, 1, 0]))
    >>> first_non_finite(trainer.training_step, batches, step=0, seed=0)
    'the output of layer 0 Linear'
    """
    backend, model = batches.backend, training_step.model
    context = Context(backend, training=True, seed=seed)
    found: list[str] = []

    def check(what: str, array: Array | None) -> None:
        if array is not None and not found and not bool(backend.xp.all(backend.xp.isfinite(array))):
            found.append(what)

    def check_batch(gather: Gather, batch: Batch, context: Context) -> tuple[Array, Array]:
        x, y = gather(batch, context)
        bad_rows = np.flatnonzero(~np.isfinite(backend.to_numpy(x).reshape(x.shape[0], -1)).all(axis=1))
        if bad_rows.size and not found:
            sample = int(backend.to_numpy(batch.indices)[bad_rows[0]])
            found.append(f"the inputs (sample {sample} of the training set)")
        return x, y

    def check_loss(forward: Callable[..., BatchLoss], *arguments: Any) -> BatchLoss:
        result = forward(*arguments)
        check("the loss", backend.asarray(counted_loss(backend, result), "float64"))
        check("the gradient of the loss", result.gradient)
        return result

    def check_layer(layer: Layer, name: str) -> list[tuple[Layer, str, Callable[..., Any]]]:
        def forward(original: Callable[..., Array], *arguments: Any) -> Array:
            y = original(*arguments)
            check(f"the output of layer {name}", y)
            return y

        def backward(original: Callable[..., Array | None], *arguments: Any) -> Array | None:
            dx = original(*arguments)
            for parameter, gradient in layer.gradients.items():
                check(f"the gradient of {parameter} in layer {name}", gradient)
            check(f"the input gradient of layer {name}", dx)
            return dx

        return [(layer, "forward", forward), (layer, "backward", backward), (layer, "backward_parameters", backward)]

    methods: list[tuple[Any, str, Callable[..., Any]]] = [
        (batches, "gather", check_batch),
        (training_step.loss, "forward", check_loss),
    ]
    for name, layer in named_layers(model):
        if not layer.children():
            methods += check_layer(layer, name)
    buffers = model.vectors.buffers.vector
    before = backend.xp.asarray(buffers, copy=True)
    with hooked(methods), backend.ignoring_overflow():
        parts = batches.at(step).parts(training_step.micro_batch_size)
        for _ in training_step.results(batches, parts, step, context):
            if found:
                break
    buffers[...] = before
    return found[0] if found else None
