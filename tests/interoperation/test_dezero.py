"""DeZero's weights: Linear as xpnet has it, Conv2d as PyTorch has it, in any order of names."""

from __future__ import annotations

import numpy as np
import pytest

from xpnet import BatchNorm, Embedding, Flatten, Sequential, import_weights
from xpnet.backends import Backend
from xpnet.errors import FileFormatError, ShapeError

Weights = dict[str, np.ndarray]


@pytest.fixture
def arrays(state: Weights) -> Weights:
    """The weights as DeZero names them, in the order of a set."""
    named = {}
    for name in ("fc2", "conv", "fc10", "fc1"):
        weight = state[f"{name}.weight"]
        named[f"{name}/b"] = state[f"{name}.bias"]
        named[f"{name}/W"] = weight if name == "conv" else weight.T
    return named


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_the_same_logits(network: Sequential, arrays: Weights, x: np.ndarray, pytorch_logits: np.ndarray, save) -> None:
    save("theirs.npz", **arrays)
    import_weights(network, "theirs.npz")
    np.testing.assert_allclose(network.predict(x), pytorch_logits, rtol=1e-5, atol=1e-5)


def test_embeddings_and_statistics(backend: Backend, draws: np.random.Generator) -> None:
    W = draws.standard_normal((7, 3))
    gamma, beta, mean, variance = draws.uniform(0.5, 2.0, (4, 6))
    norm = {"l1/avg_var": variance, "l1/beta": beta, "l1/avg_mean": mean, "l1/gamma": gamma}
    np.savez("theirs.npz", **{"l0/W": W}, **norm)
    model = Sequential(Embedding(7, 3), Flatten(), BatchNorm(6, epsilon=2e-5)).initialize(backend)
    import_weights(model, "theirs.npz")
    x = draws.integers(7, size=(4, 2))
    y = (W[x].reshape(4, 6) - mean) / np.sqrt(variance + 2e-5) * gamma + beta
    np.testing.assert_allclose(model.predict(x), y, rtol=1e-5, atol=1e-5)


def test_what_does_not_fit(cpu_network: Sequential, arrays: Weights) -> None:
    del arrays["fc10/b"]  # nobias=True
    np.savez("theirs.npz", **arrays)
    with pytest.raises(
        ShapeError, match=r"layer 6 \(Linear\) needs W \(12, 4\) and b \(4,\); 'fc10' fits, but has no b"
    ):
        import_weights(cpu_network, "theirs.npz")
    np.savez("theirs.npz", **arrays, **{"fc10/b": np.array(None)})  # a layer that never saw an input
    with pytest.raises(FileFormatError, match=r"plain arrays: .*; expected the weights of DeZero \(l0/W\) or of Keras"):
        import_weights(cpu_network, "theirs.npz")
    np.savez("theirs.npz")
    with pytest.raises(ShapeError, match="the file has no more layers"):
        import_weights(cpu_network, "theirs.npz")
