"""xpnet.layers.layer, and what holds of every layer there is."""

from __future__ import annotations

import numpy as np
import pytest

import xpnet
from xpnet import (
    GELU,
    BatchNorm,
    Constant,
    Context,
    Dropout,
    Embedding,
    Flatten,
    LayerNorm,
    LeakyReLU,
    Linear,
    ReLU,
    Residual,
    Sequential,
    Sigmoid,
    Softmax,
    Softplus,
    Tanh,
)
from xpnet.layers import Layer, ParameterSpec
from xpnet.layers.tree import walk

LAYERS = {
    "linear": lambda: Linear(4, 3),
    "linear relu": lambda: Linear(4, 3, "relu"),
    "linear sigmoid": lambda: Linear(4, 3, "sigmoid"),
    "linear tanh": lambda: Linear(4, 3, "tanh"),
    "relu": ReLU,
    "sigmoid": Sigmoid,
    "tanh": Tanh,
    "softmax": Softmax,
    "gelu": GELU,
    "leaky relu": LeakyReLU,
    "softplus": Softplus,
    "dropout": Dropout,
    "batch norm": lambda: BatchNorm(4),
    "layer norm": lambda: LayerNorm(4),
    "flatten": Flatten,
    "residual": lambda: Residual(Linear(4, 5, "tanh"), Linear(5, 4)),
    "sequential": lambda: Sequential(Linear(4, 5, "tanh"), Sequential(Sigmoid(), Linear(5, 3)), Softmax()),
}


class Scale(Layer):
    """A layer of a user's own, with a parameter and a running statistic: y = scale · x."""

    def parameter_specs(self):
        return {"scale": ParameterSpec((), Constant(3.0))}

    def buffer_specs(self):
        return {"seen": ParameterSpec((2,), Constant(0.0))}

    def forward(self, x, context):
        if context.training:
            self.buffers["seen"][...] = self.buffers["seen"] + 1.0
            self.saved = x
        return self.parameters["scale"] * x

    def backward(self, dy, context):
        self.gradients["scale"][...] = context.backend.xp.sum(dy * self.pop_saved())
        return self.parameters["scale"] * dy


class Shortcut(Layer):
    """A layer of a user's own that is made of another one: y = x + inner(x)."""

    def __init__(self, inner: Layer) -> None:
        self.inner = inner

    def children(self):
        return {"inner": self.inner}

    def forward(self, x, context):
        return x + self.inner.forward(x, context)

    def backward(self, dy, context):
        return dy + self.inner.backward(dy, context)


@pytest.fixture(params=LAYERS)
def layer(backend, request) -> Layer:
    return LAYERS[request.param]().initialize(backend, dtype="float64")


