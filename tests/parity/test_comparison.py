"""Parity: right backends agree, and whatever is planted in one of them is found and named."""

from __future__ import annotations

import dataclasses
import math
from types import SimpleNamespace

import numpy as np
import pytest
import xpnet_kernels.cpu

import xpnet
from xpnet import (
    SGD,
    Adam,
    BatchNorm,
    Constant,
    Conv2d,
    Dropout,
    Flatten,
    Linear,
    MaxPool2d,
    Momentum,
    ReduceOnPlateau,
    ReLU,
    Reshape,
    Sequential,
    Sigmoid,
    Softmax,
    Tanh,
    ops,
)
from xpnet.errors import ConfigurationError
from xpnet.layers import Declaration, Layer
from xpnet.parity import compare, compare_recipe

DIGITS = xpnet.data.load("digits")
LOSS = xpnet.SoftmaxCrossEntropy()
DOUBLE = xpnet.backend("float64")


class Scale(Layer):
    """y = gain · x, a layer of the user's own."""

    def declare_parameters(self):
        return {"gain": Declaration((16,), Constant(0.8))}

    def forward(self, x, context):
        self._kept = x
        return self.parameters["gain"] * x

    def backward(self, dy, context):
        x, xp = self._take_kept(), context.backend.xp
        self.gradients["gain"][...] = xp.sum(dy * x, axis=0)
        return dy * self.parameters["gain"]


class Skip(Layer):
    """y = x + f(x), a layer made of another."""

    def __init__(self, inner):
        self.inner = inner

    def children(self):
        return {"inner": self.inner}

    def forward(self, x, context):
        return x + self.inner.forward(x, context)

    def backward(self, dy, context):
        return dy + self.inner.backward(dy, context)


def network(*between: Layer) -> Sequential:
    layers = (Linear(64, 32, "relu"), Linear(32, 16, "sigmoid"), *between, Linear(16, 10))
    return Sequential(Flatten(), *layers).initialize(DOUBLE, seed=1)


def outcome(model, *tested, optimizer=None, reference=DOUBLE, steps=3, **options):
    backends = [reference, *tested]
    return compare(model, LOSS, optimizer or Adam(), DIGITS.train, backends, batch_size=32, steps=steps, **options)


def cpu_with(name, planted) -> xpnet.Backend:
    """The CPU, one of its kernels followed by ``planted(*arguments)``."""

    def kernel(*arguments, **keywords):
        result = getattr(xpnet_kernels.cpu, name)(*arguments, **keywords)
        planted(*arguments, **keywords)
        return result

    kernels = {**vars(xpnet_kernels.cpu), name: kernel}
    return dataclasses.replace(xpnet.backend("cpu"), kernels=SimpleNamespace(**kernels))


def found(parity) -> tuple[str, str, str]:
    row = parity.first_divergence
    diverging = {(row.layer, row.quantity) for row in parity.rows if not row.agrees}
    assert len(diverging) == 1 or row.quantity == "update", diverging
    return row.layer, row.quantity, row.array


def in_layer(shape, plant):
    """``plant(x, W, b, out)`` or ``plant(dW, db, dx)``, only where W has that shape."""

    def forward(x, W, b, activation, out):
        if W.shape == shape:
            plant(x, W, b, out)

    def backward(dy, x, y, W, activation, dW, db, dz, dx):
        if W.shape == shape:
            plant(dW, db, dx)

    return SimpleNamespace(forward=forward, backward=backward)


