"""The kernels against their equations in float64: values, bits, streams, graphs, bad input.

On two devices: in the PTX interpreter, which needs no GPU, and on a GPU.
"""

from __future__ import annotations

import numpy as np
import pytest

from xpnet import random as philox

at_length = pytest.mark.cuda_compile  # in the interpreter not with each `make test`

SHAPES = [
    (1, 1), (100, 10), (700, 10), (40, 64), (64, 1000), (33, 1001), (16, 2048), (5, 4099), (4, 32000), (4, 32768),
    (3, 50257), (2, 128256),
]  # fmt: skip
SOME = [(1, 1), (100, 10), (33, 1001), (5, 4099)]


ACTIVATIONS = {
    None: (lambda x: x, np.ones_like),
    "relu": (lambda x: np.maximum(x, 0), lambda y: (y > 0) * 1.0),
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), lambda y: y * (1 - y)),
    "tanh": (np.tanh, lambda y: 1 - y * y),
}


@pytest.fixture
def random():
    return np.random.default_rng(0)


def outputs(cp, logits, accumulator=np.float32):
    rows = len(logits)
    return {
        "summary": cp.full(4, 7.0),
        "losses": cp.full(rows, 7, accumulator),
        "gradient": cp.full_like(logits, 7),
        "log_sum_exp": cp.full(rows, 7, accumulator),
        "predictions": cp.full(rows, 7, np.int64),
    }


def to_host(arrays):
    return {name: array.get() for name, array in arrays.items()}


def cross_entropy(cp, logits, labels, accumulator=np.float32, **options):
    """Run the kernel on copies of host arrays; return host arrays."""
    from xpnet_kernels.cuda import softmax_cross_entropy

    device = cp.asarray(logits)
    written = outputs(cp, device, accumulator)
    on_device = {name: cp.asarray(value) if isinstance(value, np.ndarray) else value for name, value in options.items()}
    softmax_cross_entropy(device, cp.asarray(labels), **written, **on_device)
    return to_host(written)


def check(written, expected, scale):
    assert written["losses"] == pytest.approx(expected.losses, rel=1e-6, abs=1e-6)
    assert written["log_sum_exp"] == pytest.approx(expected.log_sum_exp, rel=1e-6, abs=1e-6)
    assert written["summary"] == pytest.approx(expected.summary, rel=2e-7, abs=2e-7)
    assert (written["predictions"] == expected.predictions).all()
    assert np.abs(written["gradient"] - expected.gradient).max() <= 2e-7 * scale


@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_cross_entropy(cp, random, equations, rows, columns):
    logits = random.normal(scale=4, size=(rows, columns)).astype(np.float32)
    labels = random.integers(0, columns, rows)
    check(cross_entropy(cp, logits, labels), equations(logits, labels), scale=1 / rows)


@pytest.mark.parametrize(
    ("rows", "columns"), [shape if shape in SOME else pytest.param(*shape, marks=at_length) for shape in SHAPES]
)
def test_cross_entropy_of_every_element_type(cp, random, equations, element, as_float64, rows, columns):
    logits = element.cast(random.normal(scale=2, size=(rows, columns)))
    labels = random.integers(0, columns, rows).astype(np.int32)
    written = cross_entropy(cp, logits, labels, element.accumulator)
    expected = equations(as_float64(logits), labels)
    tolerance = 1e-13 if element.accumulator is np.float64 else 1e-6
    assert written["losses"] == pytest.approx(expected.losses, rel=tolerance, abs=tolerance)
    assert (written["predictions"] == expected.predictions).all()
    rounding = np.abs(expected.gradient) * element.epsilon
    error = np.abs(as_float64(written["gradient"]) - expected.gradient)
    assert (error <= rounding + tolerance / rows + element.smallest).all()


