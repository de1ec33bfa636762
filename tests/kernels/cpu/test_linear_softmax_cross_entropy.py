"""The last layer fused with its loss, against the two in float64, and what memory it takes."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from xpnet_kernels.cpu import linear_softmax_cross_entropy, softmax_cross_entropy

OPTIONS = [
    {},
    {"reduction": "sum", "upstream": 3.0},
    {"reduction": "none", "upstream": np.linspace(-1, 1, 23)},
    {"label_smoothing": 0.1, "class_weights": np.linspace(0.5, 1.5, 31), "z_loss": 1e-3},
    {"row_weights": np.linspace(0, 2, 23), "ignore_index": 4},
]


class Problem:
    """A small last layer, and everything the kernel writes."""

    def __init__(self, dtype, rows=23, inputs=7, classes=31, bias=True):
        rng = np.random.default_rng(0)
        self.x, self.W = rng.normal(size=(rows, inputs)).astype(dtype), rng.normal(size=(inputs, classes)).astype(dtype)
        self.b = rng.normal(size=classes).astype(dtype) if bias else None
        self.labels = rng.integers(0, classes, rows)
        self.summary, self.losses = np.full(4, 7.0), np.full(rows, 7, dtype)
        self.log_sum_exp, self.predictions = np.full(rows, 7, dtype), np.full(rows, 7)
        self.dx, self.dW, self.db = (np.full(shape, 7, dtype) for shape in (self.x.shape, self.W.shape, classes))

    def run(self, **options):
        arguments = vars(self) | {"db": self.db} | options
        linear_softmax_cross_entropy(**arguments)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("chunk_rows", [None, 1, 5, 23, 100])
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "+".join(options) or "plain")
@pytest.mark.parametrize("bias", [True, False])
def test_against_the_two_layers(expected, dtype, chunk_rows, options, bias):
    options = {name: o.astype(dtype) if isinstance(o, np.ndarray) else o for name, o in options.items()}
    problem = Problem(dtype, bias=bias)
    problem.run(chunk_rows=chunk_rows, **options)
    x, W = problem.x.astype(np.float64), problem.W.astype(np.float64)
    reference = expected(x @ W + (problem.b.astype(np.float64) if bias else 0), problem.labels, **options)
    dz = reference.gradient
    tolerance = 1e-5 if dtype == np.float32 else 1e-13
    for array, exact in (
        (problem.losses, reference.losses),
        (problem.log_sum_exp, reference.log_sum_exp),
        (problem.dx, dz @ W.T),
        (problem.dW, x.T @ dz),
        (problem.db, dz.sum(axis=0)),
    ):
        np.testing.assert_allclose(array, exact, rtol=0, atol=tolerance * np.abs(exact).max())
    np.testing.assert_array_equal(problem.predictions, reference.predictions)
    np.testing.assert_allclose(problem.summary[:3], [reference.loss, reference.weights, reference.correct], rtol=1e-6)


def test_probabilities(expected):
    problem = Problem(np.float64)
    targets = np.random.default_rng(1).dirichlet(np.ones(31), 23)
    problem.run(labels=targets, chunk_rows=4)
    reference = expected(problem.x @ problem.W + problem.b, targets)
    np.testing.assert_allclose(problem.dW, problem.x.T @ reference.gradient, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("wanted", ["dx", "dW", "db", None])
def test_each_output_is_optional(wanted):
    everything, problem = Problem(np.float32), Problem(np.float32)
    everything.run(chunk_rows=6)
    problem.run(chunk_rows=6, **{name: None for name in ("dx", "dW", "db") if name != wanted})
    np.testing.assert_array_equal(problem.losses, everything.losses)
    for name in ("dx", "dW", "db"):
        reference = vars(everything)[name] if name == wanted else 7
        np.testing.assert_array_equal(vars(problem)[name], reference)


def test_no_rows():
    problem = Problem(np.float32, rows=0)
    problem.run()
    assert np.isnan(problem.summary[0])
    assert problem.summary[1:].tolist() == [0, 0, -1]
    assert (problem.dW == 0).all()
    assert (problem.db == 0).all()


def test_memory_is_that_of_a_chunk_of_logits():
    problem = Problem(np.float32, rows=2048, inputs=16, classes=32000)  # whose logits are 250 MiB
    Problem(np.float32).run()  # compiles what there is to compile
    tracemalloc.start()
    problem.run()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60 * 2**20


def test_chunks_change_the_loss_only_within_rounding():
    problem, whole = Problem(np.float32, 300, 40, 500), Problem(np.float32, 300, 40, 500)
    problem.run(chunk_rows=7)
    logits = whole.x @ whole.W + whole.b
    softmax_cross_entropy(logits, whole.labels, summary=whole.summary, losses=whole.losses)
    np.testing.assert_allclose(problem.losses, whole.losses, rtol=1e-5)


def test_invalid_arguments():
    problem = Problem(np.float32)
    for error, message, options in (
        (ValueError, r"W must have the shape \(7, 31\), not \(6, 31\)", {"W": problem.W[:6]}),
        (TypeError, "W must be float32, not float64", {"W": problem.W.astype(np.float64)}),
        (ValueError, r"b must have the shape \(31,\), not \(30,\)", {"b": problem.b[:30]}),
        (ValueError, r"dW must have the shape \(7, 31\), not \(31, 7\)", {"dW": problem.dW.T}),
        (ValueError, "dx is an output, but shares memory with x", {"dx": problem.x}),
        (ValueError, "chunk_rows must be at least 1, not 0", {"chunk_rows": 0}),
        (IndexError, "the label of row 22 is 31", {"labels": np.append(problem.labels[:-1], 31)}),
    ):
        with pytest.raises(error, match=message):
            problem.run(**options)
    for name in ("summary", "losses", "dx", "dW", "db", "log_sum_exp", "predictions"):
        assert (vars(problem)[name] == 7).all()
