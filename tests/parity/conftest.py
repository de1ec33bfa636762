"""Networks to compare, kernels with a planted bug, and the comparison's findings."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import xpnet_kernels.cpu

import xpnet
from xpnet import (
    Adam,
    BatchNorm,
    Constant,
    Conv2d,
    Dropout,
    Flatten,
    Linear,
    MaxPool2d,
    Rescale,
    Reshape,
    Sequential,
    ops,
)
from xpnet.layers import Layer, ParameterSpec
from xpnet.parity import compare

DIGITS = xpnet.data.load("digits")
LOSS = xpnet.SoftmaxCrossEntropy()
DOUBLE = xpnet.backend("float64")


class Scale(Layer):
    """y = gain · x, a layer of the user's own."""

    def parameter_specs(self):
        return {"gain": ParameterSpec((16,), Constant(0.8))}

    def forward(self, x, context):
        self.saved = x
        return self.parameters["gain"] * x

    def backward(self, dy, context):
        x, xp = self.pop_saved(), context.backend.xp
        self.gradients["gain"][...] = xp.sum(dy * x, axis=0)
        return dy * self.parameters["gain"]


class Skip(Layer):
    """y = x + f(x), a layer made of another."""

    def __init__(self, inner):
        self.inner = inner

    def children(self):
        return {"inner": self.inner}

    def forward(self, x, context):
        return x + self.inner.forward(x, context)

    def backward(self, dy, context):
        return dy + self.inner.backward(dy, context)


def network(*between: Layer) -> Sequential:
    layers = (Linear(64, 32, "relu"), Linear(32, 16, "sigmoid"), *between, Linear(16, 10))
    return Sequential(Rescale(16), Flatten(), *layers).initialize(DOUBLE, seed=1)


def outcome(model, *tested, optimizer=None, reference=DOUBLE, steps=3, **options):
    backends = [reference, *tested]
    return compare(model, LOSS, optimizer or Adam(), DIGITS.train, backends, batch_size=32, steps=steps, **options)


def cpu_with(name, planted) -> xpnet.Backend:
    """The CPU, one of its kernels followed by ``planted(*arguments)``."""

    def kernel(*arguments, **keywords):
        result = getattr(xpnet_kernels.cpu, name)(*arguments, **keywords)
        planted(*arguments, **keywords)
        return result

    kernels = {**vars(xpnet_kernels.cpu), name: kernel}
    return dataclasses.replace(xpnet.backend("cpu"), kernels=SimpleNamespace(**kernels))


def found(parity) -> tuple[str, str, str]:
    row = parity.first_divergence
    diverging = {(row.layer, row.quantity) for row in parity.rows if not row.agrees}
    assert len(diverging) == 1 or row.quantity == "update", diverging
    return row.layer, row.quantity, row.array


def in_layer(shape, plant):
    """``plant(x, W, b, out)`` or ``plant(dW, db, dx)``, only where W has that shape."""

    def forward(x, W, b, activation, out):
        if W.shape == shape:
            plant(x, W, b, out)

    def backward(dy, x, y, W, activation, dW, db, dz, dx):
        if W.shape == shape:
            plant(dW, db, dx)

    return SimpleNamespace(forward=forward, backward=backward)


def of_images(backend, optimizer=None, steps=2):
    layers = [
        Reshape((1, 8, 8)),
        Conv2d(1, 4, 3, activation="relu"),
        BatchNorm(4),
        MaxPool2d(2),
        Conv2d(4, 6, 2, padding="same"),
        Dropout(0.3),
        Flatten(),
        Linear(54, 10),
    ]
    return outcome(Sequential(*layers).initialize(DOUBLE, seed=3), backend, optimizer=optimizer, steps=steps, seed=7)


def wrong_on_cpu(monkeypatch, name, change):
    """``ops.name`` with its arguments changed where the backend is the CPU."""
    right = getattr(ops, name)

    def wrong(backend, *arguments):
        return right(backend, *(change(*arguments) if backend.name == "cpu" else arguments))

    monkeypatch.setattr(ops, name, wrong)