def test_options(cp, random, equations, options):
    logits = random.normal(scale=2, size=(5, 13)).astype(np.float32)
    labels = np.array([12, 3, 0, 7, 3], np.int32)
    check(cross_entropy(cp, logits, labels, **options), equations(logits, labels, **options), scale=6)
    if "ignore_index" not in options:
        targets = random.dirichlet(np.ones(13), 5).astype(np.float32)
        check(cross_entropy(cp, logits, targets, **options), equations(logits, targets, **options), scale=6)


@pytest.mark.parametrize("ignoring", [False, pytest.param(True, marks=at_length)])
def test_options_over_many_rows(cp, random, equations, ignoring):
    """More than a block of rows: weights, rows and total in launches of their own."""
    logits = random.normal(scale=2, size=(40_000, 37)).astype(np.float32)
    labels = random.integers(0, 37, 40_000)
    options = {"class_weights": random.uniform(size=37).astype(np.float32), "label_smoothing": 0.1}
    if ignoring:
        options = {"ignore_index": 5, "row_weights": random.uniform(size=40_000).astype(np.float32)}
    written, expected = cross_entropy(cp, logits, labels, **options), equations(logits, labels, **options)
    assert written["summary"] == pytest.approx(expected.summary, rel=1e-6)
    assert np.abs(written["gradient"] - expected.gradient).max() * 40_000 <= 1e-6


def test_rows_apart_and_unaligned(cp, random, equations):
    from xpnet_kernels.cuda import softmax_cross_entropy

    memory = random.normal(size=(9, 3000)).astype(np.float32)
    logits = cp.asarray(memory)[:, 1:2900]
    gradient = cp.full((9, 3100), 7, np.float32)
    labels = random.integers(0, 2899, 9)
    written = outputs(cp, logits) | {"gradient": gradient[:, 2:2901]}
    softmax_cross_entropy(logits, cp.asarray(labels), **written)
    check(to_host(written), equations(memory[:, 1:2900], labels), scale=1 / 9)
    assert (gradient[:, :2] == 7).all()
    assert (gradient[:, 2901:] == 7).all()


@pytest.mark.parametrize("columns", [10, 1000, 40_000])
def test_in_place(cp, random, equations, columns):
    from xpnet_kernels.cuda import softmax_cross_entropy

    logits = random.normal(size=(6, columns)).astype(np.float32)
    labels = random.integers(0, columns, 6)
    device = cp.asarray(logits)
    written = outputs(cp, device) | {"gradient": device}
    softmax_cross_entropy(device, cp.asarray(labels), **written, in_place=True)
    check(to_host(written), equations(logits, labels), scale=1 / 6)


