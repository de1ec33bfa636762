"""Models copied and pickled, whole and in part; trained layers in new models."""

from __future__ import annotations

import copy
import io
import pickle

import numpy as np
import pytest

import xpnet
from xpnet import BatchNorm, Context, Dropout, Linear, ReLU, Residual, Sequential

from .own import Branches, Counting, Scale


def with_joblib(model):
    joblib = pytest.importorskip("joblib")
    file = io.BytesIO()
    joblib.dump(model, file)
    file.seek(0)
    return joblib.load(file)


WAYS = {"deepcopy": copy.deepcopy, "pickle": lambda model: pickle.loads(pickle.dumps(model)), "joblib": with_joblib}


@pytest.fixture(params=WAYS)
def copied(request):
    return WAYS[request.param]


def network():
    block = Residual(Linear(3, 4, "tanh"), Linear(4, 3))
    return Sequential(Counting(), block, BatchNorm(3), Branches(), Dropout(0.5), Linear(3, 2))


def trained(backend):
    model = network().initialize(backend, seed=3)
    draws = np.random.default_rng(0)
    samples = draws.standard_normal((20, 3)).astype(np.float32), draws.integers(0, 2, 20)
    xpnet.Trainer(model, xpnet.SoftmaxCrossEntropy(), xpnet.Adam(0.01)).fit(samples, epochs=2, batch_size=5)
    return model


X = np.random.default_rng(1).standard_normal((6, 3)).astype(np.float32)


def test_a_copy_is_the_same_and_independent(cpu, copied) -> None:
    model = trained(cpu)
    before, count = model.predict(X), float(model.buffers["0.passes"][0])
    assert count > 8.0  # a buffer comes along
    twin = copied(model)
    assert [name for name, _ in sorted(vars(twin).items())] == [name for name, _ in sorted(vars(model).items())]
    assert list(twin.parameters) == list(model.parameters)
    assert twin.backend == model.backend
    for one, other in zip(twin.vectors, model.vectors, strict=True):
        assert not np.shares_memory(one.vector, other.vector)
    assert twin.vectors.parameters.vector.tobytes() == model.vectors.parameters.vector.tobytes()
    np.testing.assert_array_equal(twin.predict(X), before)
    assert [layer.path for layer in twin.layers] == ["0", "1", "2", "3", "4", "5"]
    twin.layers[1].layers[0].parameters["W"][...] = 0.0  # the parts' views are views of the copy's vectors
    assert not twin.parameters["1.0.W"].any()
    assert model.parameters["1.0.W"].all()


def test_a_copy_trains_on_with_the_same_bits(cpu, copied) -> None:
    model = trained(cpu)
    twin = copied(model)
    samples = X, np.array([0, 1, 1, 0, 1, 0])
    for either in (model, twin):
        xpnet.Trainer(either, xpnet.SoftmaxCrossEntropy(), xpnet.SGD(0.1), seed=5).fit(samples, epochs=2, batch_size=3)
    assert twin.vectors.parameters.vector.tobytes() == model.vectors.parameters.vector.tobytes()


def test_before_initialize_too(cpu, copied) -> None:
    twin = copied(network())
    assert twin.backend is None
    one, other = twin.initialize(cpu, seed=1), network().initialize(cpu, seed=1)
    assert one.vectors.parameters.vector.tobytes() == other.vectors.parameters.vector.tobytes()


def test_float64_stays_float64(copied) -> None:
    model = Linear(2, 2).initialize(xpnet.backend("float64"))
    twin = copied(model)
    assert twin.dtype == twin.require_backend().dtype == "float64"
    np.testing.assert_array_equal(twin.parameters["W"], model.parameters["W"])


def test_deepcopy_on_every_backend(backend) -> None:
    model = Sequential(Scale(), Linear(3, 2)).initialize(backend)
    twin = copy.deepcopy(model)
    assert twin.backend is backend
    np.testing.assert_array_equal(twin.predict(X), model.predict(X))


