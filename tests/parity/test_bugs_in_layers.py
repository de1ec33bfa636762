"""A bug planted in a layer's forward or backward pass is found in that layer, array by array."""

from __future__ import annotations

import math

import numpy as np
import pytest

import xpnet
from tests.parity.conftest import (
    DOUBLE,
    Scale,
    Skip,
    cpu_with,
    found,
    in_layer,
    network,
    of_images,
    outcome,
    wrong_on_cpu,
)
from xpnet import BatchNorm, Flatten, Linear, ReLU, Sequential


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


def test_a_composite_layer_is_named_only_for_its_own_bugs(cpu):
    assert found(outcome(network(ForgetfulSkip(Linear(16, 16))), cpu)) == ("3 ForgetfulSkip", "input gradient", "dx")


@pytest.mark.parametrize("shape", [(9, 4), (16, 6)], ids=str)
@pytest.mark.parametrize("factor", [1.001, 1.0001])
def test_a_bug_in_a_convolution_is_found(shape, factor):
    bug = in_layer(shape, lambda dW, db, dx: np.multiply(dW, factor, out=dW))
    layer = "1 Conv2d" if shape == (9, 4) else "4 Conv2d"
    assert found(of_images(cpu_with("linear_backward", bug.backward))) == (layer, "gradient", "W")


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


def test_a_bug_in_inference_is_found(monkeypatch, cpu):
    wrong_on_cpu(
        monkeypatch,
        "batch_norm_inference",
        lambda x, gamma, beta, mean, variance, epsilon, out: (x, gamma, beta, mean, variance, 10 * epsilon, out),
    )
    assert found(of_images(cpu)) == ("2 BatchNorm", "inference", "y")


def test_masks_of_another_step_are_found(monkeypatch, cpu):
    wrong_on_cpu(monkeypatch, "dropout", lambda x, rate, key, step, *more: (x, rate, key, step + 1, *more))
    row = of_images(cpu).first_divergence
    assert (row.layer, row.quantity, row.step) == ("5 Dropout", "forward", 1)


def test_masks_of_another_seed_are_found(monkeypatch, cpu):
    """The seed reaches the layers: masks that ignored it would be those of seed 0."""
    key = xpnet.random.stream_key(7, "dropout", "5")
    keys = []
    wrong_on_cpu(monkeypatch, "dropout", lambda x, rate, given, *more: keys.append(given) or (x, rate, given, *more))
    of_images(cpu, steps=1)
    assert set(keys) == {key}
