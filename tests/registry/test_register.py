"""Classes of one's own: registered, described, built."""

from __future__ import annotations

import tomllib
from typing import Any

import numpy as np
import pytest

import xpnet
from xpnet import Constant, Layer, Linear, ReLU, Sequential, registry
from xpnet.errors import ConfigurationError
from xpnet.registry import build, describe, names, register

FAN_IN = {"type": "FanInUniform"}


HALF = Constant(0.5)


class Mixture(Layer):
    """A layer with every kind of argument."""

    def __init__(self, features, inner=None, blocks=(), heads=None, draw=HALF, *, options=None, rate=1.0):
        self.features, self.inner, self.blocks, self.heads = features, inner, list(blocks), heads
        self.draw, self.options, self.rate = draw, options, rate


def back(kind: str, table: dict[str, Any]) -> Any:
    """What a recipe with that table builds."""
    import tomli_w

    return build(kind, tomllib.loads(tomli_w.dumps(table)))


class Sum(Layer):
    def __init__(self, scale: float, *branches: Layer) -> None:
        self.scale, self.branches = scale, branches


class Net(Sequential):
    def __init__(self, hidden: int) -> None:
        super().__init__(Linear(4, hidden, "relu"), Linear(hidden, 2))
        self.hidden = hidden


class Ones:
    """An initialiser."""

    def draw(self, shape, fan_in, fan_out, key):
        return np.ones(shape)


class Half(xpnet.Schedule):
    def __init__(self, learning_rate: float) -> None:
        self.learning_rate = learning_rate

    def __call__(self, step, total_steps=None):
        return self.learning_rate / 2


class Descent(xpnet.Optimizer):
    def __init__(self, learning_rate, memory: dict[str, float] | None = None, **options: Any) -> None:
        super().__init__(learning_rate, **options)
        self.memory = memory


class Absolute(xpnet.Loss):
    pass


class Quiet(xpnet.Callback):
    pass


@pytest.mark.parametrize(
    ("kind", "cls"),
    [
        ("layer", Sum),
        ("layer", Net),
        ("initializer", Ones),
        ("schedule", Half),
        ("optimizer", Descent),
        ("loss", Absolute),
        ("callback", Quiet),
    ],
)
def test_a_class_is_known_by_its_name_among_its_kind(kind: str, cls: type) -> None:
    assert cls.__name__ not in names(kind)
    assert register(cls) is cls
    assert names(kind)[-1] == cls.__name__
    assert all(
        cls.__name__ not in names(other) for other in ("layer", "loss", "optimizer", "schedule") if other != kind
    )


def absolute_error(outputs, targets):
    error = outputs - targets
    return abs(error).sum(axis=1), (error > 0) * 2.0 - 1.0


def test_a_function_is_a_loss() -> None:
    assert register(absolute_error) is absolute_error
    assert names("loss")[-1] == "absolute_error"
    cpu = xpnet.backend("cpu")
    loss = back("loss", describe(xpnet.FunctionLoss(absolute_error, reduction="sum")))
    assert (type(loss), loss.function, loss.reduction) == (xpnet.FunctionLoss, absolute_error, "sum")
    assert float(loss(cpu, cpu.asarray([[1.0], [5.0]]), cpu.asarray([[2.0], [3.0]]))) == 3.0
    assert build("loss", {"type": "absolute_error"}).reduction == "mean"
    with pytest.raises(ConfigurationError, match="unknown key of absolute_error 'rate'; the choices are reduction"):
        build("loss", {"type": "absolute_error", "rate": 1.0})


def test_a_function_without_a_name_is_none() -> None:
    with pytest.raises(ConfigurationError, match="is neither a class nor a function with a name"):
        register(lambda outputs, targets: None)
    with pytest.raises(ConfigurationError, match="no file can name <lambda>, which is not registered"):
        describe(xpnet.FunctionLoss(lambda outputs, targets: None))


def test_the_decorator_is_public() -> None:
    assert xpnet.register is register