def test_every_backend_agrees_with_float64(backend):
    model = network(ReLU(), Skip(Sequential(Linear(16, 16, "tanh"), Scale())), Sigmoid(), Tanh(), Softmax())
    parity = outcome(model, backend, optimizer=Momentum(0.1))
    assert parity.first_divergence is None
    assert (parity.backends, parity.steps) == (["float64", backend.name], 3)
    assert [(row.layer, row.quantity) for row in parity.rows if row.layer.startswith(("4", "data", "loss", "1 "))] == [
        ("data", "batch"),
        ("1 Linear", "forward"),
        ("1 Linear", "gradient"),
        ("4.inner.0 Linear", "forward"),
        ("4.inner.0 Linear", "input gradient"),
        ("4.inner.0 Linear", "gradient"),
        ("4.inner.1 Scale", "forward"),
        ("4.inner.1 Scale", "input gradient"),
        ("4.inner.1 Scale", "gradient"),
        ("4 Skip", "forward"),
        ("4 Skip", "input gradient"),
        ("loss", "forward"),
        ("loss", "gradient"),
        ("1 Linear", "update"),
        ("4.inner.0 Linear", "update"),
        ("4.inner.1 Scale", "update"),
    ]
    assert all(0.0 <= row.relative < 1e-6 for row in parity.rows)
    (drift,) = parity.drift
    assert 0.0 < drift.parameters < 1e-5
    assert drift.loss < 1e-5


@pytest.mark.parametrize("optimizer", [SGD(0.1), Momentum(0.1), Adam(), Adam(epsilon=1e-30)], ids=repr)
def test_any_backend_can_be_the_reference(cpu, strict, optimizer):
    plain = xpnet.backend("cpu-reference")
    parity = outcome(network(), cpu, strict, DOUBLE, reference=plain, optimizer=optimizer)
    assert parity.first_divergence is None
    assert {row.backend for row in parity.rows} == {"cpu", "strict", "float64"}


def test_in_float64_the_bounds_are_float64s(reference):
    parity = outcome(network(), dataclasses.replace(xpnet.backend("cpu"), dtype="float64"), reference=reference)
    assert parity.first_divergence is None
    assert all(row.relative < 1e-14 for row in parity.rows)
    slightly = in_layer((32, 16), lambda dW, db, dx: np.multiply(dW, 1 + 1e-12, out=dW))
    wrong = dataclasses.replace(cpu_with("linear_backward", slightly.backward), dtype="float64")
    assert found(outcome(network(), wrong, reference=reference)) == ("2 Linear", "gradient", "W")


def test_the_figures_are_those_of_the_planted_error(cpu):
    def add(x, W, b, out):
        out[3, 5] += 0.25

    parity = outcome(network(), cpu_with("linear", in_layer((64, 32), add).forward))
    row = parity.first_divergence
    assert (row.backend, row.layer, row.quantity, row.array, row.step) == ("cpu", "1 Linear", "forward", "y", 1)
    x = DIGITS.x_train[xpnet.data.Shuffled().epoch(len(DIGITS.x_train), 32, 0, 0)[:32]].reshape(32, 64) / 16
    model = network()
    W, b = (model.parameters[name].astype(np.float32).astype(float) for name in ("1.W", "1.b"))
    y = np.maximum(x @ W + b, 0.0)
    assert row.ulps == pytest.approx(0.25 / np.spacing(np.float32(y.max())), rel=1e-4)
    assert row.relative == pytest.approx(0.25 / np.linalg.norm(y), rel=1e-4)
    # 4 · (2 sqrt(64) u (|x| |W|) + u |y|), each to within the factor 1 to 2 by which its errors are drawn.
    bound = 4 * 2.0**-24 * (16 * (np.abs(x) @ np.abs(W))[3, 5] + abs(y[3, 5])) / np.spacing(np.float32(y.max()))
    assert 0.99 * bound < row.bound < 2.01 * bound


def column(array, place=3, factor=1.001):
    array[:, place] *= factor


BACKWARD = {
    "a column of dW times 1.001": (lambda dW, db, dx: column(dW), "gradient", "W"),
    "dW of the wrong sign": (lambda dW, db, dx: np.negative(dW, out=dW), "gradient", "W"),
    "dW never written": (lambda dW, db, dx: dW.fill(math.nan), "gradient", "W"),
    "dW rounded to half precision": (lambda dW, db, dx: dW.__setitem__(..., dW.astype(np.float16)), "gradient", "W"),
    "an element of dW not a number": (lambda dW, db, dx: dW.__setitem__((2, 2), math.nan), "gradient", "W"),
    "db dropped": (lambda dW, db, dx: db.fill(0.0), "gradient", "b"),
    "the mean for the sum": (lambda dW, db, dx: np.divide(db, 32, out=db), "gradient", "b"),
    "an element of db times 1.0001": (lambda dW, db, dx: np.multiply(db[:1], 1.0001, out=db[:1]), "gradient", "b"),
    "dx of the wrong sign": (lambda dW, db, dx: np.negative(dx, out=dx), "input gradient", "dx"),
    "a row of dx times 1.001": (lambda dW, db, dx: column(dx.T, 7), "input gradient", "dx"),
    "dx without its last row": (lambda dW, db, dx: dx[-1:].fill(0.0), "input gradient", "dx"),
}


