"""Registers, stack and shared memory of every kernel as it would run on an H200, and how many blocks that lets run."""

from __future__ import annotations

import importlib.util
import os
from types import SimpleNamespace

import pytest

from tests.ptx import Resources, resources

MISSING = importlib.util.find_spec("numba_cuda") is None and "XPNET_REQUIRE_CUDA_COMPILE" not in os.environ
if not MISSING and importlib.util.find_spec("cuda") is not None:
    MISSING = importlib.util.find_spec("cuda.bindings.nvjitlink") is None

pytestmark = pytest.mark.skipif(MISSING, reason="needs numba-cuda, its compiler and nvjitlink")

ELEMENTS = ["<f4", "<f8", "<V2", "<f2"]


def on_device(shape, typestr):
    """An array that is nowhere."""
    interface = {"shape": shape, "typestr": typestr, "data": (1 << 40, False), "strides": None, "version": 3}
    return SimpleNamespace(__cuda_array_interface__=interface)


def cross_entropy(element, kind):
    from xpnet_kernels.cuda import softmax_cross_entropy

    rows, columns, total = 8192, 128_256, "<f8" if element == "<f8" else "<f4"
    logits = on_device((rows, columns), element)
    labels = logits if kind == "probabilities" else on_device((rows,), "<i8")
    softmax_cross_entropy(
        logits, labels, summary=on_device((4,), "<f8"), losses=on_device((rows,), total), gradient=logits,
        predictions=on_device((rows,), "<i8"), in_place=True, label_smoothing=0.1 if kind == "smoothed" else 0.0,
    )  # fmt: skip


def bias(element, columns):
    from xpnet_kernels.cuda import bias_activation

    matrix = on_device((5000, columns), element)
    bias_activation(matrix, on_device((columns,), element), "relu", matrix)


def bias_backward(element, columns):
    from xpnet_kernels.cuda import bias_activation_backward

    matrix = on_device((5000, columns), element)
    bias_activation_backward(matrix, matrix, "relu", matrix, on_device((columns,), element))


def take(element):
    from xpnet_kernels.cuda import gather

    pixels, indices = on_device((60_000, 784), "|u1"), on_device((512,), "<i8")
    gather(pixels, indices, 255, on_device((512, 784), element), error=on_device((1,), "<i8"))


def drop(element):
    from xpnet_kernels.cuda import dropout

    x = on_device((4096, 512), element)
    dropout(x, 0.5, (1, 2), 3, x)


def check(element):
    from xpnet_kernels.cuda import check_finite

    check_finite(on_device((650_000,), element), on_device((1,), "<i4"))


def update(element, name, moments, length):
    import xpnet_kernels.cuda

    flat = on_device((650_000,), element)
    getattr(xpnet_kernels.cuda, name)(flat, flat, *[flat] * moments, on_device((length,), "<f8"))


def end(element):
    from xpnet_kernels.cuda import end_step

    end_step(
        on_device((4,), "<f8"), on_device((8,), "<f8"), rows=on_device((1,), "<f8"),
        gradients=on_device((650_000,), element), found_inf=on_device((1,), "<i4"),
    )  # fmt: skip


# The call, and how many blocks of the launched size a multiprocessor must be able to run.
CALLS = {
    "cross-entropy": (lambda element: cross_entropy(element, "plain"), 2),
    "cross-entropy, smoothed": (lambda element: cross_entropy(element, "smoothed"), 2),
    "cross-entropy, probabilities": (lambda element: cross_entropy(element, "probabilities"), 2),
    "bias, vectors": (lambda element: bias(element, 1024), 6),
    "bias, elements": (lambda element: bias(element, 1001), 6),
    "bias backward, vectors": (lambda element: bias_backward(element, 1024), 3),
    "bias backward, elements": (lambda element: bias_backward(element, 1001), 2),
    "gather": (take, 12),
    "dropout": (drop, 5),
    "check_finite": (check, 8),
    "SGD": (lambda element: update(element, "sgd_update", 0, 1), 6),
    "momentum": (lambda element: update(element, "momentum_update", 1, 3), 4),
    "Adam": (lambda element: update(element, "adam_update", 2, 7), 3),
    "end_step": (end, 1),
}
OFTEN = {("cross-entropy", "<f4"), ("cross-entropy", "<V2"), ("bias backward, vectors", "<f4"), ("gather", "<f4")}


def cases():
    for name in CALLS:
        for element in ELEMENTS:
            marks = () if (name, element) in OFTEN else pytest.mark.cuda_compile
            yield pytest.param(name, element, marks=marks, id=f"{name}, {element[1:]}")


@pytest.mark.parametrize(("name", "element"), [*cases()])
def test_no_spills_and_enough_blocks(monkeypatch, name, element):
    from xpnet_kernels.cuda import launch

    launched = []

    def collect(kernel, signature):
        return SimpleNamespace(launch=lambda values, grid, block, stream: launched.append((kernel, signature, block)))

    monkeypatch.setattr(launch, "compiled", collect)
    call, wanted = CALLS[name]
    if name.startswith("cross-entropy") and element == "<f8":
        wanted = 1  # an exponential in float64 takes too many registers for two
    call(element)
    for kernel, signature in {(kernel, signature) for kernel, signature, _ in launched}:
        threads = max(x * y for k, s, (x, y, _) in launched if (k, s) == (kernel, signature))
        found = resources(kernel, signature)
        assert found.stack_bytes == 0
        assert found.registers <= 65_536 // (threads * wanted)
        assert found.blocks(threads) >= wanted


@pytest.mark.parametrize(
    ("registers", "shared", "threads", "blocks"),
    [
        (64, 0, 512, 2), (65, 0, 512, 1), (80, 0, 384, 2), (88, 0, 384, 1), (32, 0, 1024, 2), (255, 0, 256, 1),
        (16, 0, 32, 32), (16, 48 * 1024, 128, 4), (16, 113 * 1024, 128, 2), (168, 0, 384, 1),
    ],
)  # fmt: skip
def test_blocks_of_a_multiprocessor(registers, shared, threads, blocks):
    """As NVIDIA's occupancy calculator has them for compute capability 9.0."""
    assert Resources(registers, 0, shared).blocks(threads) == blocks
