"""How much work on the host is a launch of each CUDA kernel, before the driver has it? No GPU is needed.

    python bench/launch_overhead.py --json bench/results/launch_overhead.json

The kernels' functions run from beginning to end, on arrays that no kernel reads; only the driver's cuLaunchKernel, and
for products CuPy's choice of the stream and cuBLAS, are replaced by functions that do nothing. An array is CuPy's, or
an object with nothing but __cuda_array_interface__, which is a dictionary there: what another library takes to build it
comes on top. "first" is a call with other memory than before, which is checked and planned. All figures are
microseconds a launch or product.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import timing
from xpnet_kernels.cuda import prepared

ADDRESSES = itertools.count(1 << 40, 1 << 32)
STREAM = 1 << 20
TYPESTRS = {"float32": "<f4", "float64": "<f8", "bfloat16": "<u2"}


class Interface:
    """An array that is nowhere."""

    def __init__(self, shape: tuple[int, ...], typestr: str) -> None:
        self.__cuda_array_interface__ = {
            "shape": shape, "typestr": typestr, "data": (next(ADDRESSES), False), "strides": None, "version": 3,
        }  # fmt: skip


def on_cupy(shape: tuple[int, ...], typestr: str) -> Any:
    """A CuPy array over memory that is nowhere."""
    import cupy
    from cupy.cuda.memory import MemoryPointer, UnownedMemory

    memory = UnownedMemory(next(ADDRESSES), int(np.prod(shape)) * np.dtype(typestr).itemsize, None, 0)
    return cupy.ndarray(shape, typestr, MemoryPointer(memory, 0))


def calls(make: Callable[..., Any], element: str) -> dict[str, Callable[[], Any]]:
    """A call of each kernel, as training 784-50-10 in batches of 100 makes it."""
    from xpnet_kernels import cuda as kernels

    typestr, total = TYPESTRS[element], "<f8" if element == "float64" else "<f4"
    matrix, other, vector = make((100, 50), typestr), make((100, 50), typestr), make((50,), typestr)
    logits, gradient, labels = make((100, 10), typestr), make((100, 10), typestr), make((100,), "<i8")
    summary, losses, error = make((4,), "<f8"), make((100,), total), make((1,), "<i8")
    pixels, batch, found_inf = make((60_000, 784), "|u1"), make((100, 784), typestr), make((1,), "<i4")
    layer, weights = make((100, 784), typestr), make((784, 50), typestr)
    report, steps, table, counted = make((8,), "<f8"), make((1,), "<i8"), make((64, 7), "<f8"), make((1,), "<f8")
    values, gradients, m, v = (make((39_760,), typestr) for _ in range(4))
    sgd, momentum, adam = (make((length,), "<f8") for length in (1, 3, 7))
    options = {"stream": STREAM}
    return {
        "softmax_cross_entropy": lambda: kernels.softmax_cross_entropy(
            logits, labels, summary=summary, losses=losses, gradient=gradient, **options
        ),
        "bias_activation": lambda: kernels.bias_activation(matrix, vector, "relu", matrix, **options),
        "bias_activation_backward": lambda: kernels.bias_activation_backward(
            matrix, other, "relu", matrix, vector, **options
        ),
        "linear": lambda: kernels.linear(layer, weights, vector, "relu", matrix, **options),
        "linear_backward": lambda: kernels.linear_backward(
            matrix, layer, matrix, weights, "relu", weights, vector, other, layer, **options
        ),
        "dropout": lambda: kernels.dropout(matrix, 0.5, (1, 2), 3, matrix, **options),
        "gather": lambda: kernels.gather(pixels, labels, 255.0, batch, error=error, **options),
        "check_finite": lambda: kernels.check_finite(values, found_inf, **options),
        "sgd_update": lambda: kernels.sgd_update(values, gradients, sgd, **options),
        "momentum_update": lambda: kernels.momentum_update(values, gradients, m, momentum, **options),
        "adam_update": lambda: kernels.adam_update(values, gradients, m, v, adam, **options),
        "end_step": lambda: kernels.end_step(
            summary,
            report,
            rows=counted,
            gradients=values,
            found_inf=found_inf,
            steps=steps,
            table=table,
            hyperparameters=adam,
            **options,
        ),
    }


@contextmanager
def without_a_driver() -> Iterator[list[Any]]:
    """Kernels are not compiled, and a launch or product is an entry in this list."""
    from cupy_backends.cuda import libs

    launches: list[Any] = []

    def queue(function: Any, *arguments: Any) -> tuple[int]:
        launches.append(function)
        return (0,)

    cublas = SimpleNamespace(gemmEx=queue, getMathMode=lambda handle: 0, setMathMode=lambda handle, mode: None)

    overload = SimpleNamespace(library=SimpleNamespace(get_cufunc=lambda: SimpleNamespace(handle=1)))
    with (
        mock.patch("xpnet_kernels.cuda.launch.jitted", return_value=overload),
        mock.patch("cuda.bindings.driver.cuLaunchKernel", queue),
        mock.patch("xpnet_kernels.cuda.cublaslt.available", return_value=False),
        mock.patch("xpnet_kernels.cuda.matrix_products.on_stream", nullcontext),
        mock.patch("cupy.cuda.device.get_cublas_handle", int),
        mock.patch.dict(vars(libs), cublas=cublas),
    ):
        yield launches


def measure(call: Callable[[], Any], launches: list[Any]) -> float:
    """Microseconds a launch: the least of many samples, since the machine's other work can only add to them."""
    call()
    launches.clear()
    call()
    count = len(launches)
    seconds = min(timing.sample(timing.Contender(call)))
    launches.clear()
    return round(seconds * 1e6 / count, 2)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    path = parser.parse_args().json
    origin = {"command": " ".join(["python", *sys.argv]), **timing.machine("cpu")}
    rows = []
    with without_a_driver() as launches:
        for element in TYPESTRS:
            by_interface, by_cupy = calls(Interface, element), calls(on_cupy, element)
            for name in by_interface:
                row = {
                    "case": f"{name} {element}",
                    "interface_us": measure(by_interface[name], launches),
                    "cupy_us": measure(by_cupy[name], launches),
                }
                with mock.patch.object(prepared, "_kept", prepared._kept.__wrapped__):
                    row["first_us"] = measure(by_cupy[name], launches)
                rows.append(row)
                print(timing.describe(row), flush=True)
    if path:
        path.write_text(json.dumps([row | origin for row in rows], indent=1) + "\n")