@pytest.mark.parametrize("shape", [(64, 32), (32, 16), (16, 10)], ids=str)
@pytest.mark.parametrize("bug", BACKWARD)
def test_a_bug_in_a_backward_pass_is_found_in_its_layer(bug, shape):
    plant, quantity, array = BACKWARD[bug]
    if shape == (64, 32) and quantity == "input gradient":
        pytest.skip("the first layer hands no gradient back")
    layer = {64: "1 Linear", 32: "2 Linear", 16: "3 Linear"}[shape[0]]
    assert found(outcome(network(), cpu_with("linear_backward", in_layer(shape, plant).backward))) == (
        layer,
        quantity,
        array,
    )


FORWARD = {
    "the bias dropped": lambda x, W, b, out: np.matmul(x, W, out=out),
    "a unit times 1.001": lambda x, W, b, out: column(out),
    "one element off": lambda x, W, b, out: out.__setitem__((1, 1), out[1, 1] + 1e-4),
    "inputs rounded to 11 bits": lambda x, W, b, out: np.add(x.astype(np.float16) @ W.astype(np.float16), b, out=out),
    "infinity": lambda x, W, b, out: out.__setitem__((0, 0), math.inf),
}


@pytest.mark.parametrize("bug", FORWARD)
def test_a_bug_in_a_forward_pass_is_found_in_its_layer(bug):
    wrong = cpu_with("linear", in_layer((16, 10), FORWARD[bug]).forward)
    assert found(outcome(network(), wrong)) == ("3 Linear", "forward", "y")


class OpenReLU(ReLU):
    """Lets the gradient pass at zero on one backend, as y ≥ 0 for y > 0 would."""

    def backward(self, dy, context):
        return super().backward(dy, context) if context.backend.name == "float64" else dy


class ForgetfulScale(Scale):
    """Takes the mean for the sum on one backend."""

    def backward(self, dy, context):
        dx = super().backward(dy, context)
        if context.backend.name != "float64":
            self.gradients["gain"][...] = self.gradients["gain"] / dy.shape[0]
        return dx


def test_a_bug_in_a_layer_of_ones_own_is_found_on_any_backend(backend):
    model = Sequential(Flatten(), Linear(64, 16), OpenReLU(), Linear(16, 10)).initialize(DOUBLE)
    assert found(outcome(model, backend)) == ("2 OpenReLU", "input gradient", "dx")
    assert found(outcome(network(ForgetfulScale()), backend)) == ("3 ForgetfulScale", "gradient", "gain")


class ForgetfulSkip(Skip):
    """Drops the gradient of the shortcut on one backend."""

    def backward(self, dy, context):
        dx = super().backward(dy, context)
        return dx if context.backend.name == "float64" else dx - dy


def test_a_layer_made_of_others_is_blamed_for_its_own_mistakes_alone(cpu):
    assert found(outcome(network(ForgetfulSkip(Linear(16, 16))), cpu)) == ("3 ForgetfulSkip", "input gradient", "dx")


