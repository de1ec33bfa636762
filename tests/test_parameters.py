"""xpnet.parameters: one vector, named views that are the same memory, boundaries and padding."""

from __future__ import annotations

import copy
import pickle
import re

import numpy as np
import pytest

import xpnet
from xpnet.backends import ALIGNMENT
from xpnet.optimizers import SGD, Adam, Momentum
from xpnet.parameters import NamedVector

SHAPES = {"0.W": (7, 5), "0.b": (5,), "scale": (), "conv": (2, 3, 1, 4), "none": (0, 3), "1.W": (64,), "last": (1,)}


@pytest.fixture(params=["float32", "float64"])
def views(backend, request) -> NamedVector:
    return NamedVector(backend, SHAPES, request.param)


def flat(views: NamedVector) -> np.ndarray:
    return np.array(views.backend.to_numpy(views.vector))


def test_names_shapes_and_sizes(views) -> None:
    assert list(views) == list(SHAPES)
    assert len(views) == len(SHAPES)
    assert {name: tuple(view.shape) for name, view in views.items()} == SHAPES
    assert views.size == 35 + 5 + 1 + 24 + 0 + 64 + 1
    assert all(view.dtype == getattr(views.backend.xp, views.dtype) for view in views.values())
    assert not flat(views).any()
    assert "1.b" not in views


def test_a_view_written_in_place_writes_the_vector(views) -> None:
    for name, view in views.items():
        before = flat(views)
        view[...] = views.backend.asarray(np.arange(1, view.size + 1).reshape(view.shape), views.dtype)
        changed = flat(views) != before
        assert changed.sum() == view.size
        assert flat(views)[changed].tolist() == list(range(1, view.size + 1)), name  # in C order


def test_the_vector_written_in_place_writes_the_views(views) -> None:
    views.vector[...] = views.backend.asarray(np.arange(len(flat(views))), views.dtype)
    seen = [views.backend.to_numpy(view).reshape(-1) for view in views.values()]
    assert (np.diff(np.concatenate(seen)) > 0).all()
    views.vector[...] = 5.0
    assert all((views.backend.to_numpy(view) == 5.0).all() for view in views.values())


def test_one_element_of_a_view(views) -> None:
    views["0.W"][2, 3] = 4.0
    assert np.flatnonzero(flat(views)).tolist() == [2 * 5 + 3]


class TestAssignment:
    def test_a_value_is_written_into_the_vector(self, views) -> None:
        b, numbers = views["0.b"], [1.0, 2.0, 3.0, 4.0, 5.0]
        for value in (
            numbers,
            np.array(numbers),
            np.array(numbers, np.float32),
            np.arange(1, 6),
            views.backend.asarray(np.array(numbers)),
        ):
            views["0.b"] = value
            assert views["0.b"] is b
            assert flat(views)[flat(views) != 0.0].tolist() == numbers
            b[...] = 0.0
        views["scale"] = 3
        views["scale"] = np.float64(0.5) + float(views["scale"])
        assert float(views["scale"]) == 3.5

    def test_in_place_operators(self, views) -> None:
        views["0.b"] = np.ones(5)
        views["0.b"] += 1.0
        views["0.b"] *= views["0.b"]
        assert views.backend.to_numpy(views["0.b"]).tolist() == [4.0] * 5

    @pytest.mark.parametrize("value", [1.0, np.ones(4), np.ones((5, 1)), np.ones((1, 5))])
    def test_another_shape(self, views, value) -> None:
        shape = re.escape(str(np.shape(value)))
        with pytest.raises(
            xpnet.ShapeError, match=rf"'0\.b' of the model has shape \(5,\), .* a value of shape {shape}"
        ):
            views["0.b"] = value
        assert not flat(views).any()

    def test_an_array_of_another_device(self, strict) -> None:
        views = NamedVector(xpnet.backend("cpu"), SHAPES, "float32")
        with pytest.raises(xpnet.BackendError, match="array_api_strict"):
            views["0.b"] = strict.asarray(np.ones(5))

    def test_a_part_names_its_layer(self, views) -> None:
        part = views.under("0.", "layer 0 (Linear)")
        assert list(part) == ["W", "b"]
        part["b"] = [5.0] * 5
        assert flat(views).sum() == 25.0
        with pytest.raises(xpnet.ShapeError, match=r"'b' of layer 0 \(Linear\) has shape \(5,\)"):
            part["b"] = 0.0
        with pytest.raises(KeyError, match=r"layer 0 \(Linear\) has no array 'c'; it has W, b"):
            part["c"] = 0.0

    def test_names_are_fixed(self, views) -> None:
        with pytest.raises(TypeError, match="their names are fixed"):
            del views["0.b"]
        for change in (
            views.clear,
            views.popitem,
            lambda: views.pop("0.b"),
            lambda: views.setdefault("c", 1.0),
            lambda: views.update({"0.b": 1.0}),
            lambda: views.__ior__({"0.b": 1.0}),
        ):
            with pytest.raises(TypeError, match="their names are fixed"):
                change()
        assert list(views) == list(SHAPES)

    def test_before_initialize(self) -> None:
        with pytest.raises(xpnet.CallOrderError, match=r"there is no array 'W' yet: call initialize"):
            _ = xpnet.Linear(2, 3).parameters["W"]


