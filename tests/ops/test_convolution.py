"""xpnet.ops.convolution: the sums in float64, whole batches and parts, and the derivatives."""

from __future__ import annotations

import math

import numpy as np
import pytest

from xpnet import ops
from xpnet.ops import convolution

ACTIVATIONS = {
    None: lambda z: z,
    "relu": lambda z: max(z, 0.0),
    "sigmoid": lambda z: 1 / (1 + math.exp(-z)),
    "tanh": math.tanh,
}
CASES = [  # images (N, H, W, C), kernels (size, size, C, outputs), stride
    ((2, 5, 6, 3), (3, 3, 3, 4), 1),
    ((3, 7, 5, 1), (2, 2, 1, 3), 2),
    ((1, 8, 7, 2), (3, 3, 2, 1), 2),
    ((2, 4, 4, 2), (4, 4, 2, 3), 1),
    ((2, 3, 3, 2), (1, 1, 2, 2), 2),
]


def by_sums(x, W, b, stride: int, activation: str | None) -> np.ndarray:
    """The definition, in exactly rounded sums."""
    (N, H, width, _), (size, _, _, outputs) = x.shape, W.shape
    tops, lefts = range(0, H - size + 1, stride), range(0, width - size + 1, stride)
    y = np.empty((N, len(tops), len(lefts), outputs))
    for n, r, s, o in np.ndindex(y.shape):
        patch = x[n, tops[r] : tops[r] + size, lefts[s] : lefts[s] + size].astype(np.float64)
        y[n, r, s, o] = ACTIVATIONS[activation](math.fsum([b[o], *(patch * W[..., o]).reshape(-1)]))
    return y


@pytest.fixture(params=["whole", "in parts"])
def split(request, monkeypatch) -> bool:
    """Whether a batch is taken in parts: of one image each, for these sizes."""
    if request.param == "in parts":
        monkeypatch.setattr(convolution, "_MAX_COLUMNS", 1)
    return request.param == "in parts"


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 5e-6), ("float64", 1e-14)])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("images", "kernels", "stride"), CASES)
def test_forward_is_the_equation(
    backend, numbers, split, images, kernels, stride, activation, dtype, tolerance
) -> None:
    x, W, b = (numbers(shape).astype(dtype) for shape in (images, kernels, kernels[-1:]))
    y, columns = ops.convolve(backend, *map(backend.asarray, (x, W, b)), stride, activation)
    assert y.dtype == getattr(backend.xp, dtype)
    assert columns.shape[0] == (1 if split else len(x))
    np.testing.assert_allclose(backend.to_numpy(y), by_sums(x, W, b, stride, activation), rtol=0, atol=tolerance)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(
    ("images", "kernels", "stride"), [((2, 3, 4, 2), (2, 2, 2, 3), 1), ((2, 5, 4, 1), (3, 3, 1, 2), 2)]
)
def test_backward_is_the_derivative(
    backend, numbers, split, assert_derivative, images, kernels, stride, activation
) -> None:
    arrays = {"x": numbers(images), "W": 0.5 * numbers(kernels), "b": numbers(kernels[-1:])}
    if activation == "relu":
        assert abs(by_sums(*arrays.values(), stride, None)).min() > 1e-4  # away from the kink
    on_device = {name: backend.asarray(array) for name, array in arrays.items()}
    y, columns = ops.convolve(backend, *on_device.values(), stride, activation)
    dy = numbers(y.shape)
    dW, db = (backend.xp.full_like(on_device[name], np.nan) for name in ("W", "b"))
    x, W, _ = on_device.values()
    dx = ops.convolve_backward(backend, backend.asarray(dy), x, y, columns, W, stride, activation, dW, db)
    for name, gradient in (("x", dx), ("W", dW), ("b", db)):

        def scalar(at: np.ndarray, name: str = name) -> float:
            inputs = on_device | {name: backend.asarray(at)}
            y, _ = ops.convolve(backend, *inputs.values(), stride, activation)
            return float(np.sum(dy * backend.to_numpy(y)))

        assert_derivative(backend.to_numpy(gradient), scalar, arrays[name])