def test_sums_that_rounding_carries_across_a_kink_are_no_divergence(cpu):
    """x W + b = 0 but for rounding, in all units: on which side of a ReLU's kink it falls is chance."""
    x = np.repeat(DIGITS.x_train[:1] / np.float32(16), 64, axis=0)
    model = Sequential(Flatten(), Linear(64, 512, "relu"), Linear(512, 10)).initialize(cpu)
    W, b = model.parameters["1.W"], model.parameters["1.b"]
    b[...] = -(x[0].ravel().astype(float) @ W.astype(float))
    sides = [x[0].ravel() @ W + b > 0, x[0].ravel().astype(float) @ W + b > 0]
    assert (sides[0] != sides[1]).sum() > 50
    ground = model, LOSS, SGD(0.1), (x, np.arange(64) % 10)
    assert compare(*ground, [DOUBLE, cpu], batch_size=64, steps=1).first_divergence is None
    # Nor do they hide an error: backward, all have the same side.
    slightly = in_layer((64, 512), lambda dW, db, dx: np.multiply(dW, 1.0001, out=dW))
    wrong = compare(*ground, [DOUBLE, cpu_with("linear_backward", slightly.backward)], batch_size=64, steps=1)
    assert found(wrong) == ("1 Linear", "gradient", "W")


def test_a_bug_in_the_loss_is_found():
    def in_gradient(logits, labels, summary, losses, gradient, **options):
        gradient[5] *= 1.0001

    def in_mean(logits, labels, summary, losses, gradient, **options):
        summary[0] *= 1.0001

    for plant, quantity, array in ((in_gradient, "gradient", "logits"), (in_mean, "forward", "loss")):
        assert found(outcome(network(), cpu_with("softmax_cross_entropy", plant))) == ("loss", quantity, array)


def test_a_bug_in_gathering_is_found():
    def plant(rows, indices, divisor, out):
        out[4] *= np.float32(1.00001)

    assert found(outcome(network(), cpu_with("take_rows", plant))) == ("data", "batch", "x")


class WrongAdam(Adam):
    """Adam with its numbers changed on one backend."""

    def __init__(self, place, factor):
        super().__init__()
        self.place, self.factor = place, factor

    def _step_settings(self, step, rate, decay):
        settings = super()._step_settings(step, rate, decay)
        if self._backend.name != "float64":
            settings[self.place] *= self.factor
        return settings


@pytest.mark.parametrize(("place", "factor"), [(0, 1.0001), (1, 0.999), (2, 0.9999), (3, 1e3), (4, 1.0001), (5, 0.99)])
def test_a_bug_in_the_optimizer_is_found(cpu, place, factor):
    layer, quantity, _ = found(outcome(network(), cpu, optimizer=WrongAdam(place, factor)))
    assert (layer, quantity) == ("1 Linear", "update")


def test_state_that_is_not_kept_is_found():
    def forget(values, gradients, m, v, settings, finite):
        v[...] = 0.0

    row = outcome(network(), cpu_with("adam_update", forget)).first_divergence
    assert (row.layer, row.quantity, row.step) == ("1 Linear", "update", 1)
    assert row.array.startswith("v of ")


def test_it_stops_at_the_first_step_with_a_divergence():
    calls = []

    def plant(values, gradients, settings, finite):
        calls.append(None)
        if len(calls) > 4:  # two updates a step: by itself, and in training
            values[0] += 1.0

    parity = outcome(network(), cpu_with("sgd_update", plant), optimizer=SGD(0.1), steps=9)
    assert (parity.steps, parity.first_divergence.step) == (3, 3)
    assert {row.layer for row in parity.rows if not row.agrees} == {"1 Linear"}


def test_a_run_that_overflows_alike_agrees(cpu):
    parity = outcome(network(), cpu, optimizer=SGD(1e38), reference=xpnet.backend("cpu-reference"), steps=4)
    assert parity.first_divergence is None
    assert not math.isfinite(parity.drift[0].loss)


def test_nothing_that_was_given_is_changed(cpu):
    schedule = ReduceOnPlateau(0.1, patience=1)
    for _ in range(4):
        schedule.observe(3.0)
    model, optimizer, state = network(), Adam(schedule), dict(schedule.state)
    assert state["rate"] < 0.1
    before = np.array(model.vectors.parameters.vector)
    outcome(model, cpu, optimizer=optimizer)
    np.testing.assert_array_equal(model.vectors.parameters.vector, before)
    assert optimizer.model is None
    assert dict(schedule.state) == state
    assert model.backend is DOUBLE
    model.initialize(cpu)  # and nothing of it is held by another model


