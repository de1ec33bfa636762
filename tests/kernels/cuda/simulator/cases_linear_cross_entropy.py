"""The last layer and its loss in the simulator, with NumPy's matrix products. Run by test_simulator.py."""

from __future__ import annotations

import numpy as np
import pytest
from xpnet_kernels.cuda import linear_softmax_cross_entropy


@pytest.mark.parametrize("chunk_rows", [None, 1, 3, 7, 100])
@pytest.mark.parametrize("biased", [True, False])
def test_loss_and_gradients(equations, chunk_rows, biased):
    random = np.random.default_rng(0)
    x, W = random.normal(size=(7, 5)), random.normal(size=(5, 11))
    b = random.normal(size=11) if biased else None
    labels = np.array([0, 10, 4, 4, 2, 9, 1])
    options = {"label_smoothing": 0.1, "row_weights": np.linspace(0.5, 2, 7), "ignore_index": 9}
    summary, losses = np.empty(4), np.empty(7)
    dx, dW, db = np.full_like(x, 7), np.full_like(W, 7), np.full(11, 7.0)
    linear_softmax_cross_entropy(
        x, W, b, labels, summary=summary, losses=losses, dx=dx, dW=dW, db=db, chunk_rows=chunk_rows, **options
    )
    expected = equations(x @ W + (b if biased else 0), labels, **options)
    assert summary == pytest.approx(expected.summary, rel=1e-14)
    assert losses == pytest.approx(expected.losses, rel=1e-13)
    assert dx == pytest.approx(expected.gradient @ W.T, abs=1e-14)
    assert dW == pytest.approx(x.T @ expected.gradient, abs=1e-14)
    assert db == pytest.approx(expected.gradient.sum(axis=0), abs=1e-14)


def test_no_rows_and_no_gradients():
    summary, dW = np.empty(4), np.full((5, 11), 7.0)
    linear_softmax_cross_entropy(
        np.zeros((0, 5)), np.zeros((5, 11)), None, np.zeros(0, np.int64), summary=summary, losses=np.empty(0), dW=dW
    )
    assert (dW == 0).all()
    assert np.isnan(summary[0])


def test_wrong_arguments_say_what_is_wrong():
    given = {"summary": np.empty(4), "losses": np.empty(2)}
    with pytest.raises(ValueError, match=r"W must have the shape \(5, 11\), not \(4, 11\)"):
        linear_softmax_cross_entropy(np.zeros((2, 5)), np.zeros((4, 11)), None, np.zeros(2, np.int64), **given)
    with pytest.raises(ValueError, match="chunk_rows must be at least 1, not 0"):
        linear_softmax_cross_entropy(
            np.zeros((2, 5)), np.zeros((5, 11)), None, np.zeros(2, np.int64), chunk_rows=0, **given
        )