def test_objects_within_objects_are_described_and_built() -> None:
    register(Mixture)
    heads = {"left": ReLU(), "all": [Linear(2, 1), 3]}
    layer = Mixture(np.int64(3), Sequential(ReLU()), (ReLU(), ReLU()), heads, draw=Constant(2.0), rate=0.5)
    linear = {"type": "Linear", "inputs": 2, "outputs": 1, "weights": FAN_IN, "biases": FAN_IN, "bias": True}
    assert describe(layer) == {
        "type": "Mixture",
        "features": 3,
        "inner": {"type": "Sequential", "layers": [{"type": "ReLU"}]},
        "blocks": [{"type": "ReLU"}, {"type": "ReLU"}],
        "heads": {"left": {"type": "ReLU"}, "all": [linear, 3]},
        "draw": {"type": "Constant", "value": 2.0},
        "rate": 0.5,
    }
    built = back("layer", describe(layer))
    # TOML puts texts and lists before tables, so the order within a dictionary may change; its names do not.
    assert set(built.children()) == {"inner", "blocks.0", "blocks.1", "heads.left", "heads.all.0"}
    assert (built.features, built.draw.value, built.options, built.rate) == (3, 2.0, None, 0.5)
    assert describe(built) == describe(layer)


def test_arguments_of_any_number() -> None:
    register(Sum)
    layer = Sum(2.0, ReLU(), Linear(2, 2))
    built = back("layer", describe(layer))
    assert (built.scale, [type(branch) for branch in built.branches]) == (2.0, [ReLU, Linear])
    assert build("layer", {"type": "Sum", "scale": 1.0}).branches == ()


def test_a_sequential_is_described_by_the_arguments_of_its_own_constructor() -> None:
    register(Net)
    assert describe(Net(8)) == {"type": "Net", "hidden": 8}
    assert back("layer", describe(Net(8))).layers[0].outputs == 8


def test_initializers_and_schedules_stand_where_xpnets_stand() -> None:
    register(Ones)
    register(Half)
    register(Descent)
    layer = back("layer", describe(Linear(2, 3, weights=Ones())))
    assert layer.initialize(xpnet.backend("cpu")).parameters["W"].tolist() == [[1.0] * 3] * 2
    optimizer = back("optimizer", describe(Descent(Half(0.5), {"a": 0.25}, frozen="0.*")))
    assert (optimizer.rate(0), optimizer.memory, optimizer.frozen) == (0.25, {"a": 0.25}, ("0.*",))
    assert back("optimizer", describe(xpnet.SGD(Half(0.5)))).rate(3) == 0.25


class TestNames:
    def test_one_that_xpnet_has(self) -> None:
        for name, base in (("Linear", Linear), ("Adam", Layer), ("CSVLog", Layer)):
            with pytest.raises(
                ConfigurationError, match=rf"the name {name} belongs to xpnet\..*\.{name}: take another"
            ):
                register(type(name, (base,), {}))

    def test_one_that_another_class_has(self) -> None:
        register(Half)
        other = type("Half", (Layer,), {"__module__": "elsewhere"})
        with pytest.raises(ConfigurationError, match=r"the name Half belongs to .*test_register\.Half"):
            register(other)

    def test_the_same_class_again(self) -> None:
        """As a notebook's cell that runs twice, or a module that is reloaded."""
        first, second = (type("Cell", (Layer,), {"__module__": "__main__"}) for _ in range(2))
        register(first)
        old = first()
        register(second)
        assert type(build("layer", {"type": "Cell"})) is second
        assert describe(old) == {"type": "Cell"}

    def test_what_is_no_class_that_a_file_can_name(self) -> None:
        with pytest.raises(
            ConfigurationError, match="dict must be derived from Layer, Loss, Optimizer, Schedule or Callback"
        ):
            register(dict)