def of_images(backend, optimizer=None, steps=2):
    layers = [
        Reshape((1, 8, 8)),
        Conv2d(1, 4, 3, activation="relu"),
        BatchNorm(4),
        MaxPool2d(2),
        Conv2d(4, 6, 2, padding="same"),
        Dropout(0.3),
        Flatten(),
        Linear(54, 10),
    ]
    return outcome(Sequential(*layers).initialize(DOUBLE, seed=3), backend, optimizer=optimizer, steps=steps, seed=7)


def test_layers_that_draw_and_keep_statistics_agree(backend):
    parity = of_images(backend, Adam(clip_norm=0.1), steps=4)
    assert parity.first_divergence is None
    inferences = [row.layer for row in parity.rows if row.quantity == "inference"]
    assert inferences == ["2 BatchNorm", "5 Dropout"]  # of the others it is what it is in training
    assert parity.drift[0].parameters < 1e-4  # every backend drew the same


@pytest.mark.parametrize("shape", [(9, 4), (16, 6)], ids=str)
@pytest.mark.parametrize("factor", [1.001, 1.0001])
def test_a_bug_in_a_convolution_is_found(shape, factor):
    bug = in_layer(shape, lambda dW, db, dx: np.multiply(dW, factor, out=dW))
    layer = "1 Conv2d" if shape == (9, 4) else "4 Conv2d"
    assert found(of_images(cpu_with("linear_backward", bug.backward))) == (layer, "gradient", "W")


def wrong_on_cpu(monkeypatch, name, change):
    """``ops.name`` with its arguments changed where the backend is the CPU."""
    right = getattr(ops, name)

    def wrong(backend, *arguments):
        return right(backend, *(change(*arguments) if backend.name == "cpu" else arguments))

    monkeypatch.setattr(ops, name, wrong)


class WrongBatchNorm(BatchNorm):
    """Keeps the biased variance on one backend."""

    def forward(self, x, context):
        before = self.buffers["running_variance"] + 0
        y = super().forward(x, context)
        if context.training and context.backend.name == "cpu":
            count = x.shape[0] * math.prod(x.shape[2:])
            variance = self.buffers["running_variance"]
            variance[...] = 0.9 * before + (variance - 0.9 * before) * (count - 1) / count
        return y


def test_a_bug_in_running_statistics_is_found(cpu):
    model = Sequential(Flatten(), WrongBatchNorm(64), Linear(64, 10)).initialize(DOUBLE)
    assert found(outcome(model, cpu)) == ("1 WrongBatchNorm", "forward", "running_variance")


def test_a_bug_in_the_form_of_inference_is_found(monkeypatch, cpu):
    wrong_on_cpu(
        monkeypatch,
        "batch_norm_inference",
        lambda x, gamma, beta, mean, variance, epsilon, out: (x, gamma, beta, mean, variance, 10 * epsilon, out),
    )
    assert found(of_images(cpu)) == ("2 BatchNorm", "inference", "y")


def test_masks_of_another_step_are_found(monkeypatch, cpu):
    wrong_on_cpu(monkeypatch, "dropout", lambda x, rate, key, step, out: (x, rate, key, step + 1, out))
    row = of_images(cpu).first_divergence
    assert (row.layer, row.quantity, row.step) == ("5 Dropout", "forward", 1)


def test_masks_of_another_seed_are_found(monkeypatch, cpu):
    """The seed reaches the layers: masks that ignored it would be those of seed 0."""
    key = xpnet.random.stream_key(7, "dropout", "5")
    keys = []
    wrong_on_cpu(monkeypatch, "dropout", lambda x, rate, given, *more: keys.append(given) or (x, rate, given, *more))
    of_images(cpu, steps=1)
    assert set(keys) == {key}