class TestEveryLayer:
    def test_backward_is_the_derivative(self, layer, numbers) -> None:
        x = numbers((3, 4))
        checks = xpnet.check_gradients(layer, x)
        assert [check.name for check in checks] == ["input", *layer.parameters]
        assert max(check.error for check in checks) <= 1e-6
        assert any(check.analytic for check in checks)

    def test_each_backward_needs_a_forward_in_training(self, layer, numbers) -> None:
        backend = layer.require_backend()
        x, context = backend.asarray(numbers((3, 4))), Context(backend, training=True)
        dy = layer(x)  # inference leaves nothing behind
        message = "backward needs a forward pass under Context"
        with pytest.raises(xpnet.CallOrderError, match=message):
            layer.backward(dy, context)
        layer.forward(x, context)
        layer.backward(dy, context)
        with pytest.raises(xpnet.CallOrderError, match=message):
            layer.backward(dy, context)

    def test_it_never_writes_into_what_it_was_given(self, layer, numbers) -> None:
        backend = layer.require_backend()
        context = Context(backend, training=True, reuse=True)
        x_before, dy_before = numbers((3, 4)), numbers((3, *layer.output_shape((4,))))
        x, dy = (backend.xp.asarray(backend.asarray(given), copy=True) for given in (x_before, dy_before))
        layer.forward(x, context)
        layer.backward(dy, context)
        np.testing.assert_array_equal(backend.to_numpy(x), x_before)
        np.testing.assert_array_equal(backend.to_numpy(dy), dy_before)

    def test_outside_a_trainer_every_output_is_the_users(self, layer, numbers) -> None:
        backend = layer.require_backend()
        first = layer(backend.asarray(numbers((3, 4))))
        before = np.array(backend.to_numpy(first))
        layer(backend.asarray(numbers((3, 4))))
        np.testing.assert_array_equal(backend.to_numpy(first), before)

    def test_reused_memory_gives_the_same_numbers(self, layer, numbers, passes) -> None:
        context = Context(layer.require_backend(), training=True, reuse=True)
        least = 2 if isinstance(layer, BatchNorm) else 1
        for rows in (5, 5, 2, 5, 7, least):  # the last batch of an epoch is smaller
            x = numbers((rows, 4))
            dy = numbers((rows, *layer.output_shape((4,))))
            fresh, reused = passes(layer, x, dy), passes(layer, x, dy, context)
            np.testing.assert_array_equal(reused[0], fresh[0])
            np.testing.assert_array_equal(reused[1], fresh[1])
            for name, gradient in fresh[2].items():
                np.testing.assert_array_equal(reused[2][name], gradient)

    def test_a_trainers_memory_is_used_again(self, layer, numbers) -> None:
        if isinstance(layer, Flatten):
            pytest.skip("a Flatten allocates nothing")
        backend = layer.require_backend()
        context = Context(backend, training=True, reuse=True)
        first = layer.forward(backend.asarray(numbers((3, 4))), context)
        second = layer.forward(backend.asarray(numbers((3, 4))), context)
        np.testing.assert_array_equal(backend.to_numpy(first), backend.to_numpy(second))
        first_gradient = layer.backward(second, context)
        layer.forward(backend.asarray(numbers((3, 4))), context)
        second_gradient = layer.backward(second, context)
        np.testing.assert_array_equal(backend.to_numpy(first_gradient), backend.to_numpy(second_gradient))

    def test_gradients_are_overwritten(self, layer, numbers, passes) -> None:
        x, dy = numbers((3, 4)), numbers((3, *layer.output_shape((4,))))
        _, _, once = passes(layer, x, dy)
        _, _, twice = passes(layer, x, dy)
        for name in once:
            np.testing.assert_array_equal(twice[name], once[name])

    def test_training_and_inference_give_the_same_output(self, layer, numbers, passes) -> None:
        if isinstance(layer, (BatchNorm, Dropout)):
            pytest.skip("it is there to make a difference")
        x = numbers((3, 4))
        y, _, _ = passes(layer, x, numbers((3, *layer.output_shape((4,)))))
        backend = layer.require_backend()
        np.testing.assert_array_equal(backend.to_numpy(layer(backend.asarray(x))), y)

    def test_the_output_has_the_shape_it_says(self, layer, numbers) -> None:
        backend = layer.require_backend()
        for rows in (0, 1, 6):
            y = layer(backend.asarray(numbers((rows, 4))))
            assert tuple(y.shape) == (rows, *layer.output_shape((4,)))

    def test_without_the_input_gradient_the_others_are_the_same(self, layer, numbers, passes) -> None:
        backend = layer.require_backend()
        x, dy = numbers((3, 4)), numbers((3, *layer.output_shape((4,))))
        _, _, gradients = passes(layer, x, dy)
        layer.vectors.gradients.vector[...] = 0.0
        context = Context(backend, training=True)
        layer.forward(backend.asarray(x), context)
        assert layer.backward_parameters(backend.asarray(dy), context) is None
        for name, gradient in gradients.items():
            np.testing.assert_array_equal(backend.to_numpy(layer.gradients[name]), gradient)