def test_every_view_starts_on_a_boundary(views) -> None:
    itemsize = np.dtype(views.dtype).itemsize
    for name, view in views.items():
        if view.size == 0:
            continue
        views.vector[...] = 0.0
        view[...] = 1.0
        assert np.flatnonzero(flat(views))[0] * itemsize % ALIGNMENT == 0, name
    assert len(flat(views)) * itemsize % ALIGNMENT == 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_addresses_are_aligned(cpu, dtype) -> None:
    for _ in range(20):  # an allocator may be lucky once
        views = NamedVector(cpu, SHAPES, dtype)
        assert {view.ctypes.data % 256 for view in views.values() if view.size} == {0}
        assert views.vector.flags.c_contiguous
        assert all(np.shares_memory(view, views.vector) for view in views.values() if view.size)


def test_a_vector_of_no_parameters(backend) -> None:
    views = NamedVector(backend, {}, "float32")
    assert (len(views), views.size, views.vector.shape) == (0, 0, (0,))


@pytest.mark.parametrize("optimizer", [SGD(0.1), Momentum(0.1), Adam(0.1)], ids=lambda o: type(o).__name__)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_padding_stays_zero_after_every_step(backend, optimizer, dtype) -> None:
    model = xpnet.Sequential(xpnet.Linear(3, 7), xpnet.Linear(7, 2)).initialize(backend, dtype=dtype)
    optimizer.initialize(model)
    for step in range(3):
        for view in model.gradients.values():
            view[...] = 1.0 + step
        optimizer.update(step)
        for views in (model.parameters, model.gradients, *optimizer.state.values()):
            values = flat(views)
            assert np.isfinite(values).all()
            assert np.count_nonzero(values) <= views.size
            for view in views.values():
                view[...] = 0.0
            assert not flat(views).any(), "a step wrote into the padding"
        for view in model.parameters.values():
            view[...] = 1.0


class TestCopies:
    @pytest.fixture
    def other(self):
        return xpnet.backend("cpu-reference")

    def test_a_copy_holds_the_same_and_is_independent(self, views, other) -> None:
        for place, view in enumerate(views.values(), start=1):
            view[...] = place / 3
        copy = views.copy_to(other)
        assert copy.backend is other
        assert (copy.shapes, copy.dtype, copy.size) == (views.shapes, views.dtype, views.size)
        np.testing.assert_array_equal(copy.vector, flat(views))
        for name, view in views.items():
            np.testing.assert_array_equal(copy[name], views.backend.to_numpy(view))
        before = flat(views)
        copy["0.W"][...] = -1.0
        np.testing.assert_array_equal(flat(views), before)
        views["0.b"][...] = -2.0
        assert (copy["0.b"] != -2.0).all()

    def test_a_copy_to_another_backend_and_back_has_the_same_bits(self, views, other) -> None:
        views["0.W"][...] = 1 / 3
        back = views.copy_to(other).copy_to(views.backend)
        assert back.backend is views.backend
        views.backend.require(back.vector)
        assert flat(back).tobytes() == flat(views).tobytes()
        back["0.b"][...] = 1.0  # its views are views of it
        assert flat(back).sum() > flat(views).sum()

    @pytest.mark.parametrize("copied", [copy.deepcopy, lambda views: pickle.loads(pickle.dumps(views))])
    def test_copied_and_pickled(self, cpu, copied) -> None:
        views = NamedVector(cpu, SHAPES, "float64")
        views["0.W"][...] = 1 / 3
        twin = copied(views)
        assert (twin.shapes, twin.dtype, twin.starts) == (views.shapes, views.dtype, views.starts)
        assert twin.vector.tobytes() == views.vector.tobytes()
        twin["0.W"][...] = 0.0
        assert not twin.vector.any()
        assert views["0.W"].all()
        part = copied(views.under("0.", "layer 0 (Linear)"))
        assert (type(part), list(part)) == (dict, ["W", "b"])
        np.testing.assert_array_equal(part["W"], views["0.W"])
