"""xpnet.layers.residual: the sum, its gradient, and shapes that cannot be added."""

from __future__ import annotations

import numpy as np
import pytest

import xpnet
from xpnet import Constant, Context, Linear, Residual, Sequential, Tanh


@pytest.mark.parametrize("reuse", [False, True])
def test_it_adds_its_input_to_what_its_layers_make(backend, numbers, passes, reuse) -> None:
    block = Residual(Linear(3, 5, "tanh"), Linear(5, 3)).initialize(backend, seed=2, dtype="float64")
    x, dy = numbers((4, 3)), numbers((4, 3))
    W1, b1, W2, b2 = (np.array(backend.to_numpy(view)) for view in block.parameters.values())
    hidden = np.tanh(x @ W1 + b1)
    y, dx, gradients = passes(block, x, dy, Context(backend, training=True, reuse=reuse))
    np.testing.assert_allclose(y, x + hidden @ W2 + b2, rtol=1e-13)
    dz = (dy @ W2.T) * (1 - hidden**2)
    np.testing.assert_allclose(dx, dy + dz @ W1.T, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(gradients["0.W"], x.T @ dz, rtol=1e-12, atol=1e-14)


def test_blocks_in_a_model(backend, numbers) -> None:
    """The first layer's gradient reaches it past the blocks and through them; names go by place."""
    model = Sequential(Residual(Linear(3, 3, "tanh")), Residual(Residual(Tanh()), Linear(3, 3)), Linear(3, 2))
    model.initialize(backend, dtype="float64")
    assert list(model.parameters) == ["0.0.W", "0.0.b", "1.1.W", "1.1.b", "2.W", "2.b"]
    assert max(check.error for check in xpnet.check_gradients(model, numbers((4, 3)))) <= 1e-6
    assert model.output_shape((3,)) == (2,)
    assert [line.split()[:2] for line in model.summary((3,)).split("\n")[1:3]] == [["0", "Residual"], ["1", "Residual"]]


def test_the_parameters_gradients_alone_are_the_same(backend, numbers, passes) -> None:
    block = Residual(Linear(3, 5, "tanh"), Linear(5, 3)).initialize(backend, dtype="float64")
    x, dy, context = numbers((4, 3)), numbers((4, 3)), Context(backend, training=True)
    _, _, gradients = passes(block, x, dy)
    block.vectors.gradients.vector[...] = 0.0
    block.forward(backend.asarray(x), context)
    block.backward_parameters(backend.asarray(dy), context)
    for name, gradient in gradients.items():
        np.testing.assert_array_equal(backend.to_numpy(block.gradients[name]), gradient)


def test_layers_that_change_the_shape(backend) -> None:
    block = Residual(Linear(3, 1, weights=Constant(1.0)))
    message = r"the layers of a Residual change samples of shape \(3,\) to \(1,\): their output must have the shape"
    with pytest.raises(xpnet.ShapeError, match=message):
        block.output_shape((3,))
    with pytest.raises(xpnet.ShapeError, match=message):  # though NumPy would add the one column to each
        block.initialize(backend)(backend.asarray(np.ones((4, 3))))


def test_what_it_cannot_be_made_of() -> None:
    with pytest.raises(xpnet.ConfigurationError, match="a Residual needs at least one layer"):
        Residual()
    with pytest.raises(xpnet.ConfigurationError, match="layer 0 of a Residual must be a Layer, not 3"):
        Residual(3)
