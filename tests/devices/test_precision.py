"""Passes in bfloat16 and in TF32: emulated by NumPy on the CPU, and computed by the CUDA kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import xpnet
from tests.devices.test_layers import LAYERS
from xpnet.backends import Backend
from xpnet.layers.preprocessing import Preprocessing

U = 2.0**-8  # bfloat16's unit roundoff: the relative error of one rounding
U32 = 2.0**-24
U_TF32 = 2.0**-11

SLOPES: dict[str | None, Callable[[np.ndarray], np.ndarray]] = {
    None: np.ones_like,
    "relu": lambda y: (y > 0) * 1.0,
    "sigmoid": lambda y: y * (1 - y),
    "tanh": lambda y: 1 - y**2,
}
FUNCTIONS: dict[str | None, Callable[[np.ndarray], np.ndarray]] = {
    None: lambda z: z,
    "relu": lambda z: np.maximum(z, 0),
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "tanh": np.tanh,
}


@pytest.fixture(params=["cpu-reference", "emulated", pytest.param("cuda", marks=pytest.mark.gpu)])
def bf16(request: pytest.FixtureRequest) -> Backend:
    """Each backend that computes in bfloat16."""
    name = request.param
    backend = xpnet.backend(name) if name == "cpu-reference" else request.getfixturevalue(name)
    return backend.at_precision("bf16")


def on_host(backend: Backend, array: Any) -> np.ndarray:
    return np.asarray(backend.to_numpy(array)).astype(np.float64)


def is_rounded(array: np.ndarray) -> np.ndarray:
    """Where the numbers are bfloat16's."""
    return array.astype(np.float32).view(np.uint32) % 2**16 == 0


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", SLOPES)
def test_linear_is_the_equation_but_for_its_roundings(bf16: Backend, activation: str | None, bias: bool) -> None:
    """Rounded once each: x, W, b, the product, the output; and dy, dz, dx. Sums are float32."""
    rows, inputs, outputs = 33, 40, 24
    random = np.random.default_rng(1)
    layer = xpnet.Linear(inputs, outputs, activation, bias=bias).initialize(bf16, seed=2)
    W = on_host(bf16, layer.parameters["W"])
    b = on_host(bf16, layer.parameters["b"]) if bias else np.zeros(outputs)
    x, dy = random.normal(size=(rows, inputs)), random.normal(size=(rows, outputs))
    context = xpnet.Context(bf16, training=True)
    output = layer.forward(bf16.asarray(x, "float32"), context)
    input_gradient = layer.backward(bf16.asarray(dy, "float32"), context)
    assert output.dtype == input_gradient.dtype == bf16.activation_dtype
    assert str(layer.gradients["W"].dtype) == "float32"

    def close(found: Any, expected: np.ndarray, bound: np.ndarray) -> None:
        error = np.abs(on_host(bf16, found) - expected)
        assert (error <= (1 + 8 * U) * bound).all(), f"{np.max(error / bound):.2f} bounds"
        assert error.max() > U / 64 * np.abs(expected).max()  # float32 would be far closer

    sizes = np.abs(x) @ np.abs(W)
    y = FUNCTIONS[activation](x @ W + b)
    close(output, y, (3 * U + 2 * inputs * U32) * sizes + U * np.abs(b) + U * np.abs(y))
    dz = dy * SLOPES[activation](on_host(bf16, output))  # of the rounded output, from which it is computed
    dW, db, dx = x.T @ dz, dz.sum(axis=0), dz @ W.T
    close(layer.gradients["W"], dW, (3 * U + 2 * rows * U32) * (np.abs(x).T @ np.abs(dz)))
    close(input_gradient, dx, (3 * U + 2 * outputs * U32) * (np.abs(dz) @ np.abs(W).T) + U * np.abs(dx))
    if bias:
        close(layer.gradients["b"], db, (2 * U + 2 * rows * U32) * np.abs(dz).sum(axis=0))
    assert is_rounded(on_host(bf16, output)).all()
    assert is_rounded(on_host(bf16, layer.gradients["W"])).mean() < 0.1  # sums that were never rounded


def pass_through(backend: Backend, name: str) -> dict[str, np.ndarray]:
    """The output and all gradients of a layer, called by a Sequential."""
    make, shape = LAYERS[name]
    model = xpnet.Sequential(make()).initialize(backend, seed=3)
    context = xpnet.Context(backend, training=True, seed=5)
    random = np.random.default_rng(0)
    x = random.integers(9, size=(30, *shape)) if model.takes_integers else random.normal(size=(30, *shape))
    if isinstance(model.layers[0], Preprocessing):
        model.layers[0].fit(x)
    with backend.on_device():
        y = model.forward(backend.narrowed(backend.asarray(x, model.input_dtype)), context)
        dy = backend.narrowed(backend.asarray(random.normal(size=y.shape), "float32"))
        dx = model.backward(dy, context)
    assert y.dtype == backend.activation_dtype
    assert dx is None or dx.dtype == backend.activation_dtype
    arrays = {"y": y, "dx": dx, **model.gradients, **{f"buffer {key}": view for key, view in model.buffers.items()}}
    assert {str(array.dtype) for key, array in arrays.items() if key not in ("y", "dx")} <= {"float32"}
    return {key: on_host(backend, array) for key, array in arrays.items() if array is not None}


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_agrees_with_its_emulation(emulated: Backend, name: str) -> None:
    """Each side rounds a few numbers at the same places; where a sum's order decides, to neighbours."""
    expected = pass_through(xpnet.backend("cpu-reference").at_precision("bf16"), name)
    found = pass_through(emulated.at_precision("bf16"), name)
    assert found.keys() == expected.keys()
    for key, array in found.items():
        np.testing.assert_allclose(array, expected[key], rtol=0, atol=6 * U * np.abs(expected[key]).max(), err_msg=key)
        assert array.size < 4 or np.median(np.abs(array - expected[key])) <= U * np.abs(expected[key]).max()


