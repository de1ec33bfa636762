"""The profile of a step: every part, with its work by hand, on a clock that counts instead of ticking."""

from __future__ import annotations

import itertools
from contextlib import nullcontext

import numpy as np
import pytest

import xpnet
from xpnet.configuration import recipe_from_table
from xpnet.errors import ConfigurationError
from xpnet.profile import profile_step


def recipe(**changes) -> xpnet.Recipe:
    """64-8-10 with a separate activation, on the bundled digits."""
    layers = [
        {"type": "Flatten"},
        {"type": "Linear", "inputs": 64, "outputs": 8},
        {"type": "Sequential", "layers": [{"type": "Tanh"}, {"type": "Linear", "inputs": 8, "outputs": 10}]},
    ]
    table = xpnet.load_recipe("digits").to_table()
    table["model"] = {"layers": layers}
    table["training"]["batch_size"] = 32
    return recipe_from_table(table | changes)


def row_mask(backend: xpnet.Backend) -> tuple[xpnet.Backend, list[str]]:
    """The backend with a clock that adds a millisecond each time it is read, and the names of what was annotated."""
    names: list[str] = []
    ticks = itertools.count()

    class Clocked(type(backend)):
        def mark(self):
            return next(ticks)

        def seconds_between(self, began, ended):
            return (ended - began) * 1e-3

        def annotate(self, name):
            names.append(name)
            return nullcontext()

        def peak_memory(self):
            return 12345

    return Clocked(**vars(backend)), names


def test_every_part_has_its_time_and_its_work(backend):
    clocked, names = row_mask(backend)
    profile = profile_step(recipe(), xpnet.data.load("digits"), clocked, steps=3)
    n, item = 32, 8 if backend.dtype == "float64" else 4
    parts = {(part.name, part.operation): (part.work, part.unit) for part in profile.parts}
    assert parts == {
        ("data", "batch"): (n * 64 * (1 + item), "B"),
        ("1 Linear", "forward"): (2 * n * 64 * 8, "FLOP"),
        ("2.0 Tanh", "forward"): (n * 16 * item, "B"),
        ("2.1 Linear", "forward"): (2 * n * 8 * 10, "FLOP"),
        ("loss", "forward"): (2 * n * 10 * item, "B"),
        ("2.1 Linear", "backward"): (4 * n * 8 * 10, "FLOP"),
        ("2.0 Tanh", "backward"): (n * 24 * item, "B"),
        ("1 Linear", "backward"): (2 * n * 64 * 8, "FLOP"),
        ("optimizer", "update"): (7 * 610 * item, "B"),
    }
    assert list(parts) == list(dict.fromkeys(tuple(name.rsplit(" ", 1)) for name in names if name in {
        " ".join(key) for key in parts
    }))  # fmt: skip
    assert {part.seconds for part in profile.parts} == {1e-3}  # nothing is timed within something else
    assert profile.seconds == pytest.approx(1e-3)
    looks = 2 * (len(profile.parts) + 1)  # the Flatten is timed too, but moves nothing: it belongs to the rest
    assert profile.rest == pytest.approx(1e-3 * (looks + 1 - len(profile.parts)))
    assert profile.peaks == pytest.approx({"FLOP": 2 * 2048**3 / 1e-3, "B": 2 * 2**26 / 1e-3})
    assert (profile.recipe, profile.device, profile.batch_size, profile.memory) == ("digits", backend.name, 32, 12345)


def test_the_work_of_a_convolution_is_its_product(backend):
    table = recipe().to_table()
    kernels = {"in_channels": 1, "out_channels": 4, "kernel_size": 3, "stride": 2}
    table["model"]["layers"] = [
        {"type": "Reshape", "shape": [1, 8, 8]},
        {"type": "Conv2d", **kernels},
        {"type": "MaxPool2d", "kernel_size": 3},
        {"type": "Conv2d", **kernels, "in_channels": 4, "out_channels": 10, "padding": 1},
        {"type": "Flatten"},
    ]
    profile = profile_step(recipe_from_table(table), xpnet.data.load("digits"), backend, steps=1)
    n, item = 32, 8 if backend.dtype == "float64" else 4
    parts = {(part.name, part.operation): (part.work, part.unit) for part in profile.parts}
    first, second = n * 2 * (3 * 3) * (3 * 3 * 1 * 4), n * 2 * (3 * 3 * 4 * 10)
    assert {key: work for key, work in parts.items() if key[0][0] in "01234"} == {
        ("1 Conv2d", "forward"): (first, "FLOP"),
        ("2 MaxPool2d", "forward"): (n * (36 + 4) * item, "B"),
        ("3 Conv2d", "forward"): (second, "FLOP"),
        ("3 Conv2d", "backward"): (2 * second, "FLOP"),
        ("2 MaxPool2d", "backward"): (n * (36 + 2 * 4) * item, "B"),
        ("1 Conv2d", "backward"): (first, "FLOP"),
    }


def test_a_batch_larger_than_the_data_is_the_data():
    digits = xpnet.data.load("digits")
    profile = profile_step(recipe().with_options(batch_size=10**6), digits, xpnet.backend("cpu-reference"), steps=1)
    assert profile.batch_size == len(digits.x_train)
    assert profile.parts[0].work == len(digits.x_train) * 64 * 5


def test_wrong_steps_and_ready_weights_are_refused():
    digits, cpu = xpnet.data.load("digits"), xpnet.backend("cpu-reference")
    with pytest.raises(ConfigurationError, match="steps must be"):
        profile_step(recipe(), digits, cpu, steps=0)
    with pytest.raises(ConfigurationError, match="has ready weights and is not trained"):
        profile_step(xpnet.load_recipe("book-pretrained"), digits, cpu)


def test_the_clock_is_the_backends(backend):
    backend.synchronize()
    began = backend.mark()
    np.ones(10).sum()
    ended = backend.mark()
    backend.synchronize()
    assert 0 <= backend.seconds_between(began, ended) < 60


def test_a_schedule_over_the_run_knows_its_length(cpu):
    rate = {"type": "CosineDecay", "learning_rate": 0.01}
    profile = profile_step(
        recipe(optimizer={"type": "SGD", "learning_rate": rate}), xpnet.data.load("digits"), cpu, steps=1
    )
    assert {part.name for part in profile.parts} >= {"data", "loss", "optimizer"}
