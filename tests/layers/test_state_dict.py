"""state_dict and load_state_dict: copies by name, and errors that name all that is wrong."""

from __future__ import annotations

import numpy as np
import pytest

import xpnet
from xpnet import BatchNorm, Linear, Sequential

from .own import Branches, Counting

NAMES = ["0.W", "0.b", "1.gamma", "1.beta", "1.running_mean", "1.running_variance"]


def network(backend, seed=0, **options):
    return Sequential(Linear(2, 3), BatchNorm(3)).initialize(backend, seed, **options)


def test_parameters_and_buffers_by_name_as_copies(backend) -> None:
    model = network(backend)
    state = model.state_dict()
    assert sorted(state) == sorted(NAMES)
    for name, array in state.items():
        assert type(array) is np.ndarray
        view = {**model.parameters, **model.buffers}[name]
        np.testing.assert_array_equal(array, backend.to_numpy(view))
        array[...] = 7.0
        assert (backend.to_numpy(view) != 7.0).all()


def test_a_model_takes_anothers_state(backend) -> None:
    model, other = network(backend), network(backend, seed=1)
    other.buffers["1.running_mean"] = [1.0, 2.0, 3.0]
    assert model.load_state_dict(other.state_dict()) == ([], [])
    for name, array in other.state_dict().items():
        np.testing.assert_array_equal(model.state_dict()[name], array)


def test_a_part_of_a_model_has_a_state_too(cpu) -> None:
    model = Sequential(Branches(), Counting()).initialize(cpu)
    assert list(model.layers[1].state_dict()) == ["s", "passes"]
    model.layers[1].load_state_dict({"s": np.full(3, 5.0), "passes": np.zeros(1)})
    assert model.parameters["1.s"].tolist() == [5.0] * 3


def test_types_are_cast_and_what_is_no_floating_point_is_refused(backend) -> None:
    model = network(backend)
    state = {name: array.astype(np.float64) / 3 for name, array in model.state_dict().items()}
    model.load_state_dict(state)
    assert model.state_dict()["0.W"].dtype == np.float32
    np.testing.assert_array_equal(model.state_dict()["0.W"], state["0.W"].astype(np.float32))
    before = model.state_dict()
    with pytest.raises(xpnet.DTypeError, match=r"1\.beta has dtype int64"):
        model.load_state_dict({**state, "0.W": np.ones((2, 3)), "1.beta": np.arange(3)})
    np.testing.assert_array_equal(model.state_dict()["0.W"], before["0.W"])


def test_an_error_names_all_that_is_wrong_and_nothing_is_written(backend) -> None:
    model = network(backend)
    before = model.state_dict()
    state = {name: np.full_like(array, 9.0) for name, array in before.items()}
    del state["0.b"], state["1.beta"]
    state |= {"2.W": np.ones(2), "1.gamma": np.ones(4)}
    with pytest.raises(xpnet.ShapeError) as error:
        model.load_state_dict(state)
    assert str(error.value) == (
        "the state does not match this model: 1.gamma has shape (4,), not (3,); 0.b is missing; 1.beta is missing; "
        "2.W is left over"
    )
    del state["1.gamma"]
    with pytest.raises(
        xpnet.ConfigurationError, match=r"0\.b is missing; 1\.gamma is missing; 1\.beta is missing; 2\.W"
    ):
        model.load_state_dict(state)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_what_fits_by_name_is_taken_where_that_is_asked_for(backend) -> None:
    model = network(backend)
    before = model.state_dict()
    unmatched = model.load_state_dict({"0.b": np.ones(3), "head": np.ones(2)}, strict=False)
    assert unmatched.left_over == ["head"]
    assert sorted(unmatched.missing) == sorted(set(NAMES) - {"0.b"})
    assert model.state_dict()["0.b"].tolist() == [1.0] * 3
    np.testing.assert_array_equal(model.state_dict()["0.W"], before["0.W"])
    with pytest.raises(xpnet.ShapeError, match=r"0\.b has shape \(2,\), not \(3,\)"):
        model.load_state_dict({"0.b": np.ones(2)}, strict=False)


def test_before_initialize_there_is_no_state() -> None:
    for call in (Linear(2, 3).state_dict, lambda: Linear(2, 3).load_state_dict({})):
        with pytest.raises(xpnet.CallOrderError, match="call initialize"):
            call()