def test_statistics_are_those_of_float32(bf16: Backend) -> None:
    """The sum of bfloat16 numbers in bfloat16 would stop at 256 times one of them."""
    rows = 4000
    norm = xpnet.BatchNorm(2, momentum=0.5)
    model = xpnet.Sequential(xpnet.Flatten(), norm).initialize(bf16)
    x = np.stack([np.full(rows, 1.0), np.arange(rows) % 2 + 2.0], axis=1)
    with bf16.on_device():
        model.forward(bf16.narrowed(bf16.asarray(x, "float32")), xpnet.Context(bf16, training=True))
    np.testing.assert_allclose(on_host(bf16, norm.buffers["running_mean"]), [0.5, 1.25], rtol=1e-6)


def network(backend: Backend, dtype: str | None = None) -> xpnet.Sequential:
    layers = xpnet.Linear(64, 32, "tanh"), xpnet.Dropout(0.25), xpnet.LayerNorm(32), xpnet.Linear(32, 10)
    return xpnet.Sequential(xpnet.Flatten(), *layers).initialize(backend, seed=1, dtype=dtype)


def gradients(backend: Backend, dtype: str | None = None, loss: xpnet.Loss | None = None) -> tuple[float, np.ndarray]:
    """The loss of a batch of digits, and the gradient of all weights."""
    model, data = network(backend, dtype), xpnet.data.load("digits")
    loss = loss or xpnet.SoftmaxCrossEntropy()
    with backend.on_device():
        context = xpnet.Context(backend, training=True, seed=4)
        y = model.forward(backend.asarray(data.x_train[:50] / 16.0, model.dtype), context)
        result = loss.forward(y, backend.asarray(data.y_train[:50]), context)
        model.backward_parameters(result.gradient, context)
        return float(result.loss), on_host(backend, model.vectors.gradients.vector[: 64 * 32])


LOSSES: dict[str, Callable[[], xpnet.Loss]] = {
    "plain": xpnet.SoftmaxCrossEntropy,
    "smoothed": lambda: xpnet.SoftmaxCrossEntropy(label_smoothing=0.1),
    "weighted": lambda: xpnet.SoftmaxCrossEntropy(class_weights=np.linspace(0.5, 2.0, 10)),
    "masked": lambda: xpnet.SoftmaxCrossEntropy(ignore_index=3),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_a_networks_gradient_is_that_of_the_equation(bf16: Backend, loss: str) -> None:
    """On its way a gradient meets 14 roundings: weights, activations and gradients of four layers, and the loss's."""
    exact, expected = gradients(xpnet.backend("float64"), loss=LOSSES[loss]())
    value, found = gradients(bf16, loss=LOSSES[loss]())
    assert value == pytest.approx(exact, abs=4 * U)
    error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    assert U / 8 < error < 14 * U


def test_rows_of_probabilities(bf16: Backend) -> None:
    logits, targets = np.array([[1.0, 2.0, -3.0]]), np.array([[0.1, 0.2, 0.7]])
    with bf16.on_device():
        result = xpnet.SoftmaxCrossEntropy().forward(
            bf16.narrowed(bf16.asarray(logits, "float32")),
            bf16.asarray(targets, "float32"),
            xpnet.Context(bf16, training=True),
        )
    softmax = np.exp(logits) / np.exp(logits).sum()
    assert float(result.loss) == pytest.approx(-(targets * np.log(softmax)).sum(), rel=1e-6)
    np.testing.assert_allclose(on_host(bf16, result.gradient), softmax - targets, atol=U)


def test_tf32_rounds_the_factors_of_products_and_nothing_else(emulated: Backend) -> None:
    rows, inputs, outputs = 20, 300, 12
    random = np.random.default_rng(3)
    x, dy = random.normal(size=(rows, inputs)), random.normal(size=(rows, outputs))
    found = {}
    for precision in ("float32", "tf32"):
        backend = emulated.at_precision(precision)
        layer = xpnet.Linear(inputs, outputs).initialize(backend, seed=2)
        W = on_host(backend, layer.parameters["W"])
        with backend.on_device():
            context = xpnet.Context(backend, training=True)
            y = layer.forward(backend.asarray(x, "float32"), context)
            dx = layer.backward(backend.asarray(dy, "float32"), context)
        assert {str(array.dtype) for array in (y, dx, layer.gradients["W"])} == {"float32"}
        found[precision] = [on_host(backend, array) for array in (y, dx, *layer.gradients.values())]
    sizes = np.abs(x) @ np.abs(W), np.abs(dy) @ np.abs(W).T, np.abs(x).T @ np.abs(dy)
    for plain, rounded, size in zip(found["float32"], found["tf32"], sizes, strict=False):
        assert (np.abs(plain - rounded) <= 2.1 * U_TF32 * size).all()
        assert np.abs(plain - rounded).max() > 0.01 * U_TF32 * size.max()
    np.testing.assert_array_equal(found["float32"][3], found["tf32"][3])  # db: a sum, not a product