@pytest.mark.parametrize("images", [(4, 5, 5, 2), (0, 5, 5, 2)])
def test_parts_give_what_the_whole_gives(backend, numbers, monkeypatch, images) -> None:
    """Parts of two, the last of one, and no images at all."""
    W, b = backend.asarray(numbers((3, 3, 2, 4))), backend.asarray(numbers(4))
    x = backend.asarray(numbers((max(images[0] - 1, 0), *images[1:])))
    outcomes = []
    for limit in (convolution._MAX_COLUMNS, 2 * 3 * 3 * 3 * 3 * 2):
        monkeypatch.setattr(convolution, "_MAX_COLUMNS", limit)
        y, columns = ops.convolve(backend, x, W, b, 1, "tanh")
        dW, db = backend.xp.full_like(W, np.nan), backend.xp.full_like(b, np.nan)
        dx = ops.convolve_backward(backend, y, x, y, columns, W, 1, "tanh", dW, db)
        outcomes.append([backend.to_numpy(array) for array in (y, dx, dW, db)])
        assert columns.shape[0] == min(x.shape[0], limit // (3 * 3 * 3 * 3 * 2))
    for whole, parts in zip(*outcomes, strict=True):
        assert np.isfinite(whole).all()
        np.testing.assert_allclose(parts, whole, rtol=1e-13, atol=1e-13)


def test_given_memory_is_used_and_changes_nothing(backend, numbers) -> None:
    x, W, b = (backend.asarray(numbers(shape)) for shape in ((3, 5, 5, 2), (2, 2, 2, 3), (3,)))
    empty = backend.xp.empty_like
    y, columns = ops.convolve(backend, x, W, b, 1, "relu")
    dy, dW, db = backend.asarray(numbers(y.shape)), empty(W), empty(b)
    dx = ops.convolve_backward(backend, dy, x, y, columns, W, 1, "relu", dW, db)

    memory = backend.xp.full_like(columns, np.nan), backend.xp.full_like(y, np.nan)
    again, unfolded = ops.convolve(backend, x, W, b, 1, "relu", *memory)
    assert (unfolded is memory[0], again is memory[1]) == (True, True)
    np.testing.assert_array_equal(backend.to_numpy(again), backend.to_numpy(y))
    out, dW_again, db_again = empty(x), empty(W), empty(b)
    result = ops.convolve_backward(
        backend, dy, x, again, unfolded, W, 1, "relu", dW_again, db_again, out=out, dz=empty(y), dcolumns=empty(columns)
    )
    assert result is out
    for ours, theirs in ((out, dx), (dW_again, dW), (db_again, db)):
        np.testing.assert_array_equal(backend.to_numpy(ours), backend.to_numpy(theirs))


def test_without_the_input_gradient_the_others_are_the_same(backend, numbers, split) -> None:
    x, W, b = (backend.asarray(numbers(shape)) for shape in ((3, 5, 5, 2), (2, 2, 2, 3), (3,)))
    y, columns = ops.convolve(backend, x, W, b)
    gradients = []
    for wanted in (True, False):
        dW, db = backend.xp.empty_like(W), backend.xp.empty_like(b)
        dx = ops.convolve_backward(backend, y, x, y, columns, W, 1, None, dW, db, input_gradient=wanted)
        assert (dx is not None) == wanted
        gradients.append([backend.to_numpy(dW).tolist(), backend.to_numpy(db).tolist()])
    assert gradients[0] == gradients[1]


def test_the_columns_of_a_large_batch_are_those_of_a_part() -> None:
    patch = 24 * 24 * 25
    assert ops.columns_shape((100, 28, 28, 1), 5) == (100, 24, 24, 5, 5)
    assert ops.columns_shape((10**6, 28, 28, 1), 5)[0] == 2**23 // patch
    assert ops.columns_shape((10, 5000, 5000, 1), 5)[0] == 1  # an image is not divided
