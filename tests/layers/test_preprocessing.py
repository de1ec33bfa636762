"""xpnet.layers.preprocessing: inputs scaled by a number, or by statistics of the training set."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import xpnet
from xpnet import Context, Flatten, Linear, Rescale, Sequential, Standardize, Trainer, ops
from xpnet.data import Batches
from xpnet.layers.preprocessing import fit_preprocessing

BYTES = np.arange(256, dtype=np.uint8).reshape(64, 4)
FLOATING = {"float32": np.float32, "float64": np.float64}


def on_host(layer, name: str) -> np.ndarray:
    return np.array(layer.require_backend().to_numpy(layer.buffers[name]))


class TestRescale:
    @pytest.mark.parametrize("dtype", FLOATING)
    @pytest.mark.parametrize("divisor", [255.0, 16, 3.0, 0.1])
    def test_the_same_bits_in_a_pass_and_in_a_gathered_batch(self, backend, divisor, dtype) -> None:
        """A true division: a product with 1/255 would differ for 126 of 256 bytes."""
        expected = BYTES.astype(dtype) / FLOATING[dtype](divisor)
        layer = Rescale(divisor).initialize(backend, dtype=dtype)
        context = Context(backend)
        batches = Batches(backend, BYTES, batch_size=64, dtype=dtype, rescale=layer)
        ways = {
            "pass": layer(backend.asarray(BYTES)),
            "gather": ops.gather(
                backend, backend.asarray(BYTES), backend.asarray(np.arange(64)), divisor=divisor, dtype=dtype
            ),
            "batch": layer.forward(batches.gather(batches.at(0), context)[0], context),
            "predict": backend.asarray(layer.predict(BYTES)),
        }
        for way, y in ways.items():
            np.testing.assert_array_equal(backend.to_numpy(y), expected, err_msg=way, strict=True)

    def test_it_is_within_half_an_ulp_of_the_quotient(self, backend) -> None:
        y = Rescale(255.0).initialize(backend, dtype="float32").predict(BYTES)
        np.testing.assert_allclose(y.astype(np.float64), BYTES / 255.0, rtol=2.0**-24)

    @pytest.mark.parametrize("shape", [(5, 3), (2, 3, 4, 5)])
    def test_backward(self, backend, numbers, passes, shape) -> None:
        layer = Rescale(3.0).initialize(backend, dtype="float64")
        x, dy = numbers(shape), numbers(shape)
        y, dx, gradients = passes(layer, x, dy)
        np.testing.assert_array_equal(y, x / 3.0)
        np.testing.assert_array_equal(dx, dy / 3.0)
        assert gradients == {}
        (check,) = xpnet.check_gradients(layer, x)
        assert check.name == "input"
        assert check.error <= 1e-6

    @pytest.mark.parametrize(("dtype", "divisor"), [("uint8", 255.0), ("float32", 1.0), ("float64", 1.0)])
    def test_it_learns_the_range_of_bytes_and_of_floating_point(self, backend, dtype, divisor) -> None:
        layer = Rescale().initialize(backend)
        assert not layer.is_fitted
        layer.fit(np.ones((2, 3), dtype))
        assert layer.is_fitted
        assert layer.divisor == divisor

    def test_before_that_predict_goes_by_the_type(self, cpu) -> None:
        layer = Rescale().initialize(cpu)
        np.testing.assert_array_equal(layer.predict(BYTES), BYTES / np.float32(255.0))
        np.testing.assert_array_equal(layer.predict(BYTES / np.float32(255.0)), BYTES / np.float32(255.0))
        assert layer.divisor is None

    @pytest.mark.parametrize("divisor", [0, 0.0, -1.0, float("nan"), float("inf"), "255", True])
    def test_divisors_that_cannot_be(self, divisor) -> None:
        with pytest.raises(xpnet.ConfigurationError, match="divisor must be"):
            Rescale(divisor)

    def test_a_range_that_is_not_known(self, backend) -> None:
        layer = Rescale().initialize(backend)
        message = r"has a default divisor for uint8 and floating-point samples, not for int64: give a divisor"
        with pytest.raises(xpnet.DTypeError, match=message):
            layer.fit(np.ones((2, 3), np.int64))
        with pytest.raises(xpnet.DTypeError, match=message):
            layer.predict(np.ones((2, 3), np.int64))
        with pytest.raises(
            xpnet.CallOrderError, match=r"no divisor yet: give one, such as Rescale\(255\.0\), or train"
        ):
            layer(backend.asarray(np.ones((2, 3)), "float32"))


# Shape of the samples, features, and the axes that share a mean and a deviation.
SHAPES = [((3,), 3, 0), ((3, 4, 5), 3, (0, 2, 3)), ((4,), 1, None), ((3, 4, 5), 1, None)]


def by_definition(x: np.ndarray, axes) -> np.ndarray:
    """(x - μ) / σ in float64."""
    x = x.astype(np.float64)
    return (x - x.mean(axis=axes, keepdims=True)) / x.std(axis=axes, keepdims=True)


class TestStandardize:
    @pytest.mark.parametrize("dtype", FLOATING)
    @pytest.mark.parametrize(("shape", "features", "axes"), SHAPES)
    def test_mean_and_deviation_of_each_feature_or_channel(
        self, backend, numbers, shape, features, axes, dtype
    ) -> None:
        x = 3.0 * numbers((40, *shape)) + np.arange(shape[0]).reshape(-1, *(1,) * (len(shape) - 1))
        layer = Standardize(features).initialize(backend, dtype=dtype)
        layer.fit(x)
        tolerance = {"float32": 1e-6, "float64": 1e-13}[dtype]
        np.testing.assert_allclose(on_host(layer, "mean"), x.mean(axis=axes).reshape(features), rtol=tolerance)
        np.testing.assert_allclose(on_host(layer, "deviation"), x.std(axis=axes).reshape(features), rtol=tolerance)
        np.testing.assert_allclose(layer.predict(x), by_definition(x, axes), rtol=0, atol=10 * tolerance)

    @pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32])
    def test_samples_of_any_type(self, backend, dtype) -> None:
        x = np.random.default_rng(0).integers(0, 256, (50, 3)).astype(dtype)
        layer = Standardize(3).initialize(backend, dtype="float64")
        layer.fit(x)
        np.testing.assert_allclose(layer.predict(x), by_definition(x, 0), rtol=0, atol=1e-13)

    def test_sets_of_more_than_a_thousand_rows(self, backend, numbers) -> None:
        """Measured in chunks, whose means are far apart, and of which the last is small."""
        x = numbers((2001, 2)) + np.repeat([0.0, 50.0, 9000.0], [1000, 1000, 1])[:, None]
        layer = Standardize(2).initialize(backend, dtype="float64")
        layer.fit(x)
        np.testing.assert_allclose(on_host(layer, "mean"), x.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(on_host(layer, "deviation"), x.std(axis=0), rtol=1e-12)

    def test_a_large_mean_costs_no_digits(self, backend, numbers) -> None:
        """E[x²] - E[x]² would be off by a hundred times the variance."""
        noise = 1e-3 * numbers((3000, 1))
        layer = Standardize(1).initialize(backend, dtype="float64")
        layer.fit(1e6 + noise)
        noise = (1e6 + noise) - 1e6  # exact
        np.testing.assert_allclose(on_host(layer, "mean") - 1e6, [noise.mean()], rtol=0, atol=2e-10)
        np.testing.assert_allclose(on_host(layer, "deviation"), [noise.std()], rtol=1e-9)

    @pytest.mark.parametrize("constant", [0.0, 0.1, 1e-30, 1e20])
    def test_a_feature_that_never_changes_is_shifted_alone(self, backend, numbers, constant) -> None:
        x = numbers((2001, 2))
        x[:, 0] = constant
        layer = Standardize(2).initialize(backend, dtype="float64")
        layer.fit(x)
        assert on_host(layer, "mean")[0] == constant
        assert on_host(layer, "deviation")[0] == 1.0
        assert layer.is_fitted
        assert layer.predict(np.array([[constant, 0.0], [constant + 2.0, 0.0]]))[:, 0].tolist() == [
            0.0,
            constant + 2.0 - constant,
        ]

    @pytest.mark.parametrize(("shape", "features", "axes"), SHAPES)
    def test_backward(self, backend, numbers, passes, shape, features, axes) -> None:
        layer = Standardize(features).initialize(backend, dtype="float64")
        x, dy = 1.0 + 2.0 * numbers((6, *shape)), numbers((6, *shape))
        layer.fit(x)
        y, dx, gradients = passes(layer, x, dy)
        np.testing.assert_allclose(y, by_definition(x, axes), rtol=0, atol=1e-13)
        np.testing.assert_allclose(dx, dy / x.std(axis=axes, keepdims=True), rtol=1e-13)
        assert gradients == {}
        assert [check.name for check in xpnet.check_gradients(layer, x) if check.error <= 1e-6] == ["input"]

    def test_samples_that_do_not_fit(self, backend) -> None:
        layer = Standardize(3).initialize(backend)
        message = r"Standardize\(3\) takes samples of shape \(3,\) or \(3, height, width\), not \(4,\)"
        with pytest.raises(xpnet.ShapeError, match=message):
            layer.fit(np.ones((5, 4)))
        layer.fit(BYTES[:, :3])
        with pytest.raises(xpnet.ShapeError, match=message):
            layer.predict(np.ones((5, 4)))

    @pytest.mark.parametrize("layer", [Standardize(3), Rescale()])
    def test_nothing_to_learn_from(self, cpu, layer) -> None:
        with pytest.raises(xpnet.ShapeError, match=r"cannot be fitted to samples of shape \(0, 3\): there are none"):
            copy.deepcopy(layer).initialize(cpu).fit(np.ones((0, 3)))

    @pytest.mark.parametrize("features", [0, -1, 2.5, "3"])
    def test_numbers_of_features_that_cannot_be(self, features) -> None:
        with pytest.raises(xpnet.ConfigurationError, match="features must be a whole number of at least 1"):
            Standardize(features)

    @pytest.mark.parametrize(
        ("model", "name"),
        [
            (lambda: Standardize(4), "the Standardize"),
            (lambda: Sequential(Rescale(), Standardize(4), Linear(4, 2)), r"layer standardize \(Standardize\)"),
            (lambda: Sequential(Linear(4, 4), Standardize(4), Linear(4, 2)), r"layer 1 \(Standardize\)"),
            (lambda: Sequential(Sequential(Standardize(4)), Linear(4, 2)), r"layer 0\.standardize \(Standardize\)"),
        ],
    )
    def test_without_statistics_there_are_no_answers(self, backend, model, name) -> None:
        model = model().initialize(backend)
        message = name + r" is not fitted yet: .* call its fit\(x\) with the training set"
        with pytest.raises(xpnet.CallOrderError, match=message):
            model.predict(BYTES)
        with pytest.raises(xpnet.CallOrderError, match=message):
            model(backend.asarray(BYTES))
        with pytest.raises(xpnet.CallOrderError, match=message):
            xpnet.evaluate(model, (BYTES, np.zeros(64, int)))

    @pytest.mark.parametrize("bad", [np.nan, np.inf, 1e39])
    def test_samples_without_finite_statistics_leave_it_unfitted(self, backend, bad) -> None:
        x = np.ones((3, 2)) * [[1.0], [2.0], [3.0]]
        spoilt = x.copy()
        spoilt[1, 1] = bad
        layer = Standardize(2).initialize(backend, dtype="float32")
        with pytest.raises(xpnet.NonFiniteError, match="the samples of feature 1 are not all finite, or too large"):
            layer.fit(spoilt)
        assert not layer.is_fitted
        layer.fit(x)
        assert on_host(layer, "mean").tolist() == [2.0, 2.0]

    def test_a_deviation_below_the_smallest_number_of_the_type_is_none(self, backend) -> None:
        layer = Standardize(1).initialize(backend, dtype="float32")
        layer.fit(np.array([[0.0], [1e-50]]))
        assert on_host(layer, "deviation").tolist() == [1.0]

    def test_in_the_middle_of_a_model_it_is_fitted_by_hand(self, cpu) -> None:
        model = Sequential(Linear(4, 4), Standardize(4), Linear(4, 2)).initialize(cpu)
        trainer = Trainer(model, xpnet.SoftmaxCrossEntropy(), xpnet.SGD(0.0))
        with pytest.raises(xpnet.CallOrderError, match="train a model that begins with it, or call its fit"):
            trainer.fit((BYTES, np.zeros(64, int)), epochs=1)
        model.layers[1].fit(BYTES)
        trainer.fit((BYTES, np.zeros(64, int)), epochs=1)
        np.testing.assert_allclose(on_host(model.layers[1], "mean"), BYTES.mean(axis=0), rtol=1e-6)

    def test_before_initialize(self) -> None:
        with pytest.raises(xpnet.CallOrderError, match="call initialize"):
            Standardize(4).fit(BYTES)


class Centered(Rescale):
    """Divides and subtracts: its division must not be done while a batch is gathered."""

    def forward(self, x, context):
        return x / self.divisor - 0.5


def test_a_rescale_with_a_forward_pass_of_its_own_divides_once(backend) -> None:
    model = Sequential(Centered(256.0), Flatten()).initialize(backend)
    np.testing.assert_array_equal(model.predict(BYTES), (BYTES / 256.0 - 0.5).astype(np.float32))


def saved_and_loaded(model):
    xpnet.save_model(model, "model.safetensors")
    return xpnet.load_model("model.safetensors", model.backend)


WAYS = {
    "file": saved_and_loaded,
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "to": lambda model: model.to(model.backend),
}


class TestAtTheStartOfAModel:
    @pytest.mark.parametrize(
        ("layers", "names"),
        [
            ([Rescale, Flatten, lambda: Linear(4, 2)], ["rescale", "0", "1"]),
            ([lambda: Standardize(4), lambda: Linear(4, 2)], ["standardize", "0"]),
            ([Rescale, lambda: Standardize(4), lambda: Linear(4, 2)], ["rescale", "standardize", "0"]),
            ([lambda: Standardize(4), Rescale, lambda: Linear(4, 2)], ["standardize", "rescale", "0"]),
            ([Rescale, Rescale, lambda: Linear(4, 2)], ["rescale", "0", "1"]),
            ([lambda: Linear(4, 4), Rescale, lambda: Standardize(4)], ["0", "1", "2"]),
        ],
    )
    def test_its_kind_is_its_name_and_the_others_keep_their_numbers(self, cpu, layers, names) -> None:
        model = Sequential(*(make() for make in layers)).initialize(cpu)
        assert list(model.children()) == names
        assert [layer.path for layer in model.layers] == names

    def test_the_layers_after_it_begin_with_the_same_weights(self, cpu) -> None:
        scaled = Sequential(Rescale(), Standardize(4), Linear(4, 2)).initialize(cpu, seed=3)
        plain = Sequential(Linear(4, 2)).initialize(cpu, seed=3)
        assert scaled.parameters.vector.tobytes() == plain.parameters.vector.tobytes()
        assert list(scaled.state_dict()) == ["0.W", "0.b", "standardize.mean", "standardize.deviation"]

    def test_each_is_fitted_to_what_the_ones_before_make(self, backend) -> None:
        x = np.random.default_rng(0).integers(0, 256, (1500, 3, 2, 2)).astype(np.uint8)
        model = Sequential(Rescale(), Standardize(3), Flatten()).initialize(backend, dtype="float64")
        fit_preprocessing(model, x)
        assert model.layers[0].divisor == 255.0
        np.testing.assert_allclose(on_host(model.layers[1], "mean"), (x / 255.0).mean(axis=(0, 2, 3)), rtol=1e-12)
        np.testing.assert_allclose(on_host(model.layers[1], "deviation"), (x / 255.0).std(axis=(0, 2, 3)), rtol=1e-12)
        expected = by_definition(x, (0, 2, 3)).reshape(1500, 12)
        np.testing.assert_allclose(model.predict(x), expected, rtol=0, atol=1e-12)
        assert [check.name for check in xpnet.check_gradients(model, x[:3]) if check.error <= 1e-6] == ["input"]

    def test_a_trainer_fits_it_once(self, backend) -> None:
        x, y = BYTES[:, :3], np.arange(64) % 2
        model = Sequential(Rescale(), Standardize(3), Linear(3, 2)).initialize(backend)
        trainer = Trainer(model, xpnet.SoftmaxCrossEntropy(), xpnet.SGD(0.01))
        trainer.fit((x, y), epochs=1)
        learned = [on_host(model.layers[1], name) for name in ("mean", "deviation")]
        np.testing.assert_allclose(learned[0], (x / 255.0).mean(axis=0), rtol=1e-6)
        trainer.fit((x / 10.0, y), epochs=2)
        assert trainer.step == 2
        assert model.layers[0].divisor == 255.0
        for name, before in zip(("mean", "deviation"), learned, strict=True):
            np.testing.assert_array_equal(on_host(model.layers[1], name), before)

    @pytest.mark.parametrize("way", WAYS)
    def test_what_it_learned_goes_with_the_model(self, cpu, way, monkeypatch, tmp_path) -> None:
        monkeypatch.chdir(tmp_path)
        model = Sequential(Rescale(), Standardize(4), Linear(4, 2)).initialize(cpu)
        fit_preprocessing(model, BYTES)
        twin = WAYS[way](model)
        assert twin.layers[0].divisor == 255.0
        assert twin.buffers.vector.tobytes() == model.buffers.vector.tobytes()
        np.testing.assert_array_equal(twin.predict(BYTES), model.predict(BYTES))
        fit_preprocessing(twin, BYTES / 7.0)  # it is fitted
        assert twin.buffers.vector.tobytes() == model.buffers.vector.tobytes()

    def test_its_statistics_come_with_a_state_dict(self, backend) -> None:
        model, twin = (Sequential(Standardize(4), Linear(4, 2)).initialize(backend, seed) for seed in (1, 2))
        fit_preprocessing(model, BYTES)
        twin.load_state_dict(model.state_dict())
        np.testing.assert_array_equal(twin.predict(BYTES), model.predict(BYTES))
