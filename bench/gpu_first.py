"""Does it work? Every kernel once, against NumPy, then a training step and an epoch of digits.

    python bench/gpu_first.py [--device cuda]

The first part of `make gpu`. It prints a line for each, as it comes, with the seconds that it took: the first use of a
kernel compiles it. The exit status is 1 if one of them failed.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import timing
from softmax_cross_entropy import from_bfloat16, to_bfloat16

ROWS, INPUTS, CLASSES = 5, 8, 13
ELEMENTS = {"cpu": ("float32",), "cuda": ("float32", "bfloat16")}
BOUND = {"float32": 1e-5, "bfloat16": 2e-2}  # relative to the largest


class Device:
    """The kernels of a device, its arrays of one element type, and the values that went into them."""

    def __init__(self, name: str, element: str) -> None:
        self.kernels = importlib.import_module(f"xpnet_kernels.{name}")
        self.xp = importlib.import_module({"cpu": "numpy", "cuda": "cupy"}[name])
        self.stream = {"stream": self.xp.cuda.get_current_stream().ptr} if name == "cuda" else {}
        self.element = element
        self.rng = np.random.default_rng(0)

    def call(self, name: str, *arguments: Any, **keywords: Any) -> None:
        """Run a kernel on the current stream."""
        getattr(self.kernels, name)(*arguments, **keywords, **self.stream)

    def array(self, values: Any) -> Any:
        """On the device, in the element type; bfloat16 as its bits."""
        values = np.asarray(values, np.float32)
        return self.xp.asarray(to_bfloat16(values) if self.element == "bfloat16" else values)

    def draw(self, *shape: int) -> tuple[Any, np.ndarray]:
        """Random numbers on the device, and the same in float64."""
        array = self.array(self.rng.standard_normal(shape))
        return array, self.read(array)

    def empty(self, *shape: int) -> Any:
        """Not a number anywhere, so that what is not written is seen."""
        return self.array(np.full(shape, np.nan))

    def read(self, array: Any) -> np.ndarray:
        """The values in float64."""
        host = array.get() if hasattr(array, "get") else array
        return (from_bfloat16(host) if host.dtype == np.uint16 else host).astype(np.float64)

    def compare(self, **pairs: tuple[Any, Any]) -> None:
        """Each array with its expected values."""
        for name, (array, expected) in pairs.items():
            error = np.abs(self.read(array) - expected).max() / max(np.abs(expected).max(), 1e-30)
            timing.within(**{name: (float(error), BOUND[self.element])})


def softmax(z: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """The mean loss and its gradient."""
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    loss = -np.log(p[np.arange(len(z)), labels]).mean()
    return loss, (p - np.eye(z.shape[1])[labels]) / len(z)


def cross_entropy(on: Device, classes: int) -> None:
    z, exact = on.draw(ROWS, classes)
    labels = on.rng.integers(0, classes, ROWS)
    summary, losses, gradient = on.xp.zeros(4), on.xp.zeros(ROWS, np.float32), on.empty(ROWS, classes)
    on.call("softmax_cross_entropy", z, on.xp.asarray(labels), summary=summary, losses=losses, gradient=gradient)
    loss, dz = softmax(exact, labels)
    on.compare(loss=(summary[:1], loss), gradient=(gradient, dz))


def linear_cross_entropy(on: Device) -> None:
    (x, X), (W, V), (b, c) = on.draw(ROWS, INPUTS), on.draw(INPUTS, CLASSES), on.draw(CLASSES)
    labels = on.rng.integers(0, CLASSES, ROWS)
    summary, losses = on.xp.zeros(4), on.xp.zeros(ROWS, np.float32)
    dx, dW, db = on.empty(ROWS, INPUTS), on.empty(INPUTS, CLASSES), on.empty(CLASSES)
    on.call(
        "linear_softmax_cross_entropy", x, W, b, on.xp.asarray(labels), summary=summary, losses=losses, dx=dx, dW=dW,
        db=db,
    )  # fmt: skip
    loss, dz = softmax(X @ V + c, labels)
    on.compare(loss=(summary[:1], loss), dx=(dx, dz @ V.T), dW=(dW, X.T @ dz), db=(db, dz.sum(axis=0)))


def linear(on: Device) -> None:
    (x, X), (W, V), (b, c) = on.draw(ROWS, INPUTS), on.draw(INPUTS, CLASSES), on.draw(CLASSES)
    y = on.empty(ROWS, CLASSES)
    on.call("linear", x, W, b, "relu", y)
    on.compare(y=(y, np.maximum(X @ V + c, 0)))
    dy, G = on.draw(ROWS, CLASSES)
    dW, db, dz, dx = on.empty(INPUTS, CLASSES), on.empty(CLASSES), on.empty(ROWS, CLASSES), on.empty(ROWS, INPUTS)
    on.call("linear_backward", dy, x, y, W, "relu", dW, db, dz, dx)
    G = G * (on.read(y) > 0)
    on.compare(dW=(dW, X.T @ G), db=(db, G.sum(axis=0)), dx=(dx, G @ V.T), dz=(dz, G))


def bias_activation(on: Device) -> None:
    (z, Z), (b, c), (dy, G) = on.draw(ROWS, CLASSES), on.draw(CLASSES), on.draw(ROWS, CLASSES)
    y, dz, db = on.empty(ROWS, CLASSES), on.empty(ROWS, CLASSES), on.empty(CLASSES)
    on.call("bias_activation", z, b, "sigmoid", y)
    on.compare(y=(y, 1 / (1 + np.exp(-(Z + c)))))
    on.call("bias_activation_backward", dy, y, "sigmoid", dz, db)
    G = G * on.read(y) * (1 - on.read(y))
    on.compare(dz=(dz, G), db=(db, G.sum(axis=0)))


def gather(on: Device) -> None:
    pixels, rows, labels = on.rng.integers(0, 256, (9, 7), np.uint8), on.rng.integers(0, 9, ROWS), np.arange(9)
    out, labels_out = on.empty(ROWS, 7), on.xp.full(ROWS, -1)
    given = [on.xp.asarray(array) for array in (pixels, rows, labels)]
    on.call("gather", given[0], given[1], 255, out, labels=given[2], labels_out=labels_out)
    on.compare(out=(out, pixels[rows] / 255), labels_out=(labels_out, labels[rows]))


def dropout(on: Device) -> None:
    from xpnet.random import words

    x, X = on.draw(ROWS, CLASSES)
    out, key, step = on.empty(ROWS, CLASSES), (7, 9), 3
    on.call("dropout", x, 0.25, key, step, out)
    kept = np.asarray(words(key, step, X.size)).reshape(X.shape) * 2.0**-32 >= 0.25
    on.compare(out=(out, np.where(kept, X / 0.75, 0)))


def updates(on: Device) -> None:
    size, rate = 37, 0.1
    flag = on.xp.full(1, 5, np.int32)
    (p, P), (g, G), (v, V) = on.draw(size), on.draw(size), on.draw(size)
    on.call("check_finite", g, flag)
    if int(flag[0]) != 0:
        raise timing.WrongResult("check_finite says that finite gradients are not")
    on.call("sgd_update", p, g, on.xp.asarray([rate]), found_inf=flag)
    on.compare(sgd=(p, P - rate * G))
    P = on.read(p)
    on.call("momentum_update", p, g, v, on.xp.asarray([rate, 0.9, 0.0]))
    on.compare(velocity=(v, 0.9 * V + G), momentum=(p, P - rate * (0.9 * V + G)))
    P, (m, M), s = on.read(p), on.draw(size), on.array(np.ones(size))
    on.call("adam_update", p, g, m, s, on.xp.asarray([rate, 0.9, 0.999, 1e-8, 0.1, 0.001, 0.0]))
    M, S = 0.9 * M + 0.1 * G, 0.999 + 0.001 * G * G
    on.compare(m=(m, M), v=(s, S), adam=(p, P - rate / 0.1 * M / (np.sqrt(S / 0.001) + 1e-8)))
    g[0] = on.array([np.inf])[0]
    on.call("check_finite", g, flag)
    if int(flag[0]) != 1:
        raise timing.WrongResult("check_finite misses an infinite gradient")


def end_step(on: Device) -> None:
    summary, report = on.xp.asarray([0.5, 4.0, 3.0, -1.0]), on.xp.asarray([0.0, 0, 0, 0, -1, -1, 0, 0])
    flag, steps, (gradients, _) = on.xp.zeros(1, np.int32), on.xp.asarray([6, 8]), on.draw(37)
    on.call("end_step", summary, report, rows=4, gradients=gradients, found_inf=flag, steps=steps)
    on.compare(report=(report, [2, 4, 4, 3, -1, -1, 0.5, 0]), found_inf=(flag, 0), steps=(steps, [7, 9]))
    gradients[0] = on.array([np.nan])[0]
    on.call("end_step", summary, report, rows=4, gradients=gradients, found_inf=flag, steps=steps)
    on.compare(report=(report, [2, 4, 4, 3, 8, -1, 0.5, 1]), found_inf=(flag, 1), steps=(steps, [8, 10]))


KERNELS: dict[str, Callable[[Device], None]] = {
    "gather": gather,
    "linear": linear,
    "bias_activation": bias_activation,
    "dropout": dropout,
    "cross-entropy, 13 classes": partial(cross_entropy, classes=CLASSES),
    "cross-entropy, 1000 classes": partial(cross_entropy, classes=1000),
    "cross-entropy after a layer": linear_cross_entropy,
    "updates": updates,
}
CUDA_KERNELS = {"the end of a step": end_step}
PRECISIONS = {"float32": 1e-3, "tf32": 1e-2, "bf16": 5e-2}  # how far the loss may be from float64's after an epoch


def training(name: str, bound: float, precision: str = "float32", **length: int) -> dict[str, Any]:
    """Train ``digits`` for so many steps or epochs, and compare the loss with that of plain NumPy."""
    import xpnet
    from xpnet.data import load
    from xpnet.registry import build

    data, losses, accuracies = load("digits"), [], []
    for backend, passes in ((xpnet.backend(name), precision), (xpnet.backend("cpu-reference"), "float32")):
        recipe = xpnet.load_recipe("digits")
        model = recipe.build_model().initialize(backend)
        loss, optimizer = build("loss", recipe.loss or {}), build("optimizer", recipe.optimizer or {})
        trainer = xpnet.Trainer(model, loss, optimizer, precision=passes)
        trainer.fit(data.train, batch_size=recipe.batch_size, **length)
        outcome = xpnet.evaluate(model, data.test)
        losses.append(float(outcome.loss))
        accuracies.append(float(outcome.accuracy))
    facts = timing.within(loss_error=(abs(losses[0] - losses[1]), bound))
    return {"loss": round(losses[0], 5), "accuracy": round(accuracies[0], 4), **facts}


def tell(name: str, check: Callable[[], Any]) -> bool:
    """Run one check, print what came of it, and return whether it was right."""
    start = time.monotonic()
    try:
        facts = check() or {}
    except Exception:  # the others are tried all the same
        print(f"FAILED {name}\n{traceback.format_exc()}", flush=True)
        return False
    words = ", ".join(f"{key} {value}" for key, value in facts.items())
    print(f"ok {name} ({time.monotonic() - start:.1f} s) {words}".rstrip(), flush=True)
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", choices=ELEMENTS, default="cuda")
    device = parser.parse_args().device
    print(", ".join(f"{key} {value}" for key, value in timing.machine(device).items()), flush=True)
    kernels = KERNELS | (CUDA_KERNELS if device == "cuda" else {})
    right = [
        tell(f"{name}, {element}", partial(check, Device(device, element)))
        for element in ELEMENTS[device]
        for name, check in kernels.items()
    ]
    right.append(tell("a training step", partial(training, device, 1e-4, steps=1)))
    for precision, bound in PRECISIONS.items():
        if device == "cuda" or precision == "float32":
            right.append(
                tell(f"an epoch of digits, {precision}", partial(training, device, bound, precision, epochs=1))
            )
    print(f"{sum(right)} of {len(right)} are right")
    return 0 if all(right) else 1


if __name__ == "__main__":
    sys.exit(main())
