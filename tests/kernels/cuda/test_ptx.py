"""Every kernel, compiled without a GPU for the arguments its function launches it with, and what its code shows."""

from __future__ import annotations

import importlib.util
import os
import re
from collections import namedtuple
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest

from tests.ptx import Program
from tests.ptx.instructions import translated

MISSING = importlib.util.find_spec("numba_cuda") is None and "XPNET_REQUIRE_CUDA_COMPILE" not in os.environ

pytestmark = [
    pytest.mark.cuda_compile,
    pytest.mark.skipif(MISSING, reason="needs the extra cuda-compile (numba-cuda and its compiler)"),
]

Launch = namedtuple("Launch", "ptx signature values grid block stream")
ACCUMULATORS = {"<f4": "<f4", "<f8": "<f8", "<V2": "<f4", "<f2": "<f4"}


class OnDevice:
    """An array that is nowhere."""

    def __init__(self, shape, typestr, read_only=False):
        self.__cuda_array_interface__ = {
            "shape": shape, "typestr": typestr, "data": (1 << 40, read_only), "strides": None, "version": 3,
        }  # fmt: skip


@pytest.fixture(scope="module", params=[(8, 0), (9, 0)], ids=["sm_80", "sm_90"])
def device(request):
    """A compute capability, and the kernels compiled for it so far."""
    return SimpleNamespace(compute_capability=request.param, compiled={})


@pytest.fixture
def launches(device, monkeypatch):
    """What the functions would launch on the device."""
    from numba import types
    from xpnet_kernels.cuda import launch
    from xpnet_kernels.cuda.numba_cuda import cuda
    from xpnet_kernels.cuda.primitives import BLOCK

    collected = []

    def compile_kernel(kernel, signature):
        if (kernel, signature) not in device.compiled:
            device.compiled[kernel, signature], _ = cuda.compile_ptx(
                kernel, types.void(*signature), cc=device.compute_capability, launch_bounds=BLOCK
            )
        ptx = device.compiled[kernel, signature]
        return SimpleNamespace(
            launch=lambda values, grid, block, stream: collected.append(
                Launch(ptx, signature, values, grid, block, stream)
            )
        )

    # Numba asks the current device which code a device function needs.
    monkeypatch.setattr("numba.cuda.dispatcher.get_current_device", lambda: device)
    monkeypatch.setattr(launch, "compiled", compile_kernel)
    monkeypatch.setattr("xpnet_kernels.cuda.cublaslt.available", lambda: False)
    return collected


@pytest.fixture(params=ACCUMULATORS, ids=["float32", "float64", "bfloat16", "float16"])
def element(request):
    return request.param


def check(launches, element, loads, stores):
    """The launches since the last check: arguments, memory accesses of 16 bytes, registers."""
    vector = "v[24]" if element == "<f8" else "v4"  # of 8 or 4 bytes
    assert launches
    for launch in launches:
        check_arguments(launch)
        check_instructions(launch.ptx)
        assert len(re.findall(rf"\bld\.global\.{vector}\.", launch.ptx)) >= loads
        assert len(re.findall(rf"\bst\.global\.{vector}\.", launch.ptx)) >= stores
        assert not re.search(r"\bcall\b", launch.ptx)
    code = launches[-1].ptx
    launches.clear()
    return code


@cache
def check_instructions(ptx):
    """The interpreter knows every instruction, also those that its tests do not come to."""
    program = Program(ptx)
    for place in range(len(program.blocks)):
        translated(program, place)


def check_arguments(launch):
    """Each value fits the type that the kernel was compiled for, and the launch is one that a GPU accepts."""
    from numba import types
    from xpnet_kernels.cuda.primitives import BLOCK, WARP

    entry = re.search(r"\.visible \.entry \w+\((.*?)\)", launch.ptx, re.DOTALL).group(1)
    assert entry.count(".param") == len(launch.signature) == len(launch.values)
    for kind, value in zip(launch.signature, launch.values, strict=True):
        if isinstance(kind, types.CPointer):
            assert value in (0, 1 << 40)
        elif kind == types.boolean:
            assert value in (False, True)
        elif kind == types.int64:
            assert value == int(value)
            assert -(2**63) <= value < 2**63
        else:
            assert kind == types.float64
            assert float(value) == value
    threads = launch.block[0] * launch.block[1]
    assert threads % WARP == 0
    assert threads <= BLOCK
    assert 1 <= launch.grid[0] < 2**31


