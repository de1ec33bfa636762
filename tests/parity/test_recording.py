"""xpnet.parity.recording: each part of a recorded step has its inputs of training, and gives the same results."""

from __future__ import annotations

import numpy as np
import pytest

import xpnet
from xpnet import Adam, Linear, ReLU, Rescale, Sequential
from xpnet.data import Samples
from xpnet.parity.parts import Gather, Inference, LossPass, Pass, Update
from xpnet.parity.recording import record_step
from xpnet.parity.replica import Replica

RNG = np.random.default_rng(12)
TRAIN = Samples(RNG.integers(0, 256, (20, 6), np.uint8), RNG.integers(0, 3, 20))
ROWS = np.array([3, 1, 4, 1, 5, 9])


class Given:
    """The same rows in each step."""

    name = "given"

    def epoch(self, samples, batch_size, seed, epoch):
        return ROWS


DATA = TRAIN, 20, Given()


@pytest.fixture
def replica(backend) -> Replica:
    model = Sequential(Rescale(255.0), Linear(6, 4), ReLU(), Linear(4, 3)).initialize(xpnet.backend("float64"), seed=2)
    return Replica(backend, model, xpnet.SoftmaxCrossEntropy(), Adam(), *DATA, 0, "float32")


def test_a_part_in_isolation_gives_the_results_of_training(replica):
    replica.train_step()  # so that the optimizer has a state
    before = {name: replica.to_host(view) for name, view in replica.model.parameters.items()}
    parts = record_step(replica)
    after = {name: replica.to_host(view) for name, view in replica.model.parameters.items()}
    gradients = {name: replica.to_host(view) for name, view in replica.model.gradients.items()}
    assert [type(part) for part in parts] == [Gather, *4 * [Pass, Inference], LossPass, Update]
    assert all(part.equals_training(replica) for part in parts[3:] if isinstance(part, Inference))
    parts = [part for part in parts if not isinstance(part, Inference)]
    found = [{tuple(key): array for key, array in replica.compute(part).items()} for part in parts]
    batch, _, first, relu, last, loss, update = found

    np.testing.assert_array_equal(batch["data", "batch", "x"], (TRAIN.x[ROWS] / np.float32(255)).astype(np.float32))
    np.testing.assert_array_equal(batch["data", "batch", "y"], TRAIN.y[ROWS])
    y = first["0 Linear", "forward", "y"]
    np.testing.assert_allclose(y, TRAIN.x[ROWS] / 255 @ before["0.W"] + before["0.b"], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(relu["1 ReLU", "forward", "y"], np.maximum(y, 0))
    np.testing.assert_array_equal(parts[4].x, np.maximum(y, 0))
    np.testing.assert_array_equal(parts[5].logits, last["2 Linear", "forward", "y"])
    np.testing.assert_array_equal(parts[4].backward[1], loss["loss", "gradient", "logits"])
    np.testing.assert_array_equal(parts[2].backward[1], relu["1 ReLU", "input gradient", "dx"])
    assert parts[2].backward[0] == "backward_parameters"
    assert ("0 Linear", "input gradient", "dx") not in first
    for place, part in (("0", first), ("2", last)):
        for name in "Wb":
            np.testing.assert_array_equal(part[f"{place} Linear", "gradient", name], gradients[f"{place}.{name}"])
            np.testing.assert_array_equal(update[f"{place} Linear", "update", name], after[f"{place}.{name}"])
    assert update["2 Linear", "update", "m of W"].any()
    assert update["optimizer", "finite check", "found_inf"].tolist() == [0]
    assert (after["2.W"] != before["2.W"]).all()


@pytest.mark.parametrize("limit", [{"clip_norm": 1e-3}, {"clip_value": 1e-3}], ids=str)
def test_gradients_are_recorded_before_clipping(cpu, limit):
    model = Sequential(Rescale(255.0), Linear(6, 3)).initialize(cpu, seed=2)
    setup = model, xpnet.SoftmaxCrossEntropy()
    clipped, free = (Replica(cpu, *setup, optimizer, *DATA, 0, "float32") for optimizer in (Adam(**limit), Adam()))
    parts, expected = record_step(clipped), record_step(free)[-1].gradients
    for name, gradient in parts[-1].gradients.items():
        np.testing.assert_array_equal(gradient, expected[name])
        assert np.abs(gradient).max() > 1e-2
        assert np.abs(clipped.model.gradients[name]).max() <= 1e-3


def test_recording_a_step_changes_no_bit_of_it(replica):
    model = replica.model.to(replica.backend)
    other = Replica(replica.backend, model, xpnet.SoftmaxCrossEntropy(), Adam(), *DATA, 0, "float32")
    for _ in range(2):
        record_step(replica)
        other.train_step()
    for name, view in replica.model.parameters.items():
        np.testing.assert_array_equal(replica.to_host(view), other.to_host(other.model.parameters[name]))
    assert not any("forward" in vars(layer) for layer in replica.layers.values())  # the recorder is gone


def test_numbers_are_rounded_to_the_narrowest_type_and_integers_are_not(replica):
    assert replica.rounded(np.array([0.1])).tolist() == [float(np.float32(0.1))]
    counts = np.array([2**40 + 1])
    assert replica.rounded(counts) is counts
    assert replica.to_host(replica.to_backend(counts)).tolist() == [2**40 + 1]
    weights = xpnet.Linear(6, 4).initialize(xpnet.backend("float64")).parameters["W"]
    double = Linear(6, 4).initialize(xpnet.backend("float64"))
    wide = Replica(xpnet.backend("float64"), double, replica.trainer.loss, Adam(), *DATA, 0, "float32")
    np.testing.assert_array_equal(wide.model.parameters["W"], weights.astype(np.float32))


def test_a_gradient_that_is_never_written_shows(cpu):
    class Lazy(Linear):
        def backward_parameters(self, dy, context):
            self.pop_saved()

    model = Sequential(Lazy(6, 3)).initialize(cpu)
    replica = Replica(cpu, model, xpnet.SoftmaxCrossEntropy(), Adam(), *DATA, 0, "float32")
    with pytest.raises(xpnet.LayerError, match=r"layer 0 \(Lazy\): backward_parameters left W, b unwritten"):
        record_step(replica)
