"""What the CUDA kernels do to memory and what they occupy of an H200: counted, not timed. No GPU is needed.

    python bench/cuda_counts.py --json bench/results/cuda_counts.json

Each kernel's PTX is run by the interpreter in tests/ptx, which counts. Registers, stack and shared memory are those of
the machine code that Numba links for sm_90a. The columns:

- sectors: 32-byte sectors that the warps' loads and stores touch, over the least that the arrays have. What is read
  twice counts twice, though the second time it may come from a cache.
- bytes: those that the threads ask for, over the least.
- instructions: of PTX, for each element; 32 for each instruction of a warp, however many of its threads take part.
- barriers: that a block passes.
- registers of a thread, stack: bytes of a thread in local memory (spilled registers), shared: bytes of a block.
- blocks: of so many threads, that a multiprocessor can run at one time.

A row of the table is a call; if it makes several launches, sectors to instructions are sums over them, and barriers to
blocks are of the launch with the most instructions.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import timing

sys.path.insert(0, str(Path(__file__).parents[1]))  # of tests.ptx

from tests.ptx import Counts, InterpretedDevice, interpreted, resources
from tests.ptx.counts import SECTOR

TYPESTRS = {"float32": "<f4", "float64": "<f8", "bfloat16": "<V2", "float16": "<f2"}


class Arrays:
    """Arrays in the host's memory that say they are on a GPU; ``bytes`` is the size of all so far."""

    def __init__(self, device: InterpretedDevice) -> None:
        self._device, self._memory, self.bytes = device, [], 0

    def __call__(self, shape: tuple[int, ...], typestr: str, values: np.ndarray | None = None) -> Any:
        stored = np.dtype("<u2" if typestr == "<V2" else typestr)
        size = math.prod(shape) * stored.itemsize
        room = np.zeros(size + 512, np.uint8)
        start = -room.ctypes.data % 512  # as CuPy's memory is aligned
        if values is not None:
            room[start : start + size].view(stored)[:] = values.ravel()
        self._memory.append(room)
        self.bytes += size
        address = room.ctypes.data + start
        self._device.memory.add(address, size)
        interface = {"shape": shape, "typestr": typestr, "data": (address, False), "strides": None, "version": 3}
        return SimpleNamespace(__cuda_array_interface__=interface)


@dataclass
class CountingDevice(InterpretedDevice):
    """Remembers which kernel each launch was of."""

    counting: bool = True
    kernels: list[tuple[Callable, tuple[Any, ...]]] = field(default_factory=list)

    def compiled(self, kernel: Callable, signature: tuple[Any, ...]) -> Any:
        inner = super().compiled(kernel, signature)

        def launch(*arguments: Any) -> None:
            self.kernels.append((kernel, signature))
            inner.launch(*arguments)

        return SimpleNamespace(launch=launch)


@dataclass(frozen=True)
class Case:
    """A call: its elements, how often memory must hold or give each, and what makes it of new arrays."""

    name: str
    shape: tuple[int, ...]
    passes: float  # over an array of the shape and element type: loads and stores
    call: Callable[[Arrays, tuple[int, ...], str], Callable[[], None]]
    other_bytes: int = 0  # that must be read or written besides


def cross_entropy(kind: str) -> Callable[[Arrays, tuple[int, ...], str], Callable[[], None]]:
    def make(array: Arrays, shape: tuple[int, ...], typestr: str) -> Callable[[], None]:
        from xpnet_kernels.cuda import softmax_cross_entropy

        rows, columns = shape
        total = "<f8" if typestr == "<f8" else "<f4"
        random = np.random.default_rng(0)
        logits = array(shape, typestr, _bits(random.normal(size=shape), typestr))
        if kind == "probabilities":
            labels = array(shape, typestr, _bits(np.full(shape, 1 / columns), typestr))
        else:
            labels = array((rows,), "<i8", random.integers(0, columns, rows))
        outputs = {
            "summary": array((4,), "<f8"), "losses": array((rows,), total), "gradient": array(shape, typestr),
            "predictions": array((rows,), "<i8"),
        }  # fmt: skip
        smoothing = 0.1 if kind == "smoothed" else 0.0
        return lambda: softmax_cross_entropy(logits, labels, **outputs, label_smoothing=smoothing)

    return make