@pytest.mark.parametrize(("kind", "limit"), [("clip_norm", 0.1), ("clip_value", 0.01)])
@pytest.mark.parametrize("factor", [2.0, 1.001, 1e9])
def test_clipping_otherwise_is_found(monkeypatch, cpu, kind, limit, factor):
    wrong_on_cpu(monkeypatch, kind, lambda gradients, limit: (gradients, factor * limit))
    layer, quantity, _ = found(of_images(cpu, SGD(0.1, **{kind: limit})))
    assert (layer, quantity) == ("1 Conv2d", "update")


def test_a_wrong_finite_flag_is_found(cpu):
    def never(gradients, finite):
        finite[0] = 0

    assert found(of_images(cpu_with("all_finite", never))) == ("optimizer", "finite flag", "finite")


@pytest.mark.parametrize("loss", [xpnet.MeanSquaredError(), xpnet.BinaryCrossEntropy()], ids=repr)
def test_other_losses(monkeypatch, cpu, loss):
    model = Sequential(Flatten(), Linear(64, 8, "tanh"), Linear(8, 1)).initialize(DOUBLE, seed=1)
    train = DIGITS.x_train, DIGITS.y_train / 9, 16.0
    assert compare(model, loss, SGD(0.1), train, [DOUBLE, cpu], steps=2).first_divergence is None
    name = "mean_squared_error" if isinstance(loss, xpnet.MeanSquaredError) else "binary_cross_entropy"
    right = getattr(ops, name)

    def wrong(backend, outputs, targets, gradient, out, **reduction):
        result = right(backend, outputs, targets, gradient, out, **reduction)
        if backend.name == "cpu":
            result.gradient[...] = result.gradient * 1.0001
        return result

    monkeypatch.setattr(ops, name, wrong)
    assert found(compare(model, loss, SGD(0.1), train, [DOUBLE, cpu], steps=2)) == ("loss", "gradient", "logits")


def test_batches_go_on_after_an_epoch(cpu):
    train = DIGITS.train._replace(x=DIGITS.x_train[:50], y=DIGITS.y_train[:50])
    parity = compare(network(), LOSS, SGD(), train, [DOUBLE, cpu], batch_size=32, steps=3)
    assert (parity.steps, parity.first_divergence) == (3, None)


def test_a_recipe_starts_from_its_own_weights_or_a_models(cpu):
    recipe = xpnet.load_recipe("digits")
    same, other = (compare_recipe(recipe, DIGITS, [DOUBLE, cpu], steps=1, seed=seed) for seed in (0, 1))
    model = recipe.build_model().initialize(cpu, seed=1)
    given = compare_recipe(recipe, DIGITS, [DOUBLE, cpu], steps=1, seed=0, model=model)
    forward = [next(row for row in parity.rows if row.quantity == "forward" and row.layer == "1 Linear").bound
               for parity in (same, other, given)]  # fmt: skip
    assert len(set(forward)) == 3
    assert all(parity.first_divergence is None for parity in (same, other, given))


def test_what_cannot_be_compared(cpu):
    with pytest.raises(ConfigurationError, match="at least two backends of different names, not 'float64'"):
        outcome(network())
    with pytest.raises(ConfigurationError, match="not 'float64, float64'"):
        outcome(network(), DOUBLE)
    with pytest.raises(ConfigurationError, match="steps must be"):
        outcome(network(), cpu, steps=0)
    with pytest.raises(ConfigurationError, match="has ready weights and is not trained"):
        compare_recipe(xpnet.load_recipe("book-pretrained"), DIGITS, [DOUBLE, cpu])


@pytest.mark.parametrize(
    "name",
    [
        "book-two-layer",
        "book-two-layer-raw",
        "keras-sigmoid",
        "naive-dense",
        "torch-mlp",
        "digits",
        "mnist-best",
        "mnist-conv",
    ],
)
def test_the_recipes_agree(data_dir, name):
    recipe = xpnet.load_recipe(name)
    backends = [DOUBLE, xpnet.backend("cpu-reference"), xpnet.backend("cpu")]
    dataset = xpnet.data.load(recipe.data, data_dir=data_dir)
    assert compare_recipe(recipe, dataset, backends, steps=1).first_divergence is None
