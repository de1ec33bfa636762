"""Optimizers copied and pickled, before and in the middle of a training."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import xpnet
from xpnet import Linear, Sequential

WAYS = {"deepcopy": copy.deepcopy, "pickle": lambda thing: pickle.loads(pickle.dumps(thing))}


@pytest.fixture(params=WAYS)
def copied(request):
    return WAYS[request.param]


def steps(model, optimizer, begin, end):
    for step in range(begin, end):
        for gradient in model.gradients.values():
            gradient[...] = np.sin(np.arange(gradient.size) + step).reshape(gradient.shape)
        optimizer.update(step)


@pytest.mark.parametrize(
    "make",
    [
        lambda: xpnet.AdamW(0.1, frozen="0.b", clip_norm=1.0),
        lambda: xpnet.Momentum(xpnet.Warmup(xpnet.CosineDecay(0.1), 2), learning_rate_factors={"1.*": 0.5}),
        lambda: xpnet.RMSProp(xpnet.ReduceOnPlateau(0.1, patience=1)),
    ],
)
def test_it_goes_on_with_the_same_bits_in_the_copied_model(cpu, copied, make) -> None:
    model, optimizer = Sequential(Linear(3, 4), Linear(4, 2)).initialize(cpu), make()
    optimizer.initialize(model)
    optimizer.set_total_steps(10, step=0)
    for loss in (1.0, 2.0, 3.0):
        optimizer.schedule.observe(loss)
    steps(model, optimizer, 0, 4)
    twin_model, twin = copied((model, optimizer))
    assert twin.model is twin_model is not model
    assert (twin.total_steps, twin.schedule_state) == (10, optimizer.schedule_state)
    before = model.parameters.vector.copy()
    steps(twin_model, twin, 4, 8)
    assert model.parameters.vector.tobytes() == before.tobytes()
    steps(model, optimizer, 4, 8)
    assert twin_model.parameters.vector.tobytes() == model.parameters.vector.tobytes()
    assert {slot: vector.vector.tobytes() for slot, vector in twin.state.items()} == {
        slot: vector.vector.tobytes() for slot, vector in optimizer.state.items()
    }


def test_before_initialize(cpu, copied) -> None:
    twin = copied(xpnet.Adam(0.25, weight_decay=0.5))
    assert (twin.learning_rate, twin.weight_decay, twin.model) == (0.25, 0.5, None)
    twin.initialize(Linear(2, 2).initialize(cpu))
    twin.update(0)
