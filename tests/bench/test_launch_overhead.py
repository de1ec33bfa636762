"""The calls that the benchmark of launches measures: each runs without a GPU, and queues as much as is known of it."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"
MISSING = importlib.util.find_spec("numba_cuda") is None and "XPNET_REQUIRE_CUDA_COMPILE" not in os.environ
QUEUED = {  # launches and products
    "softmax_cross_entropy": 1, "bias_activation": 1, "bias_activation_backward": 1, "linear": 2, "linear_backward": 3,
    "dropout": 1, "gather": 1, "check_finite": 2, "sgd_update": 1, "momentum_update": 1, "adam_update": 1,
    "end_step": 2,
}  # fmt: skip

pytestmark = [
    pytest.mark.cuda_compile,
    pytest.mark.skipif(MISSING, reason="needs the extra cuda-compile (numba-cuda and CuPy)"),
]


@pytest.mark.parametrize("array", ["Interface", "on_cupy"])
@pytest.mark.parametrize("element", ["float32", "float64", "bfloat16"])
def test_calls(monkeypatch, array, element):
    monkeypatch.syspath_prepend(str(BENCH))
    specification = importlib.util.spec_from_file_location("launch_overhead", BENCH / "launch_overhead.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    queued = {}
    with module.without_a_driver() as launches:
        for name, call in module.calls(getattr(module, array), element).items():
            call()
            queued[name] = len(launches)
            launches.clear()
    assert queued == QUEUED
