"""xpnet.layers.normalization: equations, running statistics, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

import xpnet
from xpnet import BatchNorm, Context, LayerNorm, Sequential

TRAINING = {"float32": 1e-5, "float64": 1e-13}


def statistics(layer) -> tuple[np.ndarray, np.ndarray]:
    to_numpy = layer.require_backend().to_numpy
    return tuple(np.array(to_numpy(layer.buffers[name])) for name in ("running_mean", "running_variance"))


def with_random_parameters(layer, backend, numbers, dtype="float64"):
    layer.initialize(backend, dtype=dtype)
    for view in layer.parameters.values():
        view[...] = backend.asarray(numbers(view.shape), dtype)
    return layer, *(np.array(backend.to_numpy(view), np.float64) for view in layer.parameters.values())


@pytest.mark.parametrize("dtype", TRAINING)
@pytest.mark.parametrize("shape", [(8, 3), (2, 3, 4, 5), (1, 3, 2, 1)])
def test_the_running_statistics_follow_three_batches(backend, numbers, shape, dtype) -> None:
    layer = BatchNorm(3, momentum=0.25).initialize(backend, dtype=dtype)
    mean, variance, axes = np.zeros(3), np.ones(3), tuple(a for a in range(len(shape)) if a != 1)
    for batch in range(3):
        x = (2 * numbers(shape) + batch).astype(dtype)
        layer.forward(backend.asarray(x), Context(backend, training=True))
        mean = 0.75 * mean + 0.25 * x.mean(axis=axes, dtype=np.float64)
        variance = 0.75 * variance + 0.25 * x.var(axis=axes, dtype=np.float64, ddof=1)
    ours = statistics(layer)
    np.testing.assert_allclose(ours[0], mean, rtol=TRAINING[dtype], atol=TRAINING[dtype])
    np.testing.assert_allclose(ours[1], variance, rtol=TRAINING[dtype])

    layer, gamma, beta = layer, *(np.array(backend.to_numpy(view)) for view in layer.parameters.values())
    x, beside = numbers(shape).astype(dtype), (-1,) + (1,) * (len(shape) - 2)
    scale = (gamma / np.sqrt(ours[1].astype(np.float64) + 1e-5)).reshape(beside)
    expected = (x - ours[0].reshape(beside)) * scale + beta.reshape(beside)
    np.testing.assert_allclose(
        backend.to_numpy(layer(backend.asarray(x))), expected, rtol=TRAINING[dtype], atol=TRAINING[dtype]
    )
    np.testing.assert_array_equal(statistics(layer), ours)  # inference leaves them alone


def test_the_statistics_are_written_in_place_and_are_the_models(backend, numbers) -> None:
    model = Sequential(BatchNorm(2), BatchNorm(2)).initialize(backend)
    assert list(model.buffers) == [f"{place}.running_{what}" for place in "01" for what in ("mean", "variance")]
    vector = model.vectors.buffers.vector
    model.forward(backend.asarray(3 + numbers((6, 2)), "float32"), Context(backend, training=True))
    assert model.vectors.buffers.vector is vector
    for name, view in model.buffers.items():
        place, what = name.split(".")
        np.testing.assert_array_equal(backend.to_numpy(model.layers[int(place)].buffers[what]), backend.to_numpy(view))
    assert abs(backend.to_numpy(model.buffers["0.running_mean"]) - 0.3).max() < 0.15


@pytest.mark.parametrize("shape", [(5, 3), (2, 3, 2, 2)])
def test_batch_norm_scales_and_shifts_by_its_parameters(backend, numbers, passes, shape) -> None:
    layer, gamma, beta = with_random_parameters(BatchNorm(3), backend, numbers)
    x, dy = numbers(shape), numbers(shape)
    y, _, gradients = passes(layer, x, dy)
    axes, beside = tuple(a for a in range(len(shape)) if a != 1), (-1,) + (1,) * (len(shape) - 2)
    normalized = (x - x.mean(axis=axes, keepdims=True)) / np.sqrt(x.var(axis=axes, keepdims=True) + 1e-5)
    np.testing.assert_allclose(y, gamma.reshape(beside) * normalized + beta.reshape(beside), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(gradients["gamma"], (dy * normalized).sum(axis=axes), rtol=1e-12)
    np.testing.assert_allclose(gradients["beta"], dy.sum(axis=axes), rtol=1e-12)
    checks = xpnet.check_gradients(layer, x)
    assert [check.name for check in checks] == ["input", "gamma", "beta"]
    assert max(check.error for check in checks) <= 1e-6


@pytest.mark.parametrize("shape", [(4, 3), (2, 5, 3)])
def test_layer_norm_is_the_equation(backend, numbers, passes, shape) -> None:
    layer, gamma, beta = with_random_parameters(LayerNorm(3), backend, numbers)
    x, dy = numbers(shape), numbers(shape)
    y, _, gradients = passes(layer, x, dy)
    normalized = (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(y, gamma * normalized + beta, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(gradients["gamma"], (dy * normalized).reshape(-1, 3).sum(axis=0), rtol=1e-12)
    np.testing.assert_allclose(gradients["beta"], dy.reshape(-1, 3).sum(axis=0), rtol=1e-12)
    assert max(check.error for check in xpnet.check_gradients(layer, x)) <= 1e-6


def test_a_fresh_layer_has_the_identity_as_its_map(backend) -> None:
    layer = BatchNorm(2, epsilon=0.0).initialize(backend)
    assert statistics(layer)[0].tolist() == [0.0, 0.0]
    assert statistics(layer)[1].tolist() == [1.0, 1.0]
    x = np.array([[1.0, -7.5]], np.float32)
    np.testing.assert_array_equal(backend.to_numpy(layer(backend.asarray(x))), x)


@pytest.mark.parametrize("shape", [(1, 3), (0, 3), (1, 3, 1, 1), (5, 3, 0, 2)])
def test_a_batch_without_a_variance_is_refused_and_changes_nothing(backend, shape) -> None:
    layer = BatchNorm(3).initialize(backend)
    before = statistics(layer)
    x = backend.asarray(np.ones(shape, np.float32))
    with pytest.raises(xpnet.ShapeError, match=r"BatchNorm\(3\) needs at least 2 values per channel in training"):
        layer.forward(x, Context(backend, training=True))
    np.testing.assert_array_equal(statistics(layer), before)
    assert tuple(layer(x).shape) == shape  # in inference any batch will do


def test_gradient_checks_leave_the_statistics_alone(backend, numbers) -> None:
    layer = BatchNorm(3).initialize(backend, dtype="float64")
    before = statistics(layer)
    xpnet.check_gradients(layer, 5 + numbers((4, 3)))
    np.testing.assert_array_equal(statistics(layer), before)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BatchNorm(0), "features must be a whole number of at least 1, not 0"),
        (lambda: BatchNorm(2, momentum=1.0), "momentum must be a number of at least 0.0 and below 1.0, not 1.0"),
        (lambda: BatchNorm(2, epsilon=-1), "epsilon must be a number of at least 0.0, not -1"),
        (lambda: LayerNorm(2.5), "features must be a whole number of at least 1, not 2.5"),
        (lambda: LayerNorm(2, epsilon=float("nan")), "epsilon must be a number of at least 0.0, not nan"),
    ],
)
def test_arguments_that_cannot_work(make, message) -> None:
    with pytest.raises(xpnet.ConfigurationError) as error:
        make()
    assert str(error.value) == message


@pytest.mark.parametrize("shape", [(4, 2), (4, 2, 3), (4,)])
def test_shapes_that_do_not_fit(backend, shape) -> None:
    x = backend.asarray(np.ones(shape, np.float32))
    with pytest.raises(xpnet.ShapeError, match=r"BatchNorm\(3\) takes samples of shape \(3,\) or \(3, height, width\)"):
        BatchNorm(3).initialize(backend)(x)
    with pytest.raises(xpnet.ShapeError, match=r"LayerNorm\(4\) takes samples whose last axis has length 4, not"):
        LayerNorm(4).initialize(backend)(x)
