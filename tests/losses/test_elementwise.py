"""xpnet.losses.elementwise: the losses with their reductions, and the targets that they refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest

import xpnet
from xpnet import BinaryCrossEntropy, Context, MeanSquaredError

OUTPUTS = np.array([[0.5, -1.0], [2.0, 0.0], [-0.25, 3.0]])
TARGETS = np.array([[1.0, 0.0], [0.25, 1.0], [0.0, 0.5]])
SIGMOID = 1 / (1 + np.exp(-OUTPUTS))
LOSSES = {
    MeanSquaredError: ((OUTPUTS - TARGETS) ** 2, 2 * (OUTPUTS - TARGETS)),
    BinaryCrossEntropy: (-TARGETS * np.log(SIGMOID) - (1 - TARGETS) * np.log(1 - SIGMOID), SIGMOID - TARGETS),
}
both = pytest.mark.parametrize("kind", LOSSES, ids=lambda kind: kind.__name__)


@both
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("reuse", [False, True])
def test_loss_and_gradient_are_the_definition(backend, kind, reduction, reuse) -> None:
    losses, gradient = LOSSES[kind]
    loss, context = kind(reduction), Context(backend, training=True, reuse=reuse)
    outputs, targets = backend.asarray(OUTPUTS), backend.asarray(TARGETS)
    for _ in range(2):
        result = loss.forward(outputs, targets, context)
        expected = gradient / (gradient.size if reduction == "mean" else 1)
        np.testing.assert_allclose(backend.to_numpy(result.gradient), expected, rtol=1e-13)
    value = loss(backend, outputs, targets)
    if reduction == "none":
        np.testing.assert_allclose(backend.to_numpy(value), losses, rtol=1e-13)
    else:
        assert float(value) == pytest.approx(losses.mean() if reduction == "mean" else losses.sum(), rel=1e-13)
        assert float(value) == float(result.loss)


@both
def test_a_whole_set_of_targets_is_checked_on_the_host(kind) -> None:
    loss = kind()
    loss.require_targets(np.zeros((4, 3)), (3,))
    loss.require_targets(np.zeros((4, 1)), (1,))
    loss.require_targets(np.zeros(4, np.uint8), (1,))
    for targets, outputs in ((np.zeros(4), (3,)), (np.zeros((4, 2)), (3,)), (np.zeros((4, 1)), (3,))):
        with pytest.raises(xpnet.ShapeError, match="expected a target for each output"):
            loss.require_targets(targets, outputs)


@pytest.mark.parametrize("bad", [-0.1, 1.5, math.nan])
def test_a_target_that_is_no_probability(bad) -> None:
    targets = np.array([[0.0, 1.0], [0.5, bad], [2.0, 0.0]])
    with pytest.raises(xpnet.OutOfRangeError, match=r"at row 1 is no probability: .* from 0 to 1"):
        BinaryCrossEntropy().require_targets(targets, (2,))
    MeanSquaredError().require_targets(targets, (2,))


@both
def test_an_unknown_reduction_is_refused(kind) -> None:
    with pytest.raises(xpnet.ConfigurationError, match="unknown reduction 'avg'; the choices are mean, sum, none"):
        kind("avg")


def test_a_loss_of_ones_own_defines_per_row(cpu) -> None:
    with pytest.raises(NotImplementedError, match="Loss defines neither per_row nor compute"):
        xpnet.Loss()(cpu, OUTPUTS, TARGETS)