def cross_entropy(element, rows, columns, labels="<i8", **options):
    from xpnet_kernels.cuda import softmax_cross_entropy

    total = ACCUMULATORS[element]
    shape = (rows, columns) if labels == element else (rows,)
    softmax_cross_entropy(
        OnDevice((rows, columns), element, read_only=True), OnDevice(shape, labels, read_only=True),
        summary=OnDevice((4,), "<f8"), losses=OnDevice((rows,), total), gradient=OnDevice((rows, columns), element),
        log_sum_exp=OnDevice((rows,), total), predictions=OnDevice((rows,), "<i8"),
        class_weights=OnDevice((columns,), total), row_weights=OnDevice((rows,), total), in_place=True, **options,
    )  # fmt: skip


KINDS = {
    "plain": {"ignore_index": -100, "upstream": 2},
    "smoothed": {"label_smoothing": 0.1, "z_loss": 1e-4, "reduction": "sum"},
    "probabilities": {"labels": True},
}


@pytest.mark.parametrize("kind", KINDS)
def test_cross_entropy(launches, element, kind):
    options = dict(KINDS[kind])
    if options.pop("labels", False):
        options["labels"] = element
    for rows, columns in [(90, 10), (4096, 1000), (8192, 128256)]:  # one launch, four, four
        cross_entropy(element, rows, columns, **options)
    assert len(launches) == 1 + 4 + 4
    vectors = 8 if kind == "plain" else 4  # in registers
    code = check(launches, element, loads=vectors, stores=vectors)
    assert "__local_depot" not in code  # what a thread holds of a row is in registers


def test_labels_of_every_integer_type(launches):
    for typestr in ("|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<u8"):
        cross_entropy("<f4", 4096, 1000, labels=typestr)
    check(launches, "<f4", loads=8, stores=8)


def test_optimizers(launches, element):
    from xpnet_kernels.cuda import adam_update, check_finite, momentum_update, sgd_update

    flat = OnDevice((650_000,), element)
    found_inf = OnDevice((1,), "<i4")
    check_finite(flat, found_inf)
    assert len(launches) == 2
    check(launches, element, loads=1, stores=0)
    sgd_update(flat, flat, OnDevice((1,), "<f8"))
    check(launches, element, loads=2, stores=1)
    momentum_update(flat, flat, flat, OnDevice((3,), "<f8"), found_inf=found_inf)
    check(launches, element, loads=3, stores=2)
    adam_update(flat, flat, flat, flat, OnDevice((7,), "<f8"), found_inf=found_inf)
    check(launches, element, loads=4, stores=3)


@pytest.mark.parametrize(("size", "expected"), [(1000, 1), (650_000, 2)])
def test_end_step(launches, element, size, expected):
    from xpnet_kernels.cuda import end_step

    summary, report, hyperparameters = (OnDevice((size,), "<f8") for size in (4, 8, 7))
    guard = {"gradients": OnDevice((size,), element), "found_inf": OnDevice((1,), "<i4")}
    end_step(summary, report, rows=OnDevice((1,), "<f8"), **guard, steps=OnDevice((3,), "<i8"),
             table=OnDevice((9, 7), "<f8"), hyperparameters=hyperparameters)  # fmt: skip
    assert len(launches) == expected
    check(launches, element, loads=1, stores=0)
    end_step(summary, report, rows=100, step=7)
    check(launches, element, loads=0, stores=0)


def test_layers_and_data(launches, element):
    from xpnet_kernels.cuda import bias_activation, bias_activation_backward, dropout, gather

    matrix, vector = OnDevice((100, 64), element), OnDevice((64,), element)
    pixels, indices = OnDevice((60_000, 784), "|u1", read_only=True), OnDevice((100,), "<i8", read_only=True)
    gather(pixels, indices, 255, OnDevice((100, 784), element), error=OnDevice((1,), "<i8"))
    check(launches, element, loads=0, stores=1)
    labels, labels_out = OnDevice((60_000,), "|u1", read_only=True), OnDevice((100,), "|u1")
    gather(pixels, OnDevice((60_000,), "<i8"), 255, OnDevice((100, 784), element), labels=labels, labels_out=labels_out,
           step=OnDevice((1,), "<i8"), steps_per_epoch=600, batch_size=100)  # fmt: skip
    check(launches, element, loads=0, stores=1)
    bias_activation(matrix, vector, "tanh", matrix)
    check(launches, element, loads=2, stores=1)
    bias_activation_backward(matrix, matrix, "relu", matrix, vector)
    check(launches, element, loads=2, stores=1)
    dropout(matrix, 0.5, (0xFFFFFFFF, 0), 7, matrix)
    dropout(matrix, 0.5, (0, 0xFFFFFFFF), OnDevice((1,), "<i8"), matrix)
    check(launches, element, loads=1, stores=1)


