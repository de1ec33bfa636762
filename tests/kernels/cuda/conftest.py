"""The equations of the kernel contract in NumPy and float64, and the devices that the kernels are tested on."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

# The cases in this folder need Numba's simulator: test_simulator.py runs them in a process that has it.
collect_ignore = [] if os.environ.get("NUMBA_ENABLE_CUDASIM") == "1" else ["simulator"]


MISSING = importlib.util.find_spec("numba_cuda") is None and "XPNET_REQUIRE_CUDA_COMPILE" not in os.environ


@pytest.fixture
def interpreted() -> Iterator[Any]:
    """A stand-in for CuPy over the host's memory; kernels are compiled, and run in the PTX interpreter."""
    if MISSING:
        pytest.skip("needs numba-cuda, whose compiler makes the PTX: pip install 'numba-cuda[cu13]'")
    from tests.emulated_cuda import emulated_cuda

    with emulated_cuda():
        import cupy

        yield cupy


@pytest.fixture
def gpu() -> Any:
    """CuPy, on a machine whose GPU works."""
    require = pytest.fail if "XPNET_REQUIRE_CUDA" in os.environ else pytest.skip
    if importlib.util.find_spec("cupy") is None or importlib.util.find_spec("numba_cuda") is None:
        require("needs CuPy and numba-cuda")
    import cupy

    if not cupy.is_available():
        require("needs a GPU")
    if os.environ.get("XPNET_TEST_POOL") == "none":  # `make sanitize`
        cupy.cuda.set_allocator(None)
    return cupy


@pytest.fixture(params=["interpreted", pytest.param("gpu", marks=pytest.mark.gpu)])
def cp(request: pytest.FixtureRequest) -> Any:
    """CuPy or its stand-in: a test that takes it runs on each device."""
    return request.getfixturevalue(request.param)


@dataclass
class Expected:
    """What the equations give."""

    summary: np.ndarray
    losses: np.ndarray
    gradient: np.ndarray
    log_sum_exp: np.ndarray
    predictions: np.ndarray


def cross_entropy(
    logits, labels, *, reduction="mean", upstream=None, label_smoothing=0.0, class_weights=None, row_weights=None,
    z_loss=0.0, ignore_index=None,
):  # fmt: skip
    """Evaluate the equations for logits whose every row has a finite maximum."""
    z = np.asarray(logits, np.float64)
    rows, columns = z.shape
    maximum = z.max(axis=1, keepdims=True)
    exponentials = np.exp(z - maximum)
    log_sum_exp = np.log(exponentials.sum(axis=1)) + maximum[:, 0]
    p = exponentials / exponentials.sum(axis=1, keepdims=True)
    w = np.ones(columns) if class_weights is None else np.asarray(class_weights, np.float64)
    r = np.ones(rows) if row_weights is None else np.asarray(row_weights, np.float64)
    if np.ndim(labels) == 2:
        t = np.asarray(labels, np.float64)
        classes, weights = t.argmax(axis=1), r
    else:
        r = np.where(labels == ignore_index, 0.0, r)
        classes = np.where(labels == ignore_index, 0, labels).astype(np.int64)
        t, weights = np.zeros((rows, columns)), r * w[classes]
        t[np.arange(rows), classes] = 1
    wq = w * ((1 - label_smoothing) * t + label_smoothing / columns)
    costs = np.multiply(wq, log_sum_exp[:, None] - z, where=wq != 0, out=np.zeros_like(z))
    losses = r * (costs.sum(axis=1) + z_loss * log_sum_exp**2)
    divisor = weights.sum() if reduction == "mean" else 1.0
    slope = wq.sum(axis=1) + 2 * z_loss * log_sum_exp
    scale = r / divisor * (1.0 if upstream is None else upstream)
    correct = (z.argmax(axis=1) == classes) & (r != 0)
    return Expected(
        summary=np.array([losses.sum() / divisor, weights.sum(), correct.sum(), -1]),
        losses=losses,
        gradient=scale[:, None] * (slope[:, None] * p - wq),
        log_sum_exp=log_sum_exp,
        predictions=z.argmax(axis=1),
    )


@pytest.fixture
def equations():
    """The reference for softmax cross-entropy."""
    return cross_entropy


def bfloat16(values):
    """The bits of the bfloat16 nearest to each value, ties to even: uint16."""
    bits = np.asarray(values, np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def widened(array):
    """The values of float16, float32, float64, or of bfloat16 in uint16, as float64."""
    if array.dtype == np.uint16:
        return (array.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return array.astype(np.float64)


# Options of the loss, for 5 rows and 13 classes.
_WEIGHTS = np.linspace(0, 2, 13, dtype=np.float32)
OPTIONS = {
    "sum": {"reduction": "sum", "upstream": 0.5},
    "none": {"reduction": "none", "upstream": np.array([0.5, -1, 2, 0, 1], np.float32)},
    "smoothing": {"label_smoothing": 0.1},
    "class weights": {"class_weights": _WEIGHTS},
    "weighted smoothing": {"label_smoothing": 0.3, "class_weights": _WEIGHTS},
    "row weights": {"row_weights": np.array([1, 0, 0.5, 2, 1], np.float32)},
    "z-loss": {"z_loss": 1e-2},
    "ignored": {"ignore_index": 3},
    "everything": {
        "label_smoothing": 0.1, "class_weights": _WEIGHTS, "z_loss": 1e-3, "ignore_index": 3, "upstream": 3.0,
        "row_weights": np.array([1, 0, 0.5, 2, 1], np.float32),
    },
}  # fmt: skip


@pytest.fixture(params=OPTIONS)
def options(request):
    """Each set of options in turn."""
    return OPTIONS[request.param]


@dataclass(frozen=True)
class Element:
    """An element type: how to make it, its relative rounding error, and half a step of its denormal numbers."""

    name: str
    cast: object
    accumulator: type
    epsilon: float
    smallest: float

    def bound(self, expected: Any, scale: Any, roundings: int) -> Any:
        """How far a result may be from ``expected``: so many roundings of terms of that magnitude, and one to store it.

        The terms are rounded in the accumulation type, which holds also what is read.
        """
        unit = np.finfo(self.accumulator).eps / 2
        computed = roundings * unit * scale
        return computed + self.epsilon * (np.abs(expected) + computed) + self.smallest


ELEMENTS = {
    "float32": Element("float32", np.float32, np.float32, 2.0**-24, 2.0**-150),
    "float64": Element("float64", np.float64, np.float64, 2.0**-53, 0.0),
    "float16": Element("float16", np.float16, np.float32, 2.0**-11, 2.0**-25),
    "bfloat16": Element("bfloat16", bfloat16, np.float32, 2.0**-8, 2.0**-134),
}


@pytest.fixture
def elements():
    """The element types by name."""
    return ELEMENTS


@pytest.fixture(params=ELEMENTS)
def element(request):
    """Each element type in turn."""
    return ELEMENTS[request.param]


@pytest.fixture
def as_float64():
    """The function that widens any element type."""
    return widened
