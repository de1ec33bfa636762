"""Every operation on the CPU and on another device, values and gradients, at sizes that people use."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from types import FunctionType
from typing import Any

import numpy as np
import pytest

from xpnet import ops
from xpnet.backends import Backend, backend
from xpnet.training import reports

ROWS, INPUTS, OUTPUTS = 100, 784, 50
Arrays = dict[str, Any]


@pytest.fixture
def host(dtype: str) -> Arrays:
    """What the operations take, on the host."""
    random = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return random.normal(size=shape).astype(dtype)

    logits = 4 * normal(ROWS, OUTPUTS)
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return {
        "x": normal(ROWS, INPUTS),
        "W": normal(INPUTS, OUTPUTS) / np.sqrt(np.array(INPUTS, dtype)),
        "b": normal(OUTPUTS),
        "z": normal(ROWS, OUTPUTS),
        "y": random.uniform(0.01, 0.99, (ROWS, OUTPUTS)).astype(dtype),
        "dy": normal(ROWS, OUTPUTS),
        "logits": logits,
        "p": exponentials / exponentials.sum(axis=1, keepdims=True),
        "labels": random.integers(0, OUTPUTS, ROWS),
        "targets": random.dirichlet(np.ones(OUTPUTS), ROWS).astype(dtype),
        "pixels": random.integers(0, 256, (1000, 28, 28), np.uint8),
        "indices": random.integers(0, 1000, ROWS),
        "images": normal(6, 9, 9, 3),
        "kernels": normal(3, 3, 3, 4),
        "features": normal(6, 7, 7, 4),
        "pooled": normal(6, 4, 4, 3),
        "values": normal(40_000),
        "gradients": normal(40_000),
        "moment": normal(40_000),
        "square": normal(40_000) ** 2,
    }


def there(backend: Backend, host: Arrays) -> Arrays:
    return {name: backend.asarray(np.copy(array)) for name, array in host.items()}


def linear_backward(b: Backend, a: Arrays, activation: str | None) -> list[Any]:
    dW, db = b.xp.empty_like(a["W"]), b.xp.empty_like(a["b"])
    dx = ops.linear_backward(b, a["dy"], a["x"], a["y"], a["W"], activation, dW, db)
    return [dW, db, dx]


def updated(
    b: Backend, a: Arrays, update: Callable[..., None], state: tuple[str, ...], hyperparameters: list[float]
) -> list:
    update(b, a["values"], a["gradients"], *(a[name] for name in state), b.asarray(hyperparameters, "float64"))
    return [a[name] for name in ("values", *state)]


def averaged(b: Backend, a: Arrays) -> list[Any]:
    ops.moving_average_update(b, a["moment"], a["values"], 0.9)
    return [a["moment"]]


def clipped(b: Backend, a: Arrays, clip: Callable[..., None]) -> list[Any]:
    clip(b, [a["gradients"], a["moment"]], 0.5)
    return [a["gradients"], a["moment"]]


def normalization_backward(
    b: Backend, a: Arrays, forward: Callable[..., Any], backward: Callable[..., Any]
) -> list[Any]:
    result = forward(b, a["z"], a["b"], a["b"], 1e-5)
    dgamma, dbeta = b.xp.empty_like(a["b"]), b.xp.empty_like(a["b"])
    dx = backward(b, a["dy"], result, a["b"], dgamma, dbeta)
    return [dx, dgamma, dbeta]


def embedding_backward(b: Backend, a: Arrays) -> list[Any]:
    dW = b.xp.empty_like(a["W"])
    ops.embedding_backward(b, a["dy"], a["labels"], dW)
    return [dW]


def convolve_backward(b: Backend, a: Arrays) -> list[Any]:
    dW, db = b.xp.empty_like(a["kernels"]), b.xp.empty_like(a["b"][:4])
    y, columns = ops.convolve(b, a["images"], a["kernels"], a["b"][:4])
    dx = ops.convolve_backward(b, a["features"], a["images"], y, columns, a["kernels"], 1, None, dW, db)
    return [dW, db, dx]


def flag(b: Backend, gradients: Any, loss: float) -> Any:
    found_inf = b.xp.full((1,), 7, dtype=b.xp.int32, device=b.device)
    ops.check_finite(b, gradients, b.asarray(loss, "float64"), found_inf)
    return found_inf


def restored(b: Backend, a: Arrays, found_inf: int) -> Any:
    values = b.xp.asarray(a["values"], copy=True)
    ops.restore_if_found_inf(b, values, a["moment"], b.xp.full((1,), found_inf, dtype=b.xp.int32, device=b.device))
    return values


def ended(b: Backend, a: Arrays) -> list[Any]:
    """The report of an evaluation, and that of a training in which the third of four steps is not finite."""
    bad = b.xp.where(a["gradients"] > 3, b.xp.full_like(a["gradients"], np.inf), a["gradients"])
    found_inf, steps = b.xp.zeros((1,), dtype=b.xp.int32, device=b.device), b.asarray(np.array([5, 2**32 + 5]))
    table = ops.HyperparameterTable(b.asarray(np.arange(21.0).reshape(7, 3)), b.asarray(np.zeros(3)))
    evaluation, training, flags = reports.new_report(b), reports.new_report(b), []
    for step in range(4):
        result = ops.softmax_cross_entropy(b, a["logits"], a["labels"])
        ops.end_step(b, evaluation, result, step)
        guard = ops.Guard(bad if step == 2 else a["gradients"], found_inf, skip_after_nonfinite=True)
        ops.end_step(b, training, result, step + 6, guard, steps=steps, table=table)
        flags.append(b.xp.asarray(found_inf, copy=True))
    return [evaluation, training, *flags, steps % 2**32, table.hyperparameters]


# What each operation gives; and, for its results that are sums, their lengths and the sums of the magnitudes.
RESULTS: dict[str, Callable[[Backend, Arrays], list[Any]]] = {
    "adagrad_update": lambda b, a: updated(b, a, ops.adagrad_update, ("square",), [0.1, 1e-10]),
    "adam_update": lambda b, a: updated(
        b, a, ops.adam_update, ("moment", "square"), [0.01, 0.9, 0.999, 1e-8, 0.1, 0.001, 0.1]
    ),
    "check_finite": lambda b, a: [
        *(flag(b, a["gradients"], loss) for loss in (0.5, np.inf)),
        flag(b, b.xp.where(a["gradients"] > 3, b.xp.full_like(a["gradients"], np.inf), a["gradients"]), 0.5),
    ],
    "end_step": ended,
    "moving_average_update": averaged,
    "clip_norm": lambda b, a: clipped(b, a, ops.clip_norm),
    "clip_value": lambda b, a: clipped(b, a, ops.clip_value),
    "batch_loss": lambda b, a: [
        result
        for place, result in enumerate(ops.batch_loss(b, a["x"], b.xp.sum(a["x"] ** 2, axis=1), 2 * a["x"])[:4])
        if place != 2
    ],
    "batch_norm": lambda b, a: list(ops.batch_norm(b, a["z"], a["b"], a["b"], 1e-5)),
    "batch_norm_backward": lambda b, a: normalization_backward(b, a, ops.batch_norm, ops.batch_norm_backward),
    "batch_norm_inference": lambda b, a: [
        ops.batch_norm_inference(b, a["z"], a["b"], a["b"], a["b"], b.xp.abs(a["b"]), 1e-5)
    ],
    "binary_cross_entropy": lambda b, a: list(ops.binary_cross_entropy(b, a["logits"], a["targets"])[:4]),
    "dropout": lambda b, a: [ops.dropout(b, a["x"], 0.3, (1, 2), 2**40 + 7)],
    "embedding": lambda b, a: [ops.embedding(b, a["x"], a["labels"])],
    "embedding_backward": embedding_backward,
    "gelu": lambda b, a: [ops.gelu(b, a["z"])],
    "gelu_backward": lambda b, a: [ops.gelu_backward(b, a["dy"], a["z"])],
    "layer_norm": lambda b, a: list(ops.layer_norm(b, a["z"], a["b"], a["b"], 1e-5)),
    "layer_norm_backward": lambda b, a: normalization_backward(b, a, ops.layer_norm, ops.layer_norm_backward),
    "leaky_relu": lambda b, a: [ops.leaky_relu(b, a["z"])],
    "leaky_relu_backward": lambda b, a: [ops.leaky_relu_backward(b, a["dy"], a["z"])],
    "average_pool": lambda b, a: [ops.average_pool(b, a["images"], 3, 2)],
    "average_pool_backward": lambda b, a: [ops.average_pool_backward(b, a["pooled"], a["images"].shape, 3, 2)],
    "convolve": lambda b, a: [ops.convolve(b, a["images"], a["kernels"], a["b"][:4], activation="relu")[0]],
    "convolve_backward": convolve_backward,
    "fold": lambda b, a: [ops.fold(b, ops.unfold(b, a["images"], 3), 9, 9)],
    "max_pool": lambda b, a: [ops.max_pool(b, a["images"], 3, 2)],
    "max_pool_backward": lambda b, a: [
        ops.max_pool_backward(b, a["pooled"], a["images"], ops.max_pool(b, a["images"], 3, 2), 3, 2)
    ],
    "pad": lambda b, a: [ops.pad(b, a["images"], 1, 2)],
    "unfold": lambda b, a: [ops.unfold(b, a["images"], 3, 2)],
    "linear": lambda b, a: [
        ops.linear(b, a["x"], a["W"], a["b"], activation) for activation in (None, "relu", "sigmoid", "tanh")
    ],
    "linear_backward": lambda b, a: [*linear_backward(b, a, None), *linear_backward(b, a, "sigmoid")],
    "lion_update": lambda b, a: updated(b, a, ops.lion_update, ("moment",), [0.1, 0.9, 0.99, 0.1]),
    "mean_squared_error": lambda b, a: [
        result for place, result in enumerate(ops.mean_squared_error(b, a["z"], a["y"])[:4]) if place != 2
    ],
    "momentum_update": lambda b, a: updated(b, a, ops.momentum_update, ("moment",), [0.1, 0.9, 1.0]),
    "relu": lambda b, a: [ops.relu(b, a["z"])],
    "relu_backward": lambda b, a: [ops.relu_backward(b, a["dy"], a["z"])],
    "rescale": lambda b, a: [ops.rescale(b, a["x"], 3.0)],
    "rmsprop_update": lambda b, a: updated(b, a, ops.rmsprop_update, ("square",), [0.01, 0.99, 1e-8]),
    "sgd_update": lambda b, a: updated(b, a, ops.sgd_update, (), [0.1]),
    "sigmoid": lambda b, a: [ops.sigmoid(b, a["z"])],
    "sigmoid_backward": lambda b, a: [ops.sigmoid_backward(b, a["dy"], a["y"])],
    "softmax": lambda b, a: [ops.softmax(b, a["logits"])],
    "softmax_backward": lambda b, a: [ops.softmax_backward(b, a["dy"], a["p"])],
    "softmax_cross_entropy": lambda b, a: [
        result
        for labels in ("labels", "targets")
        for options in ({}, {"label_smoothing": 0.1, "class_weights": b.xp.abs(a["b"]), "reduction": "sum"})
        for result in ops.softmax_cross_entropy(b, a["logits"], a[labels], **options)[:4]
    ],
    "standardize": lambda b, a: [ops.standardize(b, a["z"], a["b"], b.xp.abs(a["b"]) + 0.5)],
    "restore_if_found_inf": lambda b, a: [restored(b, a, found_inf) for found_inf in (0, 1)],
    "softplus": lambda b, a: [ops.softplus(b, a["z"])],
    "softplus_backward": lambda b, a: [ops.softplus_backward(b, a["dy"], a["z"])],
    "gather": lambda b, a: [ops.gather(b, a["pixels"], a["indices"], 255.0, str(a["x"].dtype).rpartition(".")[2])],
    "tanh": lambda b, a: [ops.tanh(b, a["z"])],
    "tanh_backward": lambda b, a: [ops.tanh_backward(b, a["dy"], a["y"])],
}


def products(a: Arrays, dz: np.ndarray) -> list[tuple[int, np.ndarray]]:
    return [
        (ROWS, np.abs(a["x"]).T @ np.abs(dz)),
        (ROWS, np.abs(dz).sum(axis=0)),
        (OUTPUTS, np.abs(dz) @ np.abs(a["W"]).T),
    ]


def convolutions(a: Arrays) -> list[tuple[int, Any]]:
    """Of convolve_backward, in float64, by the operation itself on magnitudes."""
    double = backend("float64")
    magnitudes = {name: np.abs(a[name]) for name in ("images", "kernels", "features", "b")}
    return list(zip((6 * 49, 6 * 49, 36), convolve_backward(double, magnitudes), strict=True))


SUMS: dict[str, Callable[[Arrays], list[tuple[int, Any]]]] = {
    "average_pool": lambda a: [(9, ops.average_pool(backend("float64"), np.abs(a["images"]), 3, 2))],
    "average_pool_backward": lambda a: [
        (4, ops.average_pool_backward(backend("float64"), np.abs(a["pooled"]), a["images"].shape, 3, 2))
    ],
    "convolve": lambda a: [
        (28, ops.convolve(backend("float64"), np.abs(a["images"]), np.abs(a["kernels"]), np.abs(a["b"][:4]))[0])
    ],
    "convolve_backward": convolutions,
    "fold": lambda a: [(9, 9 * np.abs(a["images"]))],
    "max_pool_backward": lambda a: [(4, 4 * np.abs(a["pooled"]).max())],
    "linear": lambda a: [(INPUTS + 1, np.abs(a["x"]) @ np.abs(a["W"]) + np.abs(a["b"]))] * 4,
    "linear_backward": lambda a: [*products(a, a["dy"]), *products(a, a["dy"] * a["y"] * (1 - a["y"]))],
    "softmax_backward": lambda a: [
        (OUTPUTS, a["p"] * (np.abs(a["dy"]) + (np.abs(a["dy"]) * a["p"]).sum(axis=1, keepdims=True)))
    ],
    "softmax_cross_entropy": lambda a: (
        [
            *[(0, 30.0), (0, 30.0), (0, 0.0), (0, 1 / ROWS)],
            *[(0, 100.0 * ROWS), (OUTPUTS, 100.0), (0, 0.0), (OUTPUTS, 3.0)],
        ]
        * 2
    ),
    "batch_norm": lambda a: [(ROWS, 10.0)] * 5,
    "batch_norm_backward": lambda a: [(ROWS, 10.0), (ROWS, 10.0 * ROWS), (ROWS, 10.0 * ROWS)],
    "batch_norm_inference": lambda a: [(4, 1000.0)],
    "layer_norm": lambda a: [(OUTPUTS, 10.0)] * 5,
    "layer_norm_backward": lambda a: [(OUTPUTS, 30.0), (ROWS, 10.0 * ROWS), (ROWS, 10.0 * ROWS)],
    "binary_cross_entropy": lambda a: [(0, None), (0, 30.0), (0, 0.0), (0, 1 / ROWS / OUTPUTS)],
    "mean_squared_error": lambda a: [(0, None), (4, 30.0), (4, 30 / ROWS / OUTPUTS)],
    "embedding_backward": lambda a: [(0, 5.0 * ROWS)],
    "gelu_backward": lambda a: [(4, np.abs(a["dy"]))],
    "momentum_update": lambda a: [(4, np.abs(a["values"]) + np.abs(a["gradients"]) + np.abs(a["moment"]))] * 2,
    "sgd_update": lambda a: [(2, np.abs(a["values"]) + np.abs(a["gradients"]))],
    "adagrad_update": lambda a: [
        (4, np.abs(a["values"]) + 0.1 * np.abs(a["gradients"]) / np.sqrt(a["square"] + a["gradients"] ** 2)),
        (2, a["gradients"] ** 2 + a["square"]),
    ],
    "moving_average_update": lambda a: [(3, np.abs(a["values"]) + np.abs(a["moment"]))],
    "lion_update": lambda a: [(3, np.abs(a["values"]) + 0.1), (2, np.abs(a["gradients"]) + np.abs(a["moment"]))],
    "rmsprop_update": lambda a: [
        (6, np.abs(a["values"]) + 0.01 * np.abs(a["gradients"]) / np.sqrt(0.99 * a["square"])),
        (2, a["gradients"] ** 2 + a["square"]),
    ],
    "adam_update": lambda a: [
        (8, np.abs(a["values"]) + 0.1 * (np.abs(a["gradients"]) + 9 * np.abs(a["moment"])) / np.sqrt(a["square"])),
        (2, np.abs(a["gradients"]) + np.abs(a["moment"])),
        (2, a["gradients"] ** 2 + a["square"]),
    ],
}


def test_every_operation_is_compared() -> None:
    functions = [name for name in ops.__all__ if isinstance(getattr(ops, name), FunctionType)]
    computing = {name for name in functions if "backend" in signature(getattr(ops, name)).parameters}
    assert set(RESULTS) == computing


@pytest.mark.parametrize("operation", RESULTS)
def test_an_operation_computes_the_same_on_both_devices(
    cpu: Backend, device: Backend, host: Arrays, close: Any, operation: str
) -> None:
    expected = RESULTS[operation](cpu, there(cpu, host))
    actual = RESULTS[operation](device, there(device, host))
    wide = {name: array.astype(np.float64) if array.dtype.kind == "f" else array for name, array in host.items()}
    bounds = SUMS[operation](wide) if operation in SUMS else [(0, None)] * len(expected)
    for ours, theirs, (length, scale) in zip(expected, actual, bounds, strict=True):
        assert str(theirs.dtype).rpartition(".")[2] == str(ours.dtype)
        close(device.to_numpy(theirs), np.asarray(ours, np.float64), scale, length)


def test_bytes_become_the_same_numbers(cpu: Backend, device: Backend) -> None:
    every = np.arange(256, dtype=np.uint8).reshape(256, 1)
    ours, theirs = (
        b.to_numpy(ops.gather(b, b.asarray(every), b.asarray(np.arange(256)), 255.0)) for b in (cpu, device)
    )
    assert ours.tobytes() == theirs.tobytes()