class TestInitialize:
    def test_the_same_seed_gives_the_same_bits_on_every_backend(self, backend) -> None:
        here = Sequential(Linear(7, 5), Linear(5, 3)).initialize(backend, seed=4, dtype="float32")
        there = Sequential(Linear(7, 5), Linear(5, 3)).initialize(xpnet.backend("cpu-reference"), seed=4)
        for name, view in here.parameters.items():
            assert backend.to_numpy(view).tobytes() == there.parameters[name].tobytes()

    def test_each_parameter_depends_on_the_seed_and_its_name_alone(self, cpu) -> None:
        alone = Sequential(Linear(4, 4)).initialize(cpu)
        longer = Sequential(Linear(4, 4), Linear(4, 4)).initialize(cpu)
        other_seed = Sequential(Linear(4, 4)).initialize(cpu, seed=1)
        np.testing.assert_array_equal(alone.parameters["0.W"], longer.parameters["0.W"])
        assert (longer.parameters["0.W"] != longer.parameters["1.W"]).all()
        assert (alone.parameters["0.W"] != other_seed.parameters["0.W"]).all()

    def test_each_layer_knows_its_path(self, backend, reference) -> None:
        inner = Sequential(ReLU(), Shortcut(Linear(3, 3)))
        model = Sequential(Linear(3, 3), inner).initialize(backend)
        for tree in (model, model.to(reference)):
            paths = [layer.path for _, layer in walk(tree)]
            assert paths == ["", "0", "1", "1.0", "1.1", "1.1.inner"]

    def test_values_are_drawn_in_float64_and_cast(self, backend) -> None:
        double, single = (Linear(5, 4).initialize(backend, dtype=dtype) for dtype in ("float64", "float32"))
        expected = backend.to_numpy(double.parameters["W"]).astype(np.float32)
        np.testing.assert_array_equal(backend.to_numpy(single.parameters["W"]), expected)

    def test_names_and_views(self, backend) -> None:
        model = LAYERS["sequential"]().initialize(backend)
        assert list(model.parameters) == list(model.gradients) == ["0.W", "0.b", "1.1.W", "1.1.b"]
        inner = model.layers[1].layers[1]
        assert list(inner.parameters) == ["W", "b"]
        inner.parameters["W"][...] = 9.0
        assert (backend.to_numpy(model.parameters["1.1.W"]) == 9.0).all()
        model.parameters["1.1.b"][...] = -9.0
        assert (backend.to_numpy(inner.parameters["b"]) == -9.0).all()
        inner.gradients["b"][...] = 5.0
        assert float(backend.xp.sum(model.gradients.vector)) == 15.0

    def test_weights_written_in_place_are_the_models(self, backend) -> None:
        layer = Linear(2, 1).initialize(backend, dtype="float64")
        layer.parameters["W"][...] = backend.asarray([[2.0], [3.0]])
        layer.parameters["b"][...] = 1.0
        assert backend.to_numpy(layer(backend.asarray([[10.0, 100.0]]))).tolist() == [[321.0]]

    def test_the_type_is_the_backends_unless_named(self, backend, reference) -> None:
        assert Linear(2, 2).initialize(backend).dtype == "float32"
        assert Linear(2, 2).initialize(reference).dtype == "float64"
        assert Linear(2, 2).initialize(backend, dtype="float64").dtype == "float64"
        with pytest.raises(xpnet.ConfigurationError, match=r"unknown dtype 'float16'.*float32, float64"):
            Linear(2, 2).initialize(backend, dtype="float16")

    def test_a_second_initialize_starts_from_the_drawn_values(self, cpu) -> None:
        layer = Linear(3, 3).initialize(cpu)
        drawn = layer.parameters["W"].copy()
        layer.parameters["W"][...] = 0.0
        layer.initialize(cpu)
        np.testing.assert_array_equal(layer.parameters["W"], drawn)

    def test_buffers_are_kept_apart_from_parameters(self, backend) -> None:
        model = Sequential(Scale(), Linear(2, 2)).initialize(backend)
        assert list(model.buffers) == ["0.seen"]
        assert list(model.parameters) == ["0.scale", "1.W", "1.b"]
        model.forward(backend.asarray(np.ones((1, 2)), "float32"), Context(backend, training=True))
        assert backend.to_numpy(model.buffers["0.seen"]).tolist() == [1.0, 1.0]

    @pytest.mark.parametrize("place", [0, 1, 2])
    def test_a_part_of_a_model_is_initialized_with_it_alone(self, backend, place) -> None:
        model = Sequential(Linear(3, 3), ReLU(), Sequential(Linear(3, 2))).initialize(backend)
        before = np.array(backend.to_numpy(model.vectors.parameters.vector))
        part = model.layers[place]
        with pytest.raises(xpnet.CallOrderError, match="is a part of a model: call initialize on the model"):
            part.initialize(backend, seed=1)
        with pytest.raises(xpnet.CallOrderError, match="is a part of a model, which has the flat vectors"):
            _ = part.vectors
        np.testing.assert_array_equal(backend.to_numpy(model.vectors.parameters.vector), before)
        model.initialize(backend, seed=1)

    def test_a_part_of_a_model_can_be_called(self, backend, numbers) -> None:
        model = Sequential(Linear(3, 4, "tanh"), ReLU(), Linear(4, 2)).initialize(backend, dtype="float64")
        x = y = backend.asarray(numbers((5, 3)))
        for part in model.layers:
            assert (part.dtype, part.require_backend()) == ("float64", backend)
            y = part(y)
        np.testing.assert_array_equal(backend.to_numpy(y), backend.to_numpy(model(x)))

    def test_a_layer_cannot_be_taken_from_an_initialized_model(self, cpu) -> None:
        shared = Linear(3, 2)
        first, second = Sequential(shared), Sequential(shared)
        first.initialize(cpu)
        with pytest.raises(xpnet.CallOrderError):
            second.initialize(cpu)

    def test_a_layer_without_parameters(self, backend) -> None:
        layer = ReLU().initialize(backend)
        assert layer.vectors.parameters.size == 0
        assert layer.require_backend() is backend

    def test_a_model_that_is_not_initialized_says_what_to_call(self, cpu) -> None:
        message = r"this Linear has no parameters yet: call initialize\(xpnet.backend\('auto'\)\)"
        layer = Linear(2, 2)
        for call in (
            lambda: layer(np.zeros((1, 2))),
            lambda: layer.to(cpu),
            lambda: layer.dtype,
            lambda: layer.vectors,
            lambda: xpnet.check_gradients(layer, np.zeros((1, 2))),
        ):
            with pytest.raises(xpnet.CallOrderError, match=message):
                call()


