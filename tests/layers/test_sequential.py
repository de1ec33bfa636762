"""xpnet.layers.sequential: composition against its layers one by one, prediction in batches, the summary."""

from __future__ import annotations

import numpy as np
import pytest

import xpnet
from xpnet import (
    BatchNorm,
    Context,
    Conv2d,
    Flatten,
    Linear,
    MaxPool2d,
    ReLU,
    Reshape,
    Residual,
    Sequential,
    Sigmoid,
    Softmax,
)


def perceptron() -> Sequential:
    return Sequential(Flatten(), Linear(6, 5, "tanh"), ReLU(), Linear(5, 3))


def test_it_is_the_composition_of_its_layers(backend, numbers) -> None:
    model = perceptron().initialize(backend, seed=3, dtype="float64")
    x = numbers((4, 2, 3))
    W1, b1, W2, b2 = (backend.to_numpy(view) for view in model.parameters.values())
    expected = np.maximum(np.tanh(x.reshape(4, 6) @ W1 + b1), 0) @ W2 + b2
    np.testing.assert_allclose(backend.to_numpy(model(backend.asarray(x))), expected, rtol=1e-13, atol=1e-14)
    assert max(check.error for check in xpnet.check_gradients(model, x)) <= 1e-6


def test_parameters_are_named_by_place(backend) -> None:
    model = Sequential(ReLU(), Sequential(Linear(4, 4), Linear(4, 3)), Linear(3, 2)).initialize(backend)
    names = ["1.0.W", "1.0.b", "1.1.W", "1.1.b", "2.W", "2.b"]
    assert list(model.parameters) == list(model.gradients) == names
    assert list(model.children()) == ["0", "1", "2"]


def test_the_gradient_of_the_data_is_not_computed_when_nobody_wants_it(backend, numbers) -> None:
    class First(Linear):
        def backward(self, dy, context):
            raise AssertionError("one matrix product too many")

        backward_parameters = Linear.backward_parameters

    model = Sequential(Flatten(), First(6, 5, "tanh"), Linear(5, 3)).initialize(backend, dtype="float64")
    context = Context(backend, training=True)
    model.forward(backend.asarray(numbers((4, 2, 3))), context)
    model.backward_parameters(backend.asarray(numbers((4, 3))), context)
    assert all(backend.to_numpy(gradient).any() for gradient in model.gradients.values())


class TestPredict:
    @pytest.mark.parametrize("batch_size", [1, 2, 3, 4, 10, 1000])
    def test_in_batches_of_any_size(self, backend, numbers, batch_size) -> None:
        model = perceptron().initialize(backend, dtype="float64")
        x = numbers((10, 2, 3))
        whole = backend.to_numpy(model(backend.asarray(x)))
        outputs = model.predict(x, batch_size)
        assert isinstance(outputs, np.ndarray)
        np.testing.assert_allclose(outputs, whole, rtol=1e-12, atol=1e-14)
        assert model.predict_labels(x, batch_size).tolist() == whole.argmax(axis=1).tolist()

    def test_an_array_that_is_already_there(self, backend, numbers) -> None:
        model = perceptron().initialize(backend, dtype="float64")
        x = numbers((5, 2, 3))
        np.testing.assert_array_equal(model.predict(backend.asarray(x), 2), model.predict(x, 2))

    def test_no_rows(self, backend) -> None:
        model = perceptron().initialize(backend)
        assert model.predict(np.zeros((0, 2, 3))).shape == (0, 3)
        assert model.predict_labels(np.zeros((0, 2, 3))).shape == (0,)

    def test_bytes_are_cast(self, backend) -> None:
        model = perceptron().initialize(backend)
        x = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
        outputs = model.predict(x)
        assert outputs.dtype == np.float32
        np.testing.assert_array_equal(outputs, model.predict(x.astype(np.float32)))

    def test_labels_are_int64_and_the_first_of_equals(self, backend) -> None:
        model = Sequential(ReLU()).initialize(backend)
        labels = model.predict_labels(np.array([[0.0, 2.0, 2.0], [-1.0, -2.0, -3.0]]))
        assert labels.dtype == np.int64
        assert labels.tolist() == [1, 0]

    def test_it_never_gives_away_the_users_own_memory(self, cpu) -> None:
        x = np.zeros((2, 3), np.float32)
        Sequential(Flatten()).initialize(cpu).predict(x)[...] = 1.0
        assert not x.any()

    @pytest.mark.parametrize("batch_size", [0, -1, 2.0])
    def test_a_batch_size_that_cannot_work(self, cpu, batch_size) -> None:
        model = perceptron().initialize(cpu)
        with pytest.raises(xpnet.ConfigurationError, match="batch_size must be a whole number of at least 1"):
            model.predict(np.zeros((2, 2, 3)), batch_size)


