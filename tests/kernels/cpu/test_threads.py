"""The kernels among threads: many callers beside BLAS, forked processes, and the user's own parallel code."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from xpnet_kernels import cpu
from xpnet_kernels.cpu.gemm.numpy_product import matmul

SECONDS = 2.0  # of eight threads at once


def large_problem(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(40, 30_000)).astype(np.float32), rng.integers(0, 30_000, 40)


def gradient_of(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    gradient = np.empty_like(logits)
    cpu.softmax_cross_entropy(
        logits, labels, summary=np.empty(4), losses=np.empty(len(labels), logits.dtype), gradient=gradient
    )
    return gradient


def test_eight_threads_beside_blas(monkeypatch):
    monkeypatch.setenv("XPNET_NUM_THREADS", "4")
    problems = [large_problem(seed) for seed in range(8)]
    references = [gradient_of(*problem) for problem in problems]
    deadline, failures, calls = time.monotonic() + SECONDS, [], [0] * 8

    def call(k: int) -> None:
        a = np.full((300, 300), k, np.float32)
        while time.monotonic() < deadline:
            if not (matmul(a, a) == 300 * k * k).all():
                failures.append(f"matrix product in thread {k}")
            if not np.array_equal(gradient_of(*problems[k]), references[k]):
                failures.append(f"gradient in thread {k}")
            calls[k] += 1

    threads = [threading.Thread(target=call, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    assert not any(thread.is_alive() for thread in threads)
    assert min(calls) > 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")  # which is what is tested
def test_after_a_fork(monkeypatch):
    monkeypatch.setenv("XPNET_NUM_THREADS", "3")
    problem = large_problem()
    reference = gradient_of(*problem)
    for _ in range(3):
        child = os.fork()
        if child == 0:
            os._exit(0 if np.array_equal(gradient_of(*problem), reference) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        np.testing.assert_array_equal(gradient_of(*problem), reference)


PARALLEL_CODE = """
import threading
import numba, numpy as np
from xpnet_kernels import cpu
from xpnet_kernels.cpu.gemm.numpy_product import matmul

@numba.njit(parallel=True)
def double(x):
    out = np.empty_like(x)
    for i in numba.prange(x.size):
        out[i] = 2 * x[i]
    return out

x = np.arange(100_000.0)
logits, labels = np.zeros((400, 5000), np.float32), np.arange(400)
for _ in range(3):
    assert (double(x) == 2 * x).all()
    losses = np.empty(400, np.float32)
    cpu.softmax_cross_entropy(logits, labels, summary=np.empty(4), losses=losses, gradient=np.empty_like(logits))
    assert np.allclose(losses, np.log(5000))
    assert numba.get_num_threads() == numba.config.NUMBA_NUM_THREADS
print("done")
"""


def test_the_users_own_parallel_code():
    result = subprocess.run(
        [sys.executable, "-c", PARALLEL_CODE], capture_output=True, text=True, timeout=120, check=False
    )
    assert result.stdout.strip() == "done", result.stderr