class TestWhatCannotBeDescribed:
    def test_a_class_that_is_not_registered(self) -> None:
        message = r"no file can name Half, which is not registered: put @xpnet\.register above it, and import"
        with pytest.raises(ConfigurationError, match=message):
            describe(xpnet.SGD(Half(0.5)))
        with pytest.raises(
            ConfigurationError, match=r"unknown layer type 'Mixture'.*@xpnet\.register.*--plugin FILE\.py"
        ):
            build("layer", {"type": "Mixture"})

    def test_an_argument_that_is_not_kept(self) -> None:
        class Forgets(Layer):
            def __init__(self, features):
                self.n = features

        register(Forgets)
        message = (
            "Forgets keeps no attribute 'features', the name of its constructor's argument: write self.features = "
        )
        with pytest.raises(ConfigurationError, match=message):
            describe(Forgets(3))

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"features": np.ones(2)}, r"Mixture's features is array\(\[1\., 1\.\]\), which no file can hold"),
            ({"features": None}, "Mixture's features is None, which no file can hold"),
            ({"features": 1, "rate": None}, "Mixture's rate is None"),
            ({"features": {1: 2}}, r"Mixture's features is \{1: 2\}"),
            ({"features": [1, len]}, r"Mixture's features\[1\] is <built-in function len>"),
            ({"features": {"type": "x"}}, "Mixture's features has a text under 'type', which in a file names a class"),
            ({"features": Half(1.0)}, "no file can name Half"),
        ],
    )
    def test_a_value_that_no_file_can_hold(self, arguments: dict[str, Any], message: str) -> None:
        register(Mixture)
        with pytest.raises(ConfigurationError, match=message):
            describe(Mixture(**arguments))


class TestWhatCannotBeBuilt:
    def test_a_callback_where_none_is_registered(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(registry._CLASSES, "callback", {})
        with pytest.raises(ConfigurationError, match=r"'Quiet': no callback is registered; put @xpnet\.reg"):
            build("callback", {"type": "Quiet"})
        with pytest.raises(ConfigurationError, match="expected a table with a 'type' for the callback, got"):
            build("callback", {})

    def test_the_error_says_where(self) -> None:
        register(Mixture)
        table = {"type": "Mixture", "features": 1, "heads": {"a": [{"type": "Linear", "inputs": 0, "outputs": 1}]}}
        with pytest.raises(ConfigurationError, match=r"^heads\.a\[0\]: inputs must be a whole number of at least 1"):
            build("layer", table)
        with pytest.raises(ConfigurationError, match=r"^inner: unknown layer type 'Nope'"):
            build("layer", {"type": "Mixture", "features": 1, "inner": {"type": "Nope"}})

    def test_a_file_builds_no_callback(self) -> None:
        register(Mixture)
        register(Quiet)
        for name in ("CSVLog", "Quiet"):
            with pytest.raises(ConfigurationError, match=f"inner: unknown layer type '{name}'"):
                build("layer", {"type": "Mixture", "features": 1, "inner": {"type": name}})
        with pytest.raises(ConfigurationError, match=r"unknown callback type 'CSVLog': .* keys early_stopping"):
            build("callback", {"type": "CSVLog", "path": "x.csv"})

    def test_a_constructor_that_fails(self) -> None:
        class Picky(Layer):
            def __init__(self, features):
                raise KeyError(features)

        register(Picky)
        with pytest.raises(ConfigurationError, match="Picky cannot be built: KeyError: 3"):
            build("layer", {"type": "Picky", "features": 3})
        with pytest.raises(ConfigurationError, match="Sum lacks the key 'scale'"):
            build("layer", {"type": register(Sum).__name__})
        with pytest.raises(ConfigurationError, match="branches must be a list, got 3"):
            build("layer", {"type": "Sum", "scale": 1, "branches": 3})


class Typed(Layer):
    def __init__(self, type):
        self.type = type


class Positional(Layer):
    def __init__(self, features, /):
        self.features = features


class AnyKeywords(Layer):
    def __init__(self, features, **scales):
        self.features, self.scales = features, scales


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (Typed, "Typed has an argument 'type', which in a file is the name of the class: rename it"),
        (Positional, "Positional takes 'features' by position only: remove the / after it"),
        (AnyKeywords, "AnyKeywords takes any keywords, which a file cannot hold: name each argument"),
    ],
)
def test_arguments_that_a_file_would_lose(cls, message) -> None:
    with pytest.raises(ConfigurationError, match=f"^{message}"):
        register(cls)
    assert cls.__name__ not in names("layer")