class TestCall:
    def test_the_input_is_cast_once(self, backend) -> None:
        layer = Linear(2, 2).initialize(backend, dtype="float32")
        assert layer(backend.asarray(np.ones((1, 2), np.float64))).dtype == backend.xp.float32
        whole = layer(backend.asarray(np.ones((1, 2), np.uint8)))
        np.testing.assert_array_equal(
            backend.to_numpy(whole), backend.to_numpy(layer(backend.asarray(np.ones((1, 2)), "float32")))
        )

    def test_integers_stay_integers_where_the_first_layer_takes_them(self, backend) -> None:
        model = Sequential(Sequential(Embedding(5, 2), Flatten()), Linear(6, 2)).initialize(backend, dtype="float64")
        table = np.array(backend.to_numpy(model.parameters["0.0.W"]))
        W, b = (np.array(backend.to_numpy(model.parameters[f"1.{name}"])) for name in "Wb")
        x = np.array([[4, 0, 1], [2, 2, 3]], np.uint8)
        expected = table[x].reshape(2, 6) @ W + b
        np.testing.assert_allclose(backend.to_numpy(model(backend.asarray(x))), expected, rtol=1e-13)
        np.testing.assert_allclose(model.predict(x), expected, rtol=1e-13)
        assert (model.takes_integers, model.layers[1].takes_integers) == (True, False)
        with pytest.raises(xpnet.DTypeError, match="row indices must be integers, not"):
            model(backend.asarray(x, "float32"))

    def test_an_array_of_another_backend(self, cpu, strict) -> None:
        layer = Linear(2, 2).initialize(strict)
        with pytest.raises(xpnet.BackendError, match=r"got a numpy.ndarray.*'strict'.*model.backend.asarray"):
            layer(np.zeros((1, 2)))
        with pytest.raises(xpnet.BackendError, match=r"got a array_api_strict.Array on .*device1.*'cpu'.*to_numpy"):
            Linear(2, 2).initialize(cpu)(strict.asarray(np.zeros((1, 2))))

    def test_a_layer_that_defines_nothing(self, cpu) -> None:
        context = Context(cpu)
        with pytest.raises(NotImplementedError, match="Layer defines no forward"):
            Layer().forward(np.zeros(1), context)
        with pytest.raises(NotImplementedError, match="Layer defines no backward"):
            Layer().backward(np.zeros(1), context)


class TestMove:
    @pytest.mark.parametrize("make", [*LAYERS.values(), Scale, lambda: Shortcut(Linear(4, 4, "tanh"))])
    def test_a_moved_copy_computes_the_same_and_the_original_stays(self, backend, reference, make, numbers) -> None:
        original = make().initialize(backend, dtype="float64")
        x = numbers((3, 4))
        before = np.array(backend.to_numpy(original(backend.asarray(x))))
        moved = original.to(reference)
        assert type(moved) is type(original)
        assert moved.require_backend() is reference
        assert original.require_backend() is backend
        assert moved.dtype == original.dtype == "float64"
        np.testing.assert_allclose(moved(x), before, rtol=1e-12)

        for view in moved.parameters.values():
            view[...] = 0.5
        np.testing.assert_array_equal(backend.to_numpy(original(backend.asarray(x))), before)
        moved_after = moved(x)
        for view in original.parameters.values():
            view[...] = 0.25
        np.testing.assert_array_equal(moved(x), moved_after)

    def test_buffers_move_too(self, backend, reference) -> None:
        original = Scale().initialize(backend)
        original.buffers["seen"][...] = 7.0
        moved = original.to(reference)
        assert moved.buffers["seen"].tolist() == [7.0, 7.0]
        moved.buffers["seen"][...] = 8.0
        assert backend.to_numpy(original.buffers["seen"]).tolist() == [7.0, 7.0]

    def test_a_copy_on_the_same_backend_shares_nothing(self, backend) -> None:
        original = Sequential(Linear(3, 2)).initialize(backend)
        copy = original.to(backend)
        copy.layers[0].parameters["W"][...] = 9.0
        assert not (backend.to_numpy(original.parameters["0.W"]) == 9.0).any()
        assert copy.layers[0] is not original.layers[0]

    def test_a_model_of_the_users_own_class(self, cpu, reference) -> None:
        class Net(Sequential):
            def __init__(self, hidden: int) -> None:
                super().__init__(Linear(4, hidden, "relu"), Linear(hidden, 2))
                self.hidden = hidden

        net = Net(8).initialize(cpu)
        moved = net.to(reference)
        assert type(moved) is Net
        assert moved.hidden == 8
        np.testing.assert_allclose(moved.predict(np.ones((1, 4))), net.predict(np.ones((1, 4))), rtol=1e-6)