@pytest.mark.parametrize("rows", [4, 4000])
def test_bad_labels_touch_nothing_else(cp, random, equations, rows):
    logits = random.normal(size=(rows, 10)).astype(np.float32)
    labels = random.integers(0, 10, rows)
    labels[[1, 3]] = 10, -(2**40)
    written = cross_entropy(cp, logits, labels)
    bad = np.isin(np.arange(rows), [1, 3])
    assert (np.isnan(written["losses"]) == bad).all()
    assert (np.isnan(written["gradient"]).all(axis=1) == bad).all()
    assert np.isnan(written["summary"][0])
    assert written["summary"][3] == 1
    good = equations(logits[~bad], labels[~bad], reduction="sum")
    assert written["losses"][~bad] == pytest.approx(good.losses, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("columns", [10, 3000, 70_000])
def test_rows_that_are_not_finite(cp, random, columns):
    logits = random.normal(size=(6, columns)).astype(np.float32)
    logits[0, : columns // 2] = -np.inf
    logits[1] = -np.inf
    logits[2, 4] = np.inf
    logits[3, [6, 8]] = np.nan
    logits[4, columns - 1] = np.nan
    written = cross_entropy(cp, logits, np.full(6, columns - 2))
    assert np.isnan(written["losses"]).tolist() == [False, True, True, True, True, False]
    assert np.isnan(written["gradient"]).all(axis=1).tolist() == [False, True, True, True, True, False]
    assert (written["predictions"] == [np.argmax(row) for row in logits]).all()


@pytest.mark.gpu
def test_more_than_2_to_the_31_elements(gpu, equations, as_float64):
    from xpnet_kernels.cuda import softmax_cross_entropy

    rows, columns = 17_000, 128_256
    if gpu.cuda.runtime.memGetInfo()[0] < 3 * rows * columns * 2:
        pytest.skip("needs 13 GB of GPU memory")
    logits = gpu.full((rows, columns), 0x3F80, np.uint16)  # 1 in bfloat16
    logits[-1] = gpu.arange(columns) % 7 << 4 | 0x3F80
    labels = gpu.full(rows, columns - 1)
    written = outputs(gpu, logits)
    softmax_cross_entropy(logits, labels, **written)
    expected = equations(as_float64(logits[-1:].get()), np.array([columns - 1]))
    assert written["losses"][:-1].get() == pytest.approx(np.log(columns), rel=1e-6)
    assert written["losses"][-1:].get() == pytest.approx(expected.losses, rel=1e-6)
    error = np.abs(as_float64(written["gradient"][-1:].get()) * rows - expected.gradient)
    assert (error <= 2.0**-8 * np.abs(expected.gradient) + 1e-6).all()


def run_everything(cp, stream):
    """A step of everything that can be captured, on arrays that exist; returns the arrays it writes, and the step."""
    from xpnet_kernels import cuda

    random = np.random.default_rng(0)
    pixels = cp.asarray(random.integers(0, 256, (1000, 784), np.uint8))
    indices, labels = cp.asarray(random.integers(0, 1000, 300)), cp.asarray(random.integers(0, 500, 300))
    batch, z, y = cp.empty((300, 784), np.float32), cp.empty((300, 500), np.float32), cp.empty((300, 500), np.float32)
    weights, bias = cp.asarray(random.normal(size=(784, 500)).astype(np.float32)), cp.ones(500, np.float32)
    z = cp.asarray(random.normal(size=(300, 500)).astype(np.float32))
    summary, losses, dz = cp.empty(4), cp.empty(300, np.float32), cp.empty((300, 500), np.float32)
    db, error, found_inf = cp.empty(500, np.float32), cp.empty(1, np.int64), cp.empty(1, np.int32)
    m, v = cp.zeros_like(bias), cp.zeros_like(bias)
    hyperparameters, count = cp.array([0.01, 0.9, 0.999, 1e-8, 0.1, 0.001, 0.0]), cp.zeros(1, np.int64)
    flat = weights.reshape(-1)

    def step():
        cuda.gather(pixels, indices, 255, batch, error=error, stream=stream)
        cuda.bias_activation(z, bias, "relu", y, stream=stream)
        cuda.dropout(y, 0.5, (1, 2), count, y, stream=stream)
        cuda.softmax_cross_entropy(y, labels, summary=summary, losses=losses, gradient=dz, stream=stream)
        cuda.bias_activation_backward(dz, y, "relu", dz, db, stream=stream)
        cuda.check_finite(flat, found_inf, stream=stream)
        cuda.adam_update(bias, db, m, v, hyperparameters, found_inf=found_inf, stream=stream)

    return {"batch": batch, "y": y, "summary": summary, "dz": dz, "db": db, "bias": bias, "m": m, "v": v}, step


def bits(arrays):
    return {name: array.tobytes() for name, array in to_host(arrays).items()}


def test_same_bits_on_every_run_and_stream(cp):
    results = []
    for stream in (cp.cuda.Stream.null, cp.cuda.Stream(non_blocking=True), cp.cuda.Stream(non_blocking=True)):
        arrays, step = run_everything(cp, stream.ptr)
        cp.cuda.Device().synchronize()  # the arrays were filled on CuPy's stream
        for _ in range(3):
            step()
        stream.synchronize()
        results.append(bits(arrays))
    assert results[0] == results[1] == results[2]


@pytest.mark.gpu
def test_two_streams_at_once(gpu):
    streams = [gpu.cuda.Stream(non_blocking=True) for _ in range(2)]
    runs = [run_everything(gpu, stream.ptr) for stream in streams]
    gpu.cuda.Device().synchronize()
    for _ in range(20):
        for _, step in runs:
            step()
    gpu.cuda.Device().synchronize()
    assert bits(runs[0][0]) == bits(runs[1][0])


@pytest.mark.gpu
def test_captured_in_a_graph(gpu):
    eager, step = run_everything(gpu, 0)
    for _ in range(4):
        step()
    stream = gpu.cuda.Stream(non_blocking=True)
    captured, step = run_everything(gpu, stream.ptr)
    gpu.cuda.Device().synchronize()
    with stream:
        stream.begin_capture()
        step()
        graph = stream.end_capture()
        for _ in range(4):
            graph.launch(stream)
    stream.synchronize()
    assert bits(captured) == bits(eager)


@pytest.mark.parametrize("size", [1, 1003, pytest.param(3_000_001, marks=at_length)])
def test_optimizers(cp, random, element, as_float64, size):
    from xpnet_kernels.cuda import adam_update, check_finite, momentum_update, sgd_update

    def flat():
        return cp.asarray(element.cast(random.normal(size=size + 1)))[1:]

    def close(actual, expected, scale, roundings):
        assert (np.abs(as_float64(actual.get()) - expected) <= element.bound(expected, scale, roundings)).all()

    found_inf = cp.ones(1, np.int32)
    values, gradients, velocity = flat(), flat(), flat()
    x, g, v = (as_float64(array.get()) for array in (values, gradients, velocity))
    sgd_update(values, gradients, cp.array([0.1]), found_inf=found_inf)
    assert (as_float64(values.get()) == x).all()
    check_finite(gradients, found_inf)
    assert found_inf.get()[0] == 0
    sgd_update(values, gradients, cp.array([0.1]), found_inf=found_inf)
    close(values, x - 0.1 * g, np.abs(x) + 0.1 * np.abs(g), 3)  # the rate, the product, the sum
    x = as_float64(values.get())
    momentum_update(values, gradients, velocity, cp.array([0.1, 0.9, 1.0]))
    size_v = 0.9 * np.abs(v) + np.abs(g)
    close(velocity, 0.9 * v + g, size_v, 3)
    close(values, x - 0.1 * (g + 0.9 * (0.9 * v + g)), np.abs(x) + 0.1 * (np.abs(g) + 0.9 * size_v), 8)
    x, m, square = as_float64(values.get()), flat(), cp.zeros_like(values)
    mean, squares = 0.9 * as_float64(m.get()) + (1 - 0.9) * g, (1 - 0.99) * g * g
    size_m = 0.9 * np.abs(as_float64(m.get())) + (1 - 0.9) * np.abs(g)
    adam_update(values, gradients, m, square, cp.array([0.01, 0.9, 0.99, 1e-3, 0.19, 0.0199, 0.1]))
    close(m, mean, size_m, 4)
    close(square, squares, squares, 4)
    # Roundings of a step: the rate over its correction 3, the mean 4, the root of the squares 3, the correction's 4,
    # ε 1; then a product, a sum, a quotient and a product. Of the weights: their factor 3, a product, a sum.
    divisor = np.sqrt(squares) / np.sqrt(0.0199) + 1e-3
    close(values, (1 - 0.001) * x - 0.01 / 0.19 * mean / divisor, np.abs(x) + 0.01 / 0.19 * size_m / divisor, 20)
    gradients[-1] = element.cast(np.array(np.nan))
    check_finite(gradients, found_inf)
    assert found_inf.get()[0] == 1


def test_gather(cp, random):
    from xpnet_kernels.cuda import gather

    rows, indices = random.integers(0, 256, (5000, 784), np.uint8), random.integers(0, 5000, 333)
    out, error = cp.empty((333, 784), np.float32), cp.empty(1, np.int64)
    gather(cp.asarray(rows), cp.asarray(indices), 255, out, error=error)
    assert (out.get() == rows[indices].astype(np.float32) / np.float32(255)).all()
    assert error[0] == -1
    indices[[200, 100]] = 5000, -1
    gather(cp.asarray(rows), cp.asarray(indices), 255, out, error=error)
    assert error[0] == 100
    assert np.isnan(out.get()).all(axis=1).nonzero()[0].tolist() == [100, 200]


def test_gather_of_the_batch_of_a_step_with_its_labels(cp, random):
    from xpnet_kernels.cuda import gather

    images, order = random.integers(0, 256, (1000, 784), np.uint8), random.permutation(1000)
    for step, rows in ((2**33 + 13, 300), (3, 100)):
        out, labels_out = cp.empty((rows, 784), np.float32), cp.empty(rows, np.uint8)
        gather(
            cp.asarray(images), cp.asarray(order), 255, out, labels=cp.asarray(images[:, 0].copy()),
            labels_out=labels_out, step=cp.asarray([step]), steps_per_epoch=4, batch_size=300,
        )  # fmt: skip
        expected = order[300 * (step % 2**32 % 4) :][:rows]
        assert (out.get() == images[expected].astype(np.float32) / np.float32(255)).all()
        assert (labels_out.get() == images[expected, 0]).all()


@pytest.mark.parametrize("size", [1001, 650_001], ids=["one launch", "two launches"])
def test_end_step(cp, random, element, size):
    """Four steps: one as it should be, one with a NaN in the gradients, one with an infinite loss, one after these."""
    from xpnet_kernels.cuda import end_step

    gradients, report = cp.asarray(element.cast(random.normal(size=size))), cp.asarray([0.0, 0, 0, 0, -1, -1, 0, 0])
    spoilt = gradients.copy()
    spoilt[-1:] = cp.asarray(element.cast(np.array([np.nan])))
    found_inf, steps, table = cp.zeros(1, np.int32), cp.asarray([7, 2**32 + 7]), random.normal(size=(5, 3))
    hyperparameters, flags = cp.zeros(3), []
    for step, (loss, g, skip) in enumerate(
        [(0.5, gradients, True), (0.5, spoilt, False), (np.inf, gradients, False), (0.25, gradients, True)], start=7
    ):
        end_step(
            cp.asarray([loss, 4.0, 3.0, -1.0]), report, rows=4, gradients=g, found_inf=found_inf,
            skip_after_nonfinite=skip, steps=steps, table=cp.asarray(table), hyperparameters=hyperparameters,
        )  # fmt: skip
        flags.append(int(found_inf[0]))
        assert (hyperparameters.get() == table[step % 5]).all()
    assert flags == [0, 1, 1, 1]
    assert steps.get().tolist() == [11, 2**32 + 11]
    assert report.get().tolist() == [2.0, 4.0, 4.0, 3.0, 9.0, -1.0, 0.25, 3.0]
    end_step(cp.asarray([1.0, 2.0, 1.0, -1.0]), report, rows=cp.asarray([2.0]), mean=False, step=99)
    assert report.get().tolist() == [3.0, 6.0, 6.0, 4.0, 9.0, -1.0, 1.0, 3.0]


@pytest.mark.parametrize("activation", [None, "relu", "sigmoid", "tanh"])
@pytest.mark.parametrize(
    ("rows", "columns"), [(100, 50), (33, 1001), (5000, 10), pytest.param(1, 70_000, marks=at_length)]
)
def test_bias_and_activation(cp, random, element, as_float64, activation, rows, columns):
    from xpnet_kernels.cuda import bias_activation, bias_activation_backward

    act, slope = ACTIVATIONS[activation]
    z, bias = element.cast(random.normal(size=(rows, columns))), element.cast(random.normal(size=columns))
    dy = element.cast(random.normal(size=(rows, columns)))
    y, db = cp.asarray(z), cp.asarray(bias)
    dz = cp.asarray(dy)
    bias_activation(y, cp.asarray(bias), activation, y)
    error = 1.1 * element.epsilon + (2e-6 if element.accumulator is np.float32 else 1e-14)
    assert np.allclose(as_float64(y.get()), act(as_float64(z) + as_float64(bias)), rtol=error, atol=error / 10)
    bias_activation_backward(dz, y, activation, dz, db)
    expected = as_float64(dy) * slope(as_float64(y.get()))
    assert np.allclose(as_float64(dz.get()), expected, rtol=error, atol=error / 10)
    bound = error * np.abs(expected).sum(axis=0)
    assert (np.abs(as_float64(db.get()) - expected.sum(axis=0)) <= bound + error).all()


@pytest.mark.parametrize("activation", [None, "relu", "sigmoid", "tanh"])
@pytest.mark.parametrize(("rows", "depth", "columns"), [(0, 5, 3), (1, 1, 1), (100, 784, 50), (33, 70, 1001)])
def test_linear(cp, random, element, as_float64, activation, rows, depth, columns):
    from xpnet_kernels.cuda import linear, linear_backward

    act, slope = ACTIVATIONS[activation]
    x, W = element.cast(random.normal(size=(rows, depth))), element.cast(random.normal(size=(depth, columns)) / 30)
    b, dy = element.cast(random.normal(size=columns)), element.cast(random.normal(size=(rows, columns)))
    y = cp.full((rows, columns), 7, dy.dtype)
    linear(cp.asarray(x), cp.asarray(W), cp.asarray(b), activation, y)
    x64, W64, dy64 = as_float64(x), as_float64(W), as_float64(dy)
    # A sum of K products in precision u errs by at most K u times the sum of their magnitudes; and half-precision z is
    # rounded before the activation, whose slope is at most 1.
    unit = 2.0**-53 if element.accumulator is np.float64 else 2.0**-24
    scale = np.abs(x64) @ np.abs(W64) + np.abs(as_float64(b))
    error = (depth + 8) * unit * scale + 2.1 * element.epsilon * (scale + 1)
    assert (np.abs(as_float64(y.get()) - act(x64 @ W64 + as_float64(b))) <= error).all()
    dW, db, dx, dz = (cp.full_like(cp.asarray(array), 7) for array in (W, b, x, dy))
    given = (None, None) if activation is None else (y, dz)
    linear_backward(cp.asarray(dy), cp.asarray(x), given[0], cp.asarray(W), activation, dW, db, given[1], dx)
    dz64 = dy64 * slope(as_float64(y.get()))
    for actual, left, right in ((dW, x64.T, dz64), (dx, dz64, W64.T), (db, np.ones((1, rows)), dz64)):
        scale = np.abs(left) @ np.abs(right)
        error = (left.shape[1] + 8) * unit * scale + 2.1 * element.epsilon * (scale + 1e-30)
        assert (np.abs(as_float64(actual.get()).reshape(scale.shape) - left @ right) <= error).all()


@pytest.mark.parametrize("activation", [None, "relu"])
def test_linear_keeps_nan(cp, element, as_float64, activation):
    """A product's own ReLU, max(x, 0), must not hide that a network has diverged."""
    from xpnet_kernels.cuda import linear

    x = np.ones((64, 32))
    x[5, 3] = np.nan
    x, W, b = (cp.asarray(element.cast(array)) for array in (x, np.ones((32, 48)), np.zeros(48)))
    y = cp.zeros((64, 48), x.dtype)
    linear(x, W, b, activation, y)
    expected = np.full((64, 48), 32.0)
    expected[5] = np.nan
    assert np.array_equal(as_float64(y.get()), expected, equal_nan=True)


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_linear_gradients_in_float32(cp, random, as_float64, elements, activation, name):
    """Of parameters that are kept in float32: exact where the values are whole numbers."""
    from xpnet_kernels.cuda import linear_backward

    cast = elements[name].cast
    dy, x, W, y = (
        cp.asarray(cast(random.integers(-8, 9, shape))) for shape in ((601, 50), (601, 70), (70, 50), (601, 50))
    )
    dW, db, dz = cp.full((70, 50), 7, np.float32), cp.full(50, 7, np.float32), cp.full_like(dy, 7)
    linear_backward(dy, x, y, W, activation, dW, db, dz)
    dz64 = as_float64(dy.get()) * ((as_float64(y.get()) > 0) if activation else 1)
    assert (dW.get() == as_float64(x.get()).T @ dz64).all()
    assert (db.get() == dz64.sum(axis=0)).all()


@pytest.mark.gpu
@pytest.mark.parametrize("activation", [None, "relu"])
def test_linear_captured_in_a_graph(gpu, random, activation):
    """With cuBLASLt, once the same layer has run on the stream."""
    pytest.importorskip("nvmath")
    from xpnet_kernels.cuda import linear, linear_backward

    stream = gpu.cuda.Stream(non_blocking=True)
    with stream:
        x, W, b, y = (gpu.asarray(random.normal(size=shape)) for shape in ((100, 784), (784, 50), 50, (100, 50)))
        dW, db, dx, dz = (gpu.zeros_like(array) for array in (W, b, x, y))

        def step():
            linear(x, W, b, activation, y, stream=stream.ptr)
            linear_backward(y, x, y, W, activation, dW, db, dz, dx, stream=stream.ptr)

        step()
        expected = [array.get() for array in (y, dW, db, dx)]
        for array in (y, dW, db, dx):
            array.fill(7)
        stream.begin_capture()
        step()
        graph = stream.end_capture()
        graph.launch(stream)
        for array, value in zip((y, dW, db, dx), expected, strict=True):
            assert (array.get() == value).all()


@pytest.mark.parametrize("size", [1, 1003, pytest.param(1_000_000, marks=at_length)])
def test_dropout(cp, random, element, as_float64, size):
    from xpnet_kernels.cuda import dropout

    x = element.cast(random.normal(size=size))
    out = cp.asarray(x)
    dropout(out, 0.3, (11, 0xFFFFFFFF), 2**40 + 3, out)
    kept = philox.words((11, 0xFFFFFFFF), 2**40 + 3, size) * 2.0**-32 >= 0.3
    factor = float(np.array(1 / 0.7, element.accumulator))
    expected = np.where(kept, as_float64(x) * factor, 0)
    assert (np.abs(as_float64(out.get()) - expected) <= element.bound(expected, np.abs(expected), 1)).all()
    again = cp.asarray(x)
    dropout(again, 0.3, (11, 0xFFFFFFFF), cp.array([2**40 + 3]), again)
    assert (again.get() == out.get()).all()


@pytest.mark.parametrize("chunk_rows", [None, 7])
def test_linear_cross_entropy(cp, random, equations, element, as_float64, chunk_rows):
    from xpnet_kernels.cuda import linear_softmax_cross_entropy

    rows, depth, columns = 50, 64, 1003
    x, W = element.cast(random.normal(size=(rows, depth))), element.cast(random.normal(size=(depth, columns)) / 8)
    b, labels = element.cast(random.normal(size=columns)), random.integers(0, columns, rows)
    dx, dW, db = (cp.full_like(cp.asarray(array), 7) for array in (x, W, b))
    summary, losses = cp.empty(4), cp.empty(rows, element.accumulator)
    linear_softmax_cross_entropy(
        cp.asarray(x), cp.asarray(W), cp.asarray(b), cp.asarray(labels), summary=summary, losses=losses, dx=dx, dW=dW,
        db=db, chunk_rows=chunk_rows,
    )  # fmt: skip
    expected = equations(as_float64(x) @ as_float64(W) + as_float64(b), labels)
    error = 1e-13 if element.accumulator is np.float64 else 1e-5 if element.name == "float32" else 20 * element.epsilon
    assert summary.get()[0] == pytest.approx(expected.summary[0], rel=error)
    for actual, wanted in (
        (dx, expected.gradient @ as_float64(W).T), (dW, as_float64(x).T @ expected.gradient),
        (db, expected.gradient.sum(axis=0)),
    ):  # fmt: skip
        assert np.abs(as_float64(actual.get()) - wanted).max() <= error * np.abs(wanted).max()
