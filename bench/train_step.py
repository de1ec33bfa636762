"""How long does a training step take, compared with its matrix products and with other libraries?

    python bench/train_step.py --json bench/results/train_step_cpu.json

What is timed is the trainer's step: gathering the batch from uint8 MNIST images, forward, loss, backward, update. The
limit is the step's matrix products alone, into given outputs, and a copy of the bytes that the optimizer must move,
with as many threads. The peers use the fastest idiomatic code, with batches indexed from memory. Before anything is
timed, the losses of the first three steps must agree with float64, from the same weights and batches.

MNIST is read from the folder that XPNET_DATA_DIR names; without it, the images are random ones ("data" says which).
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import mnist
import numpy as np
import timing
from timing import Contender

NETS = {
    "784-50-10": 100,
    "784-50-100-10": 100,
    "784-512-10": 128,
    "784-500-500-10": 100,
    "784-1024-1024-10": 512,
}
RATE = {"sgd": 0.1, "adam": 1e-3}
FLOATS_MOVED = {"sgd": 3, "adam": 7}  # values and state read and written, gradients read


@dataclass(frozen=True)
class Case:
    """A network with ReLUs, and an optimizer."""

    net: str
    optimizer: str

    def __str__(self) -> str:
        return f"{self.net} {self.optimizer}"

    @property
    def sizes(self) -> list[int]:
        return [int(size) for size in self.net.split("-")]

    @property
    def batch_size(self) -> int:
        return NETS[self.net]

    def weights(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """(W, b) of each layer, the same for every contender."""
        rng = np.random.default_rng(0)
        shapes = itertools.pairwise(self.sizes)
        draws = ((rng.uniform(-1, 1, (a, b)) / a**0.5, rng.uniform(-1, 1, b) / a**0.5) for a, b in shapes)
        return [(W.astype(np.float32), b.astype(np.float32)) for W, b in draws]

    def batches(self) -> Iterator[np.ndarray]:
        """Rows of the training set, shuffled, for ever; every contender sees the same."""
        order = np.random.default_rng(1).permutation(60_000)
        full = range(0, len(order) - self.batch_size + 1, self.batch_size)
        return itertools.cycle([order[start : start + self.batch_size] for start in full])

    def check(self, losses: list[float]) -> dict[str, float]:
        """Compare the first losses with the equations in float64."""
        expected = reference_losses(self, len(losses))
        return timing.within(loss_error=(float(np.max(np.abs(np.array(losses) - expected) / expected)), 1e-4))


def training_set() -> tuple[np.ndarray, np.ndarray]:
    """The training images, (60000, 784) uint8, and labels, (60000,) int64."""
    data = mnist.dataset()
    return data.x_train.reshape(60_000, 784), data.y_train


def reference_losses(case: Case, steps: int) -> np.ndarray:
    """The losses of the first steps, in float64 and plain NumPy."""
    images, labels = training_set()
    layers = [[W.astype(np.float64), b.astype(np.float64)] for W, b in case.weights()]
    moments = [[np.zeros_like(p), np.zeros_like(p)] for layer in layers for p in layer]
    losses = []
    for step, rows in zip(range(1, steps + 1), case.batches(), strict=False):
        activations = [images[rows] / 255.0]
        for place, (W, b) in enumerate(layers):
            z = activations[-1] @ W + b
            activations.append(np.maximum(z, 0) if place < len(layers) - 1 else z)
        p = np.exp(activations[-1] - activations[-1].max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        losses.append(-np.log(p[np.arange(len(rows)), labels[rows]]).mean())
        p[np.arange(len(rows)), labels[rows]] -= 1
        dz, gradients = p / len(rows), []
        for place in range(len(layers) - 1, -1, -1):
            gradients[:0] = [activations[place].T @ dz, dz.sum(axis=0)]
            dz = (dz @ layers[place][0].T) * (activations[place] > 0)
        parameters = [p for layer in layers for p in layer]
        for value, g, (m, v) in zip(parameters, gradients, moments, strict=True):
            if case.optimizer == "sgd":
                value -= RATE["sgd"] * g
                continue
            m += 0.1 * (g - m)
            v += 0.001 * (g * g - v)
            value -= RATE["adam"] * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
    return np.array(losses)


def checked(case: Case, step: Callable[[np.ndarray], Callable[[], float]], synchronize: Any = None) -> Contender:
    """A contender whose ``step`` takes the rows of a batch, and returns a function that reads the loss."""
    batches = case.batches()
    losses = [step(next(batches))() for _ in range(3)]
    keywords = {} if synchronize is None else {"synchronize": synchronize}
    return Contender(call=lambda: step(next(batches)), check=partial(case.check, losses), **keywords)


def limit(case: Case, device: str) -> Contender:
    """The matrix products of a step with preallocated outputs, and the optimizer's bytes copied."""
    if device == "cuda":
        import cupy as xp
    else:
        xp = np
    rows, products = case.batch_size, []
    for place, (W, _) in enumerate(case.weights()):
        x, W, y = xp.ones((rows, W.shape[0]), "f"), xp.asarray(W), xp.ones((rows, W.shape[1]), "f")
        dy = xp.ones_like(y)
        products += [(x, W, y), (x.T, dy, xp.empty_like(W))]
        products += [(dy, W.T, xp.empty_like(x))] if place else []
    count = sum(W.size + b.size for W, b in case.weights()) * FLOATS_MOVED[case.optimizer]
    source, target = xp.ones((64, count // 128), "f"), xp.empty((64, count // 128), "f")  # one half read, one written
    copy: Callable[[], Any] = partial(xp.copyto, target, source)
    if xp is np:
        from xpnet_kernels.cpu.threads.pool import over_rows

        copy = partial(over_rows, lambda i, j: np.copyto(target[i:j], source[i:j]), *source.shape)

    def call() -> None:
        for a, b, out in products:
            xp.matmul(a, b, out=out)
        copy()

    return Contender(call, synchronize=(lambda: None) if xp is np else xp.cuda.Device().synchronize)


def xpnet(case: Case, device: str) -> Contender:
    """The trainer's step."""
    import xpnet as library
    from xpnet.training.reports import LAST_LOSS

    class GivenBatches(library.data.Batches):
        """Batches of which the caller sets the next one."""

        def at(self, step: int) -> library.data.Batch:
            return self.batch

    backend, (images, labels) = library.backend(device), training_set()
    sizes = list(itertools.pairwise(case.sizes))
    layers = [library.Linear(a, b, "relu" if b != sizes[-1][1] else None) for a, b in sizes]
    model = library.Sequential(*layers).initialize(backend)
    for place, (W, b) in enumerate(case.weights()):
        model.parameters[f"{place}.W"][...] = backend.asarray(W)
        model.parameters[f"{place}.b"][...] = backend.asarray(b)
    optimizer = {"sgd": library.SGD, "adam": library.Adam}[case.optimizer](RATE[case.optimizer])
    trainer = library.Trainer(model, library.SoftmaxCrossEntropy(), optimizer)
    batches = GivenBatches(backend, images, labels, rescale=library.Rescale(255.0))
    context = library.Context(backend, training=True, reuse=True)

    def step(rows: np.ndarray) -> Callable[[], float]:
        batches.batch = library.data.Batch(backend.asarray(rows))
        trainer.train_step(batches, context)
        return lambda: float(backend.to_numpy(trainer.report)[LAST_LOSS])

    return checked(case, step, backend.synchronize)


def torch(case: Case, device: str, compiled: bool = False) -> Contender:
    """PyTorch with a fused optimizer; eager, or its step compiled."""
    import torch as library

    library.set_num_threads(timing.threads())
    images, labels = (library.from_numpy(np.array(array)).to(device) for array in training_set())
    modules: list[Any] = []
    for W, b in case.weights():
        linear = library.nn.Linear(*W.shape)
        with library.no_grad():
            linear.weight.copy_(library.from_numpy(W.T.copy()))
            linear.bias.copy_(library.from_numpy(b))
        modules += [linear, library.nn.ReLU()]
    model = library.nn.Sequential(*modules[:-1]).to(device)
    kind = {"sgd": library.optim.SGD, "adam": library.optim.Adam}[case.optimizer]
    optimizer = kind(model.parameters(), lr=RATE[case.optimizer], fused=True)

    def loss_of(x: Any, y: Any) -> Any:
        return library.nn.functional.cross_entropy(model(x.float() / 255), y)

    if compiled:
        loss_of = library.compile(loss_of)

    def step(rows: np.ndarray) -> Callable[[], float]:
        indices = library.from_numpy(rows).to(device)
        optimizer.zero_grad()
        loss = loss_of(images[indices], labels[indices])
        loss.backward()
        optimizer.step()
        return loss.item

    synchronize = library.cuda.synchronize if device == "cuda" else None
    return checked(case, step, synchronize)


def jax(case: Case, device: str) -> Contender:
    """JAX: the whole step jitted, parameters and state donated."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # it would take the GPU's memory from all others
    import jax as library
    import jax.numpy as jnp

    images, labels = (jnp.asarray(array) for array in training_set())
    parameters = [(jnp.asarray(W), jnp.asarray(b)) for W, b in case.weights()]
    zeros = library.tree.map(jnp.zeros_like, parameters)
    state = {"parameters": parameters, "m": zeros, "v": library.tree.map(jnp.zeros_like, parameters), "step": 0}

    def loss_of(parameters: Any, x: Any, y: Any) -> Any:
        for W, b in parameters[:-1]:
            x = library.nn.relu(x @ W + b)
        logits = x @ parameters[-1][0] + parameters[-1][1]
        return -jnp.mean(jnp.take_along_axis(library.nn.log_softmax(logits), y[:, None], axis=1))

    @partial(library.jit, donate_argnums=0)
    def update(state: Any, rows: Any) -> Any:
        x, y = images[rows].astype(jnp.float32) / 255, labels[rows]
        loss, g = library.value_and_grad(loss_of)(state["parameters"], x, y)
        p, m, v, t = state["parameters"], state["m"], state["v"], state["step"] + 1
        tree = library.tree.map
        if case.optimizer == "sgd":
            return {**state, "parameters": tree(lambda p, g: p - RATE["sgd"] * g, p, g), "step": t}, loss
        m = tree(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = tree(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
        a, c = RATE["adam"] / (1 - 0.9**t), 1 - 0.999**t
        p = tree(lambda p, m, v: p - a * m / (jnp.sqrt(v / c) + 1e-8), p, m, v)
        return {"parameters": p, "m": m, "v": v, "step": t}, loss

    def step(rows: np.ndarray) -> Callable[[], float]:
        nonlocal state
        state, loss = update(state, rows)
        library.block_until_ready(loss)
        return lambda: float(loss)

    return checked(case, step)


CONTENDERS = {
    "limit": limit,
    "xpnet": xpnet,
    "torch": torch,
    "torch_compile": partial(torch, compiled=True),
    "jax": jax,
}
CASES = [Case(net, optimizer) for net in NETS for optimizer in RATE]
BENCHMARK = timing.Benchmark(
    cases={"cpu": CASES, "cuda": CASES},
    contenders={"cpu": CONTENDERS, "cuda": CONTENDERS},
    facts=lambda: {"data": mnist.dataset().name},
)

if __name__ == "__main__":
    timing.main(BENCHMARK)