def test_a_copy_of_a_part_is_a_model_of_its_own(cpu, copied) -> None:
    model = trained(cpu)
    for place, own in ((0, ["s"]), (1, ["0.W", "0.b", "1.W", "1.b"])):
        part = copied(model.layers[place])
        assert part.path == ""
        assert list(part.vectors.parameters) == own
        np.testing.assert_array_equal(part.predict(X), model.layers[place].predict(X))
        part.parameters[own[0]][...] = 0.0
        assert model.parameters[f"{place}.{own[0]}"].all()


def test_a_pass_in_the_middle_is_not_copied(cpu, copied) -> None:
    layer = Linear(3, 2).initialize(cpu)
    layer.forward(X, Context(cpu, training=True))
    with pytest.raises(xpnet.CallOrderError, match="backward needs a forward pass"):
        copied(layer).backward(np.ones((6, 2), np.float32), Context(cpu, training=True))
    layer.backward(np.ones((6, 2), np.float32), Context(cpu, training=True))


def test_optimizers_and_losses(cpu, copied) -> None:
    loss = copied(xpnet.SoftmaxCrossEntropy(label_smoothing=0.25))
    assert loss.label_smoothing == 0.25
    assert copied(xpnet.AdamW(xpnet.StepDecay(0.5, 3), frozen="0.*")).frozen == ("0.*",)


class TestTrainedLayersInANewModel:
    def test_they_keep_their_values_and_the_others_are_drawn(self, backend) -> None:
        old = Sequential(Linear(3, 4, "tanh"), Counting(4), Linear(4, 2)).initialize(backend, seed=1)
        old.layers[1].buffers["passes"] = [5.0]
        new = Sequential(*copy.deepcopy(old.layers[:2]), Linear(4, 6)).initialize(backend, seed=2)
        fresh = Sequential(Linear(3, 4), Counting(4), Linear(4, 6)).initialize(backend, seed=2)
        states = old.state_dict(), new.state_dict(), fresh.state_dict()
        for name in ("0.W", "0.b", "1.s", "1.passes"):
            np.testing.assert_array_equal(states[1][name], states[0][name])
        for name in ("2.W", "2.b"):
            np.testing.assert_array_equal(states[1][name], states[2][name])
        assert (states[0]["0.W"] != states[2]["0.W"]).all()
        new.parameters["0.W"][...] = 0.0
        assert (backend.to_numpy(old.parameters["0.W"]) != 0.0).all()
        assert [layer.path for layer in new.layers] == ["0", "1", "2"]

    def test_a_whole_model_becomes_a_part(self, cpu, reference) -> None:
        old = Sequential(Linear(3, 4), ReLU()).initialize(cpu, seed=1)
        W = old.parameters["0.W"].copy()
        new = Sequential(old, Linear(4, 2)).initialize(reference)
        assert list(new.parameters) == ["0.0.W", "0.0.b", "1.W", "1.b"]
        np.testing.assert_array_equal(new.parameters["0.0.W"], W.astype(np.float64))
        with pytest.raises(xpnet.CallOrderError, match="this Sequential is a part of a model"):
            old.initialize(cpu)

    def test_initialized_again_all_is_drawn(self, cpu) -> None:
        old = Linear(3, 4).initialize(cpu, seed=1)
        new = Sequential(copy.deepcopy(old), Linear(4, 2)).initialize(cpu, seed=2).initialize(cpu, seed=2)
        fresh = Sequential(Linear(3, 4), Linear(4, 2)).initialize(cpu, seed=2)
        assert new.parameters.vector.tobytes() == fresh.parameters.vector.tobytes()

    def test_a_part_of_another_model_is_refused_wherever_it_is_held(self, cpu) -> None:
        old = Sequential(Linear(3, 3), ReLU()).initialize(cpu)
        new = Branches()
        new.encoder = old.layers[0]
        message = r"layer encoder \(Linear\) is a part of another initialised model: use copy.deepcopy\(layer\)"
        with pytest.raises(xpnet.CallOrderError, match=message):
            new.initialize(cpu)
        new.encoder = copy.deepcopy(old.layers[0])
        new.initialize(cpu)
        new.encoder = old.layers[0]  # also once it is initialised
        with pytest.raises(xpnet.CallOrderError, match=message):
            new.initialize(cpu)
        with pytest.raises(xpnet.CallOrderError, match=r"copy.deepcopy\(layer\)"):
            copy.copy(old)