def _bits(values: np.ndarray, typestr: str) -> np.ndarray:
    if typestr == "<V2":
        return (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    return values.astype(typestr)


def gather(array: Arrays, shape: tuple[int, ...], typestr: str) -> Callable[[], None]:
    from xpnet_kernels.cuda import gather

    rows, columns = shape
    pixels, error = array((10 * rows, columns), "|u1"), array((1,), "<i8")
    indices = array((rows,), "<i8", np.random.default_rng(0).permutation(10 * rows)[:rows])
    out = array(shape, typestr)
    return lambda: gather(pixels, indices, 255, out, error=error)


def bias_activation(array: Arrays, shape: tuple[int, ...], typestr: str) -> Callable[[], None]:
    from xpnet_kernels.cuda import bias_activation

    z, bias, out = array(shape, typestr), array(shape[1:], typestr), array(shape, typestr)
    return lambda: bias_activation(z, bias, "relu", out)


def bias_activation_backward(array: Arrays, shape: tuple[int, ...], typestr: str) -> Callable[[], None]:
    from xpnet_kernels.cuda import bias_activation_backward

    dy, y, dz, db = (*(array(shape, typestr) for _ in range(3)), array(shape[1:], typestr))
    return lambda: bias_activation_backward(dy, y, "relu", dz, db)


def dropout(array: Arrays, shape: tuple[int, ...], typestr: str) -> Callable[[], None]:
    from xpnet_kernels.cuda import dropout

    x, out = array(shape, typestr), array(shape, typestr)
    return lambda: dropout(x, 0.5, (1, 2), 3, out)


def check_finite(array: Arrays, shape: tuple[int, ...], typestr: str) -> Callable[[], None]:
    from xpnet_kernels.cuda import check_finite

    gradients, found_inf = array(shape, typestr), array((1,), "<i4")
    return lambda: check_finite(gradients, found_inf)


def update(name: str, moments: int, hyperparameters: list[float]) -> Callable:
    def make(array: Arrays, shape: tuple[int, ...], typestr: str) -> Callable[[], None]:
        from xpnet_kernels import cuda

        vectors = [array(shape, typestr) for _ in range(2 + moments)]
        numbers = array((len(hyperparameters),), "<f8", np.array(hyperparameters))
        return lambda: getattr(cuda, name)(*vectors, numbers)

    return make


def end_step(array: Arrays, shape: tuple[int, ...], typestr: str) -> Callable[[], None]:
    from xpnet_kernels.cuda import end_step

    summary, report, rows = array((4,), "<f8"), array((8,), "<f8"), array((1,), "<f8")
    gradients, found_inf = array(shape, typestr), array((1,), "<i4")
    return lambda: end_step(summary, report, rows=rows, gradients=gradients, found_inf=found_inf)


ADAM = [0.01, 0.9, 0.999, 1e-8, 0.1, 0.001, 0.0]
CASES = [
    *(
        Case("softmax_cross_entropy", shape, 2, cross_entropy("plain"))
        for shape in [(100, 10), (128, 1000), (32, 4096), (8, 32_000), (2, 128_256)]
    ),
    Case("softmax_cross_entropy, label smoothing", (128, 1000), 2, cross_entropy("smoothed")),
    Case("softmax_cross_entropy, probabilities", (128, 1000), 3, cross_entropy("probabilities")),
    *(Case("bias_activation", shape, 2, bias_activation) for shape in [(100, 10), (100, 50), (512, 1024)]),
    *(
        Case("bias_activation_backward", shape, 3, bias_activation_backward)
        for shape in [(100, 10), (100, 50), (128, 512), (512, 1024)]
    ),
    *(Case("gather", shape, 1, gather, math.prod(shape)) for shape in [(100, 784), (512, 784)]),
    Case("dropout", (512, 512), 2, dropout),
    Case("check_finite", (100_000,), 1, check_finite),
    Case("sgd_update", (100_000,), 3, update("sgd_update", 0, [0.1])),
    Case("momentum_update", (100_000,), 5, update("momentum_update", 1, [0.1, 0.9, 0.0])),
    Case("adam_update", (100_000,), 7, update("adam_update", 2, ADAM)),
    Case("end_step", (39_760,), 1, end_step),
]


def count(case: Case, element: str) -> dict[str, Any]:
    """The row of a case and an element type."""
    typestr = TYPESTRS[element]
    device = CountingDevice()
    with interpreted(device):
        arrays = Arrays(device)
        case.call(arrays, case.shape, typestr)()
    number = math.prod(case.shape)
    least = number * np.dtype("<u2" if typestr == "<V2" else typestr).itemsize * case.passes + case.other_bytes
    total = sum((launch.counts for launch in device.launches), Counts())
    both = total.loads + total.stores
    longest = max(range(len(device.launches)), key=lambda i: device.launches[i].counts.warp_instructions)
    launch, kernel = device.launches[longest], device.kernels[longest]
    found, threads = resources(*kernel), math.prod(launch.block)
    return {
        "case": f"{case.name} {'x'.join(map(str, case.shape))} {element}",
        "launches": len(device.launches),
        "sectors": round(both.sectors * SECTOR / least, 2),
        "bytes": round(both.bytes / least, 2),
        "instructions": round(32 * total.warp_instructions / number, 1),
        "barriers": round(launch.counts.barriers / math.prod(launch.grid), 2),
        "registers": found.registers,
        "stack": found.stack_bytes,
        "shared": found.shared_bytes,
        "threads": threads,
        "blocks": found.blocks(threads),
    }


def table(elements: list[str], wanted: str) -> Iterator[dict[str, Any]]:
    """The rows, one after the other."""
    for case in CASES:
        if wanted in case.name:
            yield from (count(case, element) for element in elements)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    parser.add_argument("--elements", nargs="*", default=[*TYPESTRS], choices=TYPESTRS)
    parser.add_argument("--only", default="", help="of the kernels whose names contain this")
    options = parser.parse_args()
    origin = {"command": " ".join(["python", *sys.argv]), "counted": "not timed", **timing.machine("cpu")}
    rows = []
    print("counted, not timed")
    for row in table(options.elements, options.only):
        if not rows:
            print(f"{'':52}", *(f"{name:>12}" for name in [*row][1:]))
        print(f"{row['case']:52}", *(f"{value:12}" for value in [*row.values()][1:]), flush=True)
        rows.append(row)
    if options.json:
        options.json.write_text(json.dumps([row | origin for row in rows], indent=1) + "\n")
