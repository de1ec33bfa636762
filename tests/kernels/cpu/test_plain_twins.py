"""Every kernel computes what its plain twin, the textbook form in array code, computes from the same arguments.

The twin of a kernel is the operation of that name in ``xpnet.ops``, without fused kernels. xpnet has no operation with
all options of the softmax cross-entropy, nor the kernels that its layers use only through others: their twins are here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from xpnet_kernels import cpu

from xpnet import ops
from xpnet.backends import backend

REFERENCE = backend("cpu-reference")
KEY = (123, 2**32 - 1)


def check_finite(gradients: Any, found_inf: Any) -> None:
    ops.check_finite(REFERENCE, gradients, np.zeros(()), found_inf)


def gather(
    rows: Any, indices: Any, divisor: float, out: Any, *, labels: Any = None, labels_out: Any = None, error: Any = None,
    step: Any = None, steps_per_epoch: int = 1, batch_size: int = 0,
) -> None:  # fmt: skip
    of_step = None if step is None else ops.BatchOfStep(step, steps_per_epoch, batch_size, len(out))
    options = {"labels": labels, "labels_out": labels_out, "of_step": of_step}
    ops.gather(REFERENCE, rows, indices, divisor, str(out.dtype), out, **options)
    if error is not None:
        error[0] = -1


def dropout(x: Any, probability: float, key: tuple[int, int], step: int, out: Any) -> None:
    ops.dropout(REFERENCE, x, probability, key, step, out)


def linear(x: Any, W: Any, b: Any, activation: str | None, out: Any) -> None:
    ops.linear(REFERENCE, x, W, b, activation, out)


def linear_backward(
    dy: Any, x: Any, y: Any, W: Any, activation: str | None, dW: Any, db: Any, dz: Any, dx: Any = None
) -> None:
    ops.linear_backward(REFERENCE, dy, x, y, W, activation, dW, db, dx is not None, dx)
    if activation is not None:
        dz[...] = ops.ACTIVATIONS[activation].backward(REFERENCE, dy, y)


def bias_activation(z: Any, bias: Any, activation: str | None, out: Any) -> None:
    out[...] = z + bias
    if activation is not None:
        ops.ACTIVATIONS[activation].forward(REFERENCE, out.copy(), out)


def bias_activation_backward(dy: Any, y: Any, activation: str | None, dz: Any, db: Any) -> None:
    dz[...] = dy if activation is None else ops.ACTIVATIONS[activation].backward(REFERENCE, dy, y)
    db[...] = dz.sum(axis=0)


def softmax_cross_entropy(
    logits: Any,
    labels: Any,
    *,
    summary: Any,
    losses: Any,
    gradient: Any = None,
    log_sum_exp: Any = None,
    predictions: Any = None,
    reduction: str = "mean",
    upstream: Any = None,
    label_smoothing: float = 0.0,
    class_weights: Any = None,
    row_weights: Any = None,
    z_loss: float = 0.0,
    ignore_index: int | None = None,
    in_place: bool = False,
) -> None:
    classes = logits.shape[1]
    z, w = logits.astype(np.float64), np.ones(classes) if class_weights is None else class_weights
    r = np.ones(len(z)) if row_weights is None else row_weights
    if labels.ndim == 2:
        t, weights = labels, r
    else:
        r = np.where(labels == ignore_index, 0, r)
        y = np.where(labels == ignore_index, 0, labels)
        t, weights = np.eye(classes)[y], r * w[y]
    wq = w * ((1 - label_smoothing) * t + label_smoothing / classes)
    L = np.log(np.exp(z).sum(axis=1))
    losses[...] = r * ((wq * (L[:, None] - z)).sum(axis=1) + z_loss * L**2)
    correct = (z.argmax(axis=1) == t.argmax(axis=1)) & (r != 0)
    total = losses.sum() / weights.sum() if reduction == "mean" else losses.sum()
    summary[...] = total, weights.sum(), correct.sum(), -1
    if log_sum_exp is not None:
        log_sum_exp[...] = L
    if predictions is not None:
        predictions[...] = z.argmax(axis=1)
    if gradient is not None:
        scale = r * (1.0 if upstream is None else upstream) / (weights.sum() if reduction == "mean" else 1)
        slope = wq.sum(axis=1) + 2 * z_loss * L
        gradient[...] = scale[:, None] * (slope[:, None] * np.exp(z - L[:, None]) - wq)


def linear_softmax_cross_entropy(
    x: Any,
    W: Any,
    b: Any,
    labels: Any,
    *,
    dx: Any = None,
    dW: Any = None,
    db: Any = None,
    chunk_rows: int | None = None,
    **options: Any,
) -> None:
    logits = x.astype(np.float64) @ W + (0 if b is None else b)
    gradient = np.empty_like(logits)
    softmax_cross_entropy(logits, labels, gradient=gradient, **options)
    for output, value in ((dx, gradient @ W.T), (dW, x.T @ gradient), (db, gradient.sum(axis=0))):
        if output is not None:
            output[...] = value


TWINS: dict[str, Callable[..., None]] = {
    "adam_update": partial(ops.adam_update, REFERENCE),
    "bias_activation": bias_activation,
    "bias_activation_backward": bias_activation_backward,
    "check_finite": check_finite,
    "dropout": dropout,
    "gather": gather,
    "linear": linear,
    "linear_backward": linear_backward,
    "linear_softmax_cross_entropy": linear_softmax_cross_entropy,
    "momentum_update": partial(ops.momentum_update, REFERENCE),
    "sgd_update": partial(ops.sgd_update, REFERENCE),
    "softmax_cross_entropy": softmax_cross_entropy,
}

ROWS, INPUTS, CLASSES = 23, 37, 70
Case = dict[str, Any]


def cases(name: str, dtype: str) -> list[Case]:
    """Arguments by name, every argument of the kernel in at least one of them."""
    rng = np.random.default_rng(0)

    def real(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(dtype)

    def empty(*shape: int, of: str = dtype) -> np.ndarray:
        return np.full(shape, 7).astype(of)

    activations = (None, "relu", "sigmoid", "tanh")
    x, W, b, y = real(ROWS, INPUTS), real(INPUTS, CLASSES), real(CLASSES), np.tanh(real(ROWS, CLASSES))
    if name.endswith("_update"):
        state, hyperparameters = {
            "sgd_update": ({}, [[0.1]]),
            "momentum_update": ({"velocity": b.copy()}, [[0.1, 0.9, 0.0], [0.1, 0.9, 1.0]]),
            "adam_update": (
                {"m": b.copy(), "v": abs(b)},
                [[1e-3, 0.9, 0.999, 1e-8, 0.1, 1e-3, decay] for decay in (0, 0.1)],
            ),
        }[name]
        vectors = {"values": real(CLASSES), "gradients": real(CLASSES), **state}
        return [
            {**vectors, "hyperparameters": np.array(numbers, np.float64), "found_inf": found_inf}
            for numbers in hyperparameters
            for found_inf in (None, np.zeros(1, np.int32), np.ones(1, np.int32))
        ]
    if name == "check_finite":
        infinite, undefined = (np.where(np.arange(CLASSES) == 3, bad, b).astype(dtype) for bad in (np.inf, np.nan))
        return [{"gradients": vector, "found_inf": empty(1, of="int32")} for vector in (b, infinite, undefined)]
    if name == "gather":
        rows, indices = rng.integers(0, 256, (50, INPUTS)).astype(np.uint8), rng.integers(0, 50, ROWS)
        arguments = {"rows": rows, "indices": indices, "divisor": 255.0, "out": empty(ROWS, INPUTS)}
        labels = {"labels": rng.integers(0, 9, 50).astype(np.uint8), "labels_out": empty(ROWS, of="uint8")}
        order = {"indices": rng.permutation(50), "steps_per_epoch": 3, "batch_size": ROWS}
        last = {"out": empty(4, INPUTS), "labels_out": empty(4, of="uint8"), "step": np.array([5 * 2**32 + 8])}
        return [
            arguments,
            {**arguments, "divisor": 3.0, "error": empty(1, of="int64")},
            {**arguments, **labels},
            {**arguments, **labels, **order, "step": np.array([7])},
            {**arguments, **labels, **order, **last},
        ]
    if name == "dropout":
        return [{"x": x, "probability": p, "key": KEY, "step": 2**32 + 5, "out": empty(*x.shape)} for p in (0.0, 0.3)]
    if name == "linear":
        return [{"x": x, "W": W, "b": b, "activation": a, "out": empty(*y.shape)} for a in activations]
    if name == "linear_backward":
        outputs = {"dW": empty(*W.shape), "db": empty(CLASSES), "dx": empty(*x.shape)}
        arguments = {"dy": real(*y.shape), "x": x, "y": y, "W": W, "dz": empty(*y.shape), **outputs}
        return [{**arguments, "activation": a} for a in activations]
    if name == "bias_activation":
        return [{"z": real(*y.shape), "bias": b, "activation": a, "out": empty(*y.shape)} for a in activations]
    if name == "bias_activation_backward":
        outputs = {"dz": empty(*y.shape), "db": empty(CLASSES)}
        return [{"dy": real(*y.shape), "y": y, "activation": a, **outputs} for a in activations]

    outputs = {"summary": empty(4, of="float64"), "losses": empty(ROWS)}
    every = {"log_sum_exp": empty(ROWS), "predictions": empty(ROWS, of="int64")}
    if name == "softmax_cross_entropy":
        outputs |= {"logits": real(ROWS, CLASSES)}
        every |= {"gradient": empty(ROWS, CLASSES)}
    else:
        outputs |= {"x": x / INPUTS, "W": W, "b": b}
        every |= {"dx": empty(*x.shape), "dW": empty(*W.shape), "db": empty(CLASSES)}
    labels, per_class, per_row = rng.integers(0, CLASSES, ROWS), abs(b), abs(real(ROWS)) * (np.arange(ROWS) % 5 > 0)
    weights = {"class_weights": per_class, "row_weights": per_row.astype(dtype)}
    probabilities = (abs(y) / abs(y).sum(axis=1, keepdims=True)).astype(dtype)
    found = [
        {**outputs, "labels": labels},
        {**outputs, **every, "labels": labels, "reduction": "sum", "upstream": 3.0, "z_loss": 0.1},
        {**outputs, **every, "labels": labels, "ignore_index": int(labels[0]), "label_smoothing": 0.2, **weights},
        {**outputs, **every, "labels": labels, "reduction": "none", "upstream": real(ROWS)},
        {**outputs, **every, "labels": probabilities, "label_smoothing": 0.2, "z_loss": 0.1, **weights},
    ]
    if name == "softmax_cross_entropy":
        return [*found, {**found[1], "in_place": True}]
    return [*found, {**found[1], "chunk_rows": 5}, {**found[2], "b": None}]


def copied(case: Case) -> Case:
    return {name: value.copy() if isinstance(value, np.ndarray) else value for name, value in case.items()}


def test_every_kernel_has_a_twin_and_every_argument_a_case():
    assert sorted(TWINS) == cpu.__all__
    for name in TWINS:
        used = {argument for case in cases(name, "float64") for argument in case}
        assert used == set(inspect.signature(getattr(cpu, name)).parameters), name


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", TWINS)
def test_a_kernel_computes_what_its_twin_computes(name, dtype):
    tolerance = {"float32": 2e-5, "float64": 1e-12}[dtype]
    for case in cases(name, dtype):
        ours, plain = copied(case), copied(case)
        getattr(cpu, name)(**ours)
        TWINS[name](**plain)
        for argument, value in ours.items():
            if isinstance(value, np.ndarray):
                np.testing.assert_allclose(value, plain[argument], rtol=tolerance, atol=tolerance, err_msg=argument)