def test_linear(launches, element, monkeypatch):
    """The products are cuBLAS's: which they are, and what is launched around them."""
    from xpnet_kernels.cuda import _linear, _linear_backward, linear, linear_backward

    products = []

    def product(a, b, out, **options):
        planned = (a.name, b.name, out.name, {name for name, given in options.items() if given})
        return [SimpleNamespace(queue=lambda stream: products.append((*planned, stream)))]

    for module in (_linear, _linear_backward):
        monkeypatch.setattr(module, "product", product)
    x, W, b, y = (OnDevice(shape, element) for shape in ((100, 784), (784, 64), (64,), (100, 64)))
    for activation in (None, "relu"):
        linear(x, W, b, activation, y, stream=5)
        assert launches[-1].stream == 5
        check(launches, element, loads=2, stores=1)
        dz = y if activation else None
        linear_backward(y, x, dz, W, activation, W, b, dz, x, stream=6)
        assert launches[-1].stream == 6
        check(launches, element, loads=2, stores=1)
        gradient = "dz" if activation else "dy"
        assert products == [
            ("x", "W", "out", set(), 5), ("x", gradient, "dW", {"flip_a"}, 6),
            (gradient, "W", "dx", {"flip_b"}, 6),
        ]  # fmt: skip
        products.clear()
    linear_backward(y, x, None, W, None, W, b, None)
    assert [product[2] for product in products] == ["dW"]


def test_gradients_of_parameters_in_float32(launches):
    """dW and db of layers in bfloat16 may be float32."""
    from xpnet_kernels.cuda import linear_backward
    from xpnet_kernels.cuda.matrix_products import Product
    from xpnet_kernels.cuda.prepared import _kept

    _kept.cache_clear()
    x, W, y = (OnDevice(shape, "<V2") for shape in ((100, 784), (784, 64), (100, 64)))
    queued = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Product, "queue", lambda product, stream: queued.append(product._arguments))
        linear_backward(y, x, y, W, "relu", OnDevice((784, 64), "<f4"), OnDevice((64,), "<f4"), y, x)
    half, single, sums = 14, 0, 68
    assert [(p[7], p[10], p[14], p[16]) for p in queued] == [(half, half, single, sums), (half, half, half, sums)]
    code = check(launches, "<V2", loads=2, stores=1)
    assert "st.global.f32" in code or "st.global.b32" in code
    with pytest.raises(TypeError, match=r"dW must be bfloat16 \(or its bits, uint16\) or float32, not float64"):
        linear_backward(y, x, y, W, "relu", OnDevice((784, 64), "<f8"), OnDevice((64,), "<f4"), y, x)


def test_compiled_kernels_are_found_again_on_disk():
    """Numba's key for a kernel holds what its factory closed over: nothing that differs between processes."""
    from numba import types
    from xpnet_kernels.cuda import (
        _bias_activation,
        _bias_activation_backward,
        _dropout,
        _end_step,
        _gather,
        cross_entropy_kernels,
        optimizer_kernels,
    )

    single = types.float32
    kernels = [
        cross_entropy_kernels.cross_entropy_kernel(single, True, False), _gather.gather_kernel(single),
        _bias_activation.forward_kernel(single, True), _bias_activation_backward.backward_kernel(single, True),
        _dropout.dropout_kernel(single), _end_step.end_step_kernel(single),
        optimizer_kernels.check_finite_kernel(single), optimizer_kernels.sgd_kernel(single),
        optimizer_kernels.momentum_kernel(single), optimizer_kernels.adam_kernel(single),
    ]  # fmt: skip
    for kernel in kernels:
        for cell in kernel.__closure__:
            assert isinstance(cell.cell_contents, (bool, int, float, np.floating, types.Type))


def test_the_cache_on_disk_knows_a_kernel_by_the_hash_of_all_sources(monkeypatch):
    from numba import types
    from xpnet_kernels.cuda import _gather, launch
    from xpnet_kernels.cuda.numba_cuda import cuda
    from xpnet_kernels.source_hash import source_hash

    monkeypatch.setattr(cuda, "jit", lambda *_, **__: lambda kernel: SimpleNamespace(overloads={0: kernel}))

    def name() -> str:
        kernel = launch.jitted(_gather.gather_kernel(types.float32), ())
        return cuda.dispatcher.CUDACache(kernel)._impl.filename_base

    assert name().split("-")[0].endswith(f"_{source_hash('cuda')}")
    monkeypatch.setattr(launch, "source_hash", lambda package: f"{package}_has_changed")
    assert name().split("-")[0].endswith("_cuda_has_changed")
