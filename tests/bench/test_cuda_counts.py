"""What the kernels are counted to do, without a GPU: close to the least memory traffic, and few instructions."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"
MISSING = importlib.util.find_spec("numba_cuda") is None and "XPNET_REQUIRE_CUDA_COMPILE" not in os.environ

pytestmark = pytest.mark.skipif(MISSING, reason="needs numba-cuda, its compiler and nvjitlink")


@pytest.fixture
def counts(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    specification = importlib.util.spec_from_file_location("cuda_counts", BENCH / "cuda_counts.py")
    module = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(sys.modules, "cuda_counts", module)  # where its dataclasses look for their types
    specification.loader.exec_module(module)
    return module


def at_length(*values):
    return pytest.param(*values, marks=pytest.mark.cuda_compile)


@pytest.mark.parametrize(
    ("name", "shape", "element", "sectors", "instructions"),
    [
        ("bias_activation_backward", (128, 512), "float32", 1.0, 30),
        ("gather", (100, 784), "float32", 1.1, 30),
        at_length("bias_activation_backward", (100, 50), "float32", 1.9, 50),
        at_length("bias_activation_backward", (128, 512), "bfloat16", 1.0, 30),
        at_length("bias_activation_backward", (128, 512), "float64", 1.0, 60),
        at_length("bias_activation", (512, 1024), "float32", 1.13, 15),
        at_length("gather", (100, 784), "bfloat16", 1.1, 30),
        at_length("gather", (100, 784), "float64", 1.1, 35),
        at_length("dropout", (512, 512), "float32", 1.05, 45),
        at_length("dropout", (512, 512), "bfloat16", 1.05, 45),
        at_length("dropout", (512, 512), "float64", 1.05, 85),
        at_length("softmax_cross_entropy", (128, 1000), "float32", 1.05, 50),
        at_length("softmax_cross_entropy", (32, 4096), "bfloat16", 1.05, 40),
        at_length("adam_update", (100_000,), "float32", 1.1, 50),
    ],
)
def test_counts(counts, name, shape, element, sectors, instructions):
    (case,) = (case for case in counts.CASES if (case.name, case.shape) == (name, shape))
    row = counts.count(case, element)
    assert row["case"] == f"{name} {'x'.join(map(str, shape))} {element}"
    assert 0.99 <= row["sectors"] <= sectors
    assert row["instructions"] <= instructions
    assert row["barriers"] == {"bias_activation_backward": 1, "gather": 0.02}.get(name, row["barriers"])
    assert row["stack"] == 0


def test_every_kernel_has_a_case(counts):
    from xpnet_kernels import cuda

    products = {"linear", "linear_backward", "linear_softmax_cross_entropy"}  # cuBLAS's, around the other kernels
    assert {case.name.split(",")[0] for case in counts.CASES} == set(cuda.__all__) - products