class TestSummary:
    def test_a_table_of_kinds_shapes_and_counts(self) -> None:
        lines = (
            Sequential(Flatten(), Linear(784, 500, "relu"), Linear(500, 10), Softmax()).summary((28, 28)).split("\n")
        )
        assert [line.split() for line in lines] == [
            ["layer", "kind", "output", "parameters", "FLOPs"],
            ["0", "Flatten", "(784,)", "0", "0"],
            ["1", "Linear", "relu", "(500,)", "392,500", "784,000"],
            ["2", "Linear", "(10,)", "5,010", "10,000"],
            ["3", "Softmax", "(10,)", "0", "0"],
            ["total", "397,510", "794,000"],
        ]
        assert len({len(line) for line in lines}) == 1

    def test_the_input_shape_is_read_off_the_first_linear(self) -> None:
        assert "1,568" not in Sequential(Linear(3, 2)).summary()
        assert Sequential(Sigmoid(), Linear(3, 2)).summary() == Sequential(Sigmoid(), Linear(3, 2)).summary((3,))

    def test_the_summary_of_a_network_for_images(self) -> None:
        """The input's shape is read off the Reshape, and long shapes stay in their column."""
        layers = Conv2d(1, 16, 5, activation="relu"), MaxPool2d(2), Flatten(), Linear(2304, 10)
        model = Sequential(Reshape([1, 28, 28]), *layers)
        lines = model.summary().split("\n")
        assert [line.split() for line in lines[1:]] == [
            ["0", "Reshape", "(1,", "28,", "28)", "0", "0"],
            ["1", "Conv2d", "relu", "(16,", "24,", "24)", "416", "460,800"],  # 2 · 5² · 16 · 24²
            ["2", "MaxPool2d", "(16,", "12,", "12)", "0", "0"],
            ["3", "Flatten", "(2304,)", "0", "0"],
            ["4", "Linear", "(10,)", "23,050", "46,080"],
            ["total", "23,466", "506,880"],
        ]
        assert len({len(line) for line in lines}) == 1
        assert model.summary((28, 28)) == model.summary((784,)) == model.summary()
        with pytest.raises(xpnet.ShapeError, match=r"^Conv2d\(1, 16, 5\) takes samples of shape \(1, height, width\)"):
            Sequential(*layers).summary()

    def test_nested_it_is_a_row_and_its_first_linear_counts(self) -> None:
        model = Sequential(Sequential(Sequential(Sigmoid()), Linear(3, 4, "relu"), Linear(4, 5)), Linear(5, 2))
        assert [line.split() for line in model.summary().split("\n")[1:]] == [
            ["0", "Sequential", "(5,)", "41", "64"],
            ["1", "Linear", "(2,)", "12", "20"],
            ["total", "53", "84"],
        ]

    def test_the_count_is_that_of_the_model(self, cpu) -> None:
        model = Sequential(Linear(4, 4), Sequential(Linear(4, 5), Linear(5, 2))).initialize(cpu)
        assert model.summary().split()[-2] == str(model.vectors.parameters.size) == str(20 + 25 + 12)

    def test_flops_go_through_what_is_nested(self) -> None:
        """Two convolutions of 3 x 3, the second with a stride of 2; a shortcut; and a dense layer."""
        block = Residual(Conv2d(4, 8, 3, padding="same"), ReLU(), Conv2d(8, 4, 1))
        model = Sequential(block, Conv2d(4, 2, 3, stride=2, padding=1), BatchNorm(2), Flatten(), Linear(50, 3))
        in_block = 2 * 9 * 4 * 8 * 100 + 2 * 8 * 4 * 100
        assert block.flops((4, 10, 10)) == in_block
        assert model.flops((4, 10, 10)) == in_block + 2 * 9 * 4 * 2 * 25 + 2 * 50 * 3
        assert model.summary((4, 10, 10)).split()[-1] == f"{model.flops((4, 10, 10)):,}"

    def test_layers_that_do_not_fit(self) -> None:
        with pytest.raises(xpnet.ShapeError, match=r"Linear\(5, 2\) takes samples of shape \(5,\), not \(4,\)"):
            Sequential(Linear(3, 4), Linear(5, 2)).summary()


def test_output_shape_goes_through_all_layers() -> None:
    assert perceptron().output_shape((2, 3)) == (3,)
    with pytest.raises(xpnet.ShapeError, match="layer 1: "):
        perceptron().output_shape((7,))


def test_what_a_sequential_cannot_be_made_of() -> None:
    with pytest.raises(xpnet.ConfigurationError, match="a Sequential needs at least one layer"):
        Sequential()
    with pytest.raises(xpnet.ConfigurationError, match="layer 1 of a Sequential must be a Layer, not 'relu'"):
        Sequential(Linear(2, 2), "relu")
    layer = Linear(2, 2)
    with pytest.raises(xpnet.ConfigurationError, match="only once: its parameters would be shared"):
        Sequential(layer, ReLU(), layer)


@pytest.mark.parametrize("place", [0, 1])
def test_a_layer_of_an_initialized_model_cannot_join_another(backend, place) -> None:
    model = Sequential(Linear(2, 2), ReLU()).initialize(backend)
    with pytest.raises(xpnet.ConfigurationError, match=r"layer 1 \(.*\) is a part of another.*copy.deepcopy\(layer\)"):
        Sequential(Linear(2, 2), model.layers[place])
