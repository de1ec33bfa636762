"""xpnet.optimizers: many steps against scalar loops in Python's floats, written from the papers; the options."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest

import xpnet
from xpnet.optimizers import SGD, AdaGrad, Adam, AdamW, Lion, Momentum, Nesterov, Optimizer, RMSProp
from xpnet.optimizers.optimizer import OptimizerOptions

STEPS = 20


def sgd(theta: float, gradients: list[float], rate: float) -> float:
    for g in gradients:
        theta -= rate * g
    return theta


def momentum(theta: float, gradients: list[float], rate: float, mu: float) -> float:
    v = 0.0
    for g in gradients:
        v = mu * v + g
        theta -= rate * v
    return theta


def adam(theta: float, gradients: list[float], rate: float, beta1=0.9, beta2=0.999, epsilon=1e-8) -> float:
    m = v = 0.0
    for t, g in enumerate(gradients, start=1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)
        theta -= rate * m_hat / (math.sqrt(v_hat) + epsilon)
    return theta


def nesterov(theta: float, gradients: list[float], rate: float, mu: float) -> float:
    v = 0.0
    for g in gradients:
        v = mu * v + g
        theta -= rate * (g + mu * v)
    return theta


def adagrad(theta: float, gradients: list[float], rate: float, epsilon: float) -> float:
    for t, g in enumerate(gradients, start=1):
        theta -= rate * g / (math.sqrt(sum(earlier**2 for earlier in gradients[:t])) + epsilon)
    return theta


def rmsprop(theta: float, gradients: list[float], rate: float, alpha: float, epsilon: float) -> float:
    v = 0.0
    for g in gradients:
        v = alpha * v + (1 - alpha) * g * g
        theta -= rate * g / (math.sqrt(v) + epsilon)
    return theta


def lion(theta: float, gradients: list[float], rate: float, beta1: float, beta2: float) -> float:
    m = 0.0
    for g in gradients:
        theta -= rate * math.copysign(1.0, beta1 * m + (1 - beta1) * g)
        m = beta2 * m + (1 - beta2) * g
    return theta


CASES = {
    "sgd": (lambda: SGD(0.1), lambda theta, g: sgd(theta, g, 0.1)),
    "momentum": (lambda: Momentum(0.1), lambda theta, g: momentum(theta, g, 0.1, 0.9)),
    "momentum 0": (lambda: Momentum(0.1, momentum=0.0), lambda theta, g: sgd(theta, g, 0.1)),
    "nesterov": (lambda: Nesterov(0.1), lambda theta, g: nesterov(theta, g, 0.1, 0.9)),
    "adagrad": (AdaGrad, lambda theta, g: adagrad(theta, g, 0.01, 1e-10)),
    "rmsprop": (RMSProp, lambda theta, g: rmsprop(theta, g, 0.01, 0.99, 1e-8)),
    "lion": (Lion, lambda theta, g: lion(theta, g, 1e-4, 0.9, 0.99)),
    "adam": (Adam, lambda theta, g: adam(theta, g, 1e-3)),
    "adam of Keras": (
        lambda: Adam(0.01, 0.8, 0.99, epsilon=1e-7),
        lambda theta, g: adam(theta, g, 0.01, 0.8, 0.99, 1e-7),
    ),
    "adam without memory": (
        lambda: Adam(0.01, 0.0, 0.0, epsilon=0.1),
        lambda theta, g: adam(theta, g, 0.01, 0.0, 0.0, 0.1),
    ),
}


def model_on(backend, dtype="float64"):
    return xpnet.Sequential(xpnet.Linear(3, 4), xpnet.Linear(4, 2)).initialize(backend, seed=1, dtype=dtype)


def set_gradients(model, step: int) -> None:
    draws = np.random.default_rng(step)
    for view in model.gradients.values():
        view[...] = model.backend.asarray(draws.standard_normal(view.shape), model.dtype)


def on_host(model, views) -> dict[str, np.ndarray]:
    return {name: np.array(model.backend.to_numpy(view)) for name, view in views.items()}


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-6), ("float64", 1e-13)])
@pytest.mark.parametrize("case", CASES)
def test_twenty_steps_are_the_equation(backend, case, dtype, tolerance) -> None:
    make, expected = CASES[case]
    model, optimizer = model_on(backend, dtype), make()
    optimizer.initialize(model)
    start, gradients = on_host(model, model.parameters), []
    for step in range(STEPS):
        set_gradients(model, step)
        gradients.append(on_host(model, model.gradients))
        optimizer.update(step)
    for name, after in on_host(model, model.parameters).items():
        assert after.dtype == dtype
        wanted = [
            expected(float(start[name][place]), [float(g[name][place]) for g in gradients])
            for place in np.ndindex(after.shape)
        ]
        np.testing.assert_allclose(after.reshape(-1), wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("case", CASES)
def test_the_gradients_are_only_read(backend, case) -> None:
    model, optimizer = model_on(backend), CASES[case][0]()
    optimizer.initialize(model)
    set_gradients(model, 0)
    before = on_host(model, model.gradients)
    optimizer.update(0)
    for name, gradient in on_host(model, model.gradients).items():
        np.testing.assert_array_equal(gradient, before[name])


@pytest.mark.parametrize("case", ["sgd", "momentum", "adagrad", "rmsprop", "adam", "lion"])
def test_a_step_depends_on_its_number_and_the_state_alone(backend, case) -> None:
    """As after a resume: a new optimizer with the state of the old one goes on with the same bits."""
    models = [model_on(backend, "float32") for _ in range(2)]
    straight, resumed = (CASES[case][0]() for _ in range(2))
    straight.initialize(models[0])
    for step in range(6):
        set_gradients(models[0], step)
        straight.update(step)
        if step == 2:
            resumed.initialize(models[1])
            models[1].parameters.vector[...] = models[0].parameters.vector
            for name, views in resumed.state.items():
                views.vector[...] = straight.state[name].vector
        if step > 2:
            set_gradients(models[1], step)
            resumed.update(step)
    for name, values in on_host(models[1], models[1].parameters).items():
        np.testing.assert_array_equal(values, backend.to_numpy(models[0].parameters[name]))


@pytest.mark.parametrize("optimizer", [SGD(1.0), Momentum(1.0), Adam(1.0)], ids=lambda o: type(o).__name__)
def test_the_learning_rate_may_change_between_steps(backend, optimizer) -> None:
    model = model_on(backend)
    optimizer.initialize(model)
    set_gradients(model, 0)
    optimizer.learning_rate = 0.0
    before = on_host(model, model.parameters)
    optimizer.update(0)
    for name, after in on_host(model, model.parameters).items():
        np.testing.assert_array_equal(after, before[name])
    optimizer.learning_rate = 0.5
    optimizer.update(1)
    assert all((after != before[name]).all() for name, after in on_host(model, model.parameters).items())


def test_the_state_is_named_like_the_parameters_and_starts_from_zero(backend) -> None:
    model = model_on(backend, "float32")
    for optimizer, slots in ((SGD(), []), (Momentum(), ["velocity"]), (Adam(), ["m", "v"])):
        optimizer.initialize(model)
        assert list(optimizer.state) == slots
        for views in optimizer.state.values():
            assert {name: view.shape for name, view in views.items()} == model.parameters.shapes
            assert not backend.to_numpy(views.vector).any()
            assert views.dtype == "float32"


def test_initialize_starts_over(cpu) -> None:
    model, optimizer = model_on(cpu), Momentum()
    optimizer.initialize(model)
    set_gradients(model, 0)
    optimizer.update(0)
    assert optimizer.state["velocity"].vector.any()
    optimizer.initialize(model)
    assert not optimizer.state["velocity"].vector.any()


@pytest.mark.parametrize("case", ["momentum", "adam"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_state_decays_into_denormals(backend, case, dtype) -> None:
    model, optimizer = model_on(backend, dtype), CASES[case][0]()
    optimizer.initialize(model)
    model.gradients.vector[...] = 0.0
    for views in optimizer.state.values():
        for view in views.values():
            view[...] = 1e-35
    for step in range(40):  # 0.9**40 is 0.015
        optimizer.update(step)
        for views in optimizer.state.values():
            values = abs(backend.to_numpy(views.vector))
            assert values[values > 0].min(initial=1.0) >= 0.99e-36
    first = "velocity" if case == "momentum" else "m"
    assert not backend.to_numpy(optimizer.state[first].vector).any()


def test_the_default_settings() -> None:
    assert SGD().learning_rate == 1e-3
    assert (Momentum().learning_rate, Momentum().momentum) == (1e-3, 0.9)
    adam = Adam()
    assert (adam.learning_rate, adam.beta1, adam.beta2, adam.epsilon) == (1e-3, 0.9, 0.999, 1e-8)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RMSProp(alpha=1.0), "alpha must be a number of at least 0.0 and below 1.0, not 1.0"),
        (lambda: AdaGrad(epsilon=-1), "epsilon must be a number of at least 0.0, not -1"),
        (lambda: Lion(beta2=1.0), "beta2 must be a number of at least 0.0 and below 1.0"),
        (lambda: SGD(weight_decay=-1), "weight_decay must be a number of at least 0.0, not -1"),
        (lambda: SGD(clip_norm=math.inf), "clip_norm must be a number of at least 0.0, not inf"),
        (lambda: SGD(clip_value="1"), "clip_value must be a number of at least 0.0, not '1'"),
        (lambda: SGD(clip_norm=1.0, clip_value=2.0), r"give clip_norm or clip_value, not both \(got 1.0 and 2.0\)"),
        (lambda: SGD(frozen=3), r"frozen must be a pattern of parameters' names, such as '\*.b', or a list of them"),
        (
            lambda: SGD(weight_decay_mask=[3]),
            r"weight_decay_mask must be a pattern of parameters' names, .*, not \[3\]",
        ),
        (lambda: SGD(learning_rate_factors=[1]), r"learning_rate_factors must be a table of patterns and factors, "),
        (lambda: SGD(learning_rate_factors={"*": -1}), r"learning_rate_factors\['\*'\] must be a number of at least 0"),
        (lambda: SGD(-0.1), "learning_rate must be a number of at least 0.0, not -0.1"),
        (lambda: SGD(math.nan), "learning_rate must be a number of at least 0.0, not nan"),
        (lambda: SGD("fast"), "learning_rate must be a number of at least 0.0, not 'fast'"),
        (lambda: Momentum(momentum=1.0), "momentum must be a number of at least 0.0 and below 1.0, not 1.0"),
        (lambda: Adam(beta1=1.0), "beta1 must be a number of at least 0.0 and below 1.0"),
        (lambda: Adam(beta2=-0.1), "beta2 must be a number of at least 0.0 and below 1.0"),
        (lambda: Adam(epsilon=-1e-8), "epsilon must be a number of at least 0.0, not -1e-08"),
    ],
)
def test_settings_that_cannot_work(make, message) -> None:
    with pytest.raises(xpnet.ConfigurationError, match=message):
        make()


def test_type_checkers_know_every_option() -> None:
    parameters = inspect.signature(Optimizer.__init__).parameters.values()
    options = {
        parameter.name: parameter.annotation for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY
    }
    assert {name: hint.__forward_arg__ for name, hint in OptimizerOptions.__annotations__.items()} == options


def test_calls_in_the_wrong_order(cpu) -> None:
    with pytest.raises(xpnet.CallOrderError, match=r"Adam.update needs initialize\(model\) before it"):
        Adam().update(0)
    with pytest.raises(xpnet.CallOrderError, match=r"Adam.update needs initialize\(model\) before it"):
        Adam().table(0)
    with pytest.raises(xpnet.CallOrderError, match="this Linear has no parameters yet"):
        Adam().initialize(xpnet.Linear(2, 2))


@pytest.mark.parametrize("case", ["sgd", "momentum", "adam"])
def test_a_model_initialized_again_wants_its_optimizer_initialized_again(backend, case) -> None:
    model, optimizer = model_on(backend), CASES[case][0]()
    optimizer.initialize(model)
    optimizer.update(0)
    model.initialize(backend, seed=1, dtype="float64")
    with pytest.raises(
        xpnet.CallOrderError, match=r"update needs initialize\(model\) before it, after the model's own"
    ):
        optimizer.update(1)
    optimizer.initialize(model)
    optimizer.update(0)


def test_a_model_that_became_a_part_of_another_wants_the_others_optimizer(cpu) -> None:
    inner, optimizer = xpnet.Sequential(xpnet.Linear(3, 2)), SGD()
    outer = xpnet.Sequential(inner)
    optimizer.initialize(inner.initialize(cpu))

    def go_on() -> None:
        outer.initialize(cpu)
        optimizer.update(0)

    with pytest.raises(xpnet.CallOrderError):
        go_on()


def test_an_optimizer_of_the_users_own(backend) -> None:
    def sign_update(backend, values, gradients, hyperparameters, found_inf) -> None:
        assert found_inf is None
        values[...] = values - hyperparameters[0, ...] * backend.xp.sign(gradients)

    class SignDescent(Optimizer):
        """θ ← θ - η sign(g)."""

        operation = staticmethod(sign_update)

    model, optimizer = model_on(backend), SignDescent(0.25)
    optimizer.initialize(model)
    set_gradients(model, 0)
    before, gradients = on_host(model, model.parameters), on_host(model, model.gradients)
    optimizer.update(0)
    for name, after in on_host(model, model.parameters).items():
        np.testing.assert_allclose(after, before[name] - 0.25 * np.sign(gradients[name]), rtol=1e-15)


@pytest.mark.parametrize("kind", [SGD, Momentum, Nesterov, AdaGrad, RMSProp, Adam, AdamW, Lion])
def test_a_frozen_parameter_keeps_its_bits(backend, kind) -> None:
    model, optimizer = (
        model_on(backend, "float32"),
        kind(0.1, weight_decay=0.1, weight_decay_mask="*", frozen=["0.b", "1.W"]),
    )
    optimizer.initialize(model)
    before = on_host(model, model.parameters)
    for step in range(3):
        set_gradients(model, step)
        optimizer.update(step)
    for name, after in on_host(model, model.parameters).items():
        assert (after == before[name]).all() == (name in ("0.b", "1.W"))


@pytest.mark.parametrize("kind", [SGD, Momentum, Nesterov, AdaGrad, RMSProp, Adam])
def test_a_decay_is_added_to_the_gradient(backend, kind) -> None:
    """One step is that without a decay, from g + λ θ for the matrices."""
    model, twin = model_on(backend), model_on(backend)
    decaying, plain = kind(0.1, weight_decay=0.25), kind(0.1)
    decaying.initialize(model)
    plain.initialize(twin)
    set_gradients(model, 0)
    for name, gradient in model.gradients.items():
        decay = 0.25 if name.endswith("W") else 0.0
        twin.gradients[name][...] = gradient + decay * twin.parameters[name]
    decaying.update(0)
    plain.update(0)
    for name, after in on_host(model, model.parameters).items():
        np.testing.assert_allclose(after, backend.to_numpy(twin.parameters[name]), rtol=1e-14)


@pytest.mark.parametrize("kind", [AdamW, Lion])
def test_a_decoupled_decay_is_apart_from_the_gradient(backend, kind) -> None:
    """θ ← (1-ηλ) θ, then the step; by default of matrices alone."""
    model, twin = model_on(backend), model_on(backend)
    decaying, plain = kind(0.1, weight_decay=0.25), kind(0.1, weight_decay=0.0)
    decaying.initialize(model)
    plain.initialize(twin)
    for name, view in twin.parameters.items():
        if name.endswith("W"):
            view[...] = view * (1 - 0.1 * 0.25)
    for each in (model, twin):
        set_gradients(each, 0)
    decaying.update(0)
    plain.update(0)
    for name, after in on_host(model, model.parameters).items():
        np.testing.assert_allclose(after, backend.to_numpy(twin.parameters[name]), rtol=1e-14)


@pytest.mark.parametrize("kind", [SGD, Momentum, Nesterov, AdaGrad, RMSProp, Adam, AdamW, Lion])
def test_a_factor_is_that_of_the_rate(backend, kind) -> None:
    model, twin = model_on(backend), model_on(backend)
    scaled, plain = kind(0.1, learning_rate_factors={"1.*": 0.5, "*.b": 0.25}), kind(0.05)
    scaled.initialize(model)
    plain.initialize(twin)
    for step in range(3):
        for each, optimizer in ((model, scaled), (twin, plain)):
            set_gradients(each, step)
            optimizer.update(step)
    assert (backend.to_numpy(model.parameters["1.W"]) == backend.to_numpy(twin.parameters["1.W"])).all()
    twin.initialize(backend, seed=1, dtype="float64")
    slow = kind(0.1 * 0.5 * 0.25)
    slow.initialize(twin)
    for step in range(3):
        set_gradients(twin, step)
        slow.update(step)
    np.testing.assert_allclose(*(backend.to_numpy(each.parameters["1.b"]) for each in (model, twin)), rtol=1e-14)


def test_without_patterns_one_operation_updates_the_whole_vector(backend) -> None:
    """The path of an optimizer without options is one operation on the whole vectors."""
    calls = []

    class Watched(Optimizer):
        """Counts its operations."""

        operation = staticmethod(lambda backend, values, *_: calls.append(tuple(values.shape)))

    model = model_on(backend)
    for options, pieces in (({}, 1), ({"weight_decay": 0.1}, 4), ({"weight_decay": 0.1, "weight_decay_mask": "*"}, 1)):
        optimizer = Watched(0.1, **options)
        optimizer.initialize(model)
        calls.clear()
        optimizer.update(0)
        assert len(calls) == pieces
        assert sum(shape[0] for shape in calls) == model.parameters.vector.shape[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frozen": "2.*"}, r"frozen: no parameter matches '2.\*'; there are 0.W, 0.b, 1.W, 1.b"),
        ({"weight_decay_mask": ["*.W", "w"]}, "weight_decay_mask: no parameter matches 'w'"),
        ({"learning_rate_factors": {"x": 1.0}}, "learning_rate_factors: no parameter matches 'x'"),
        ({"frozen": ["0.*", "1.*"]}, r"frozen: 0.\*, 1.\* leaves no parameter to train"),
    ],
)
def test_a_pattern_without_a_parameter(cpu, options, message) -> None:
    with pytest.raises(xpnet.ConfigurationError, match=message):
        SGD(**options).initialize(model_on(cpu))


def test_a_schedule_gives_the_rate_of_each_step(backend) -> None:
    model, twin = model_on(backend), model_on(backend)
    scheduled, plain = Momentum(xpnet.ExponentialDecay(0.1, 0.5)), Momentum(0.1)
    scheduled.initialize(model)
    plain.initialize(twin)
    for step in range(4):
        for each in (model, twin):
            set_gradients(each, step)
        plain.learning_rate = 0.1 * 0.5**step
        scheduled.update(step)
        plain.update(step)
    np.testing.assert_array_equal(*(backend.to_numpy(each.parameters.vector) for each in (model, twin)))


def test_a_schedule_over_the_run_wants_its_length(cpu) -> None:
    model, optimizer = model_on(cpu), SGD(xpnet.LinearDecay(1.0))
    optimizer.initialize(model)
    with pytest.raises(xpnet.ConfigurationError, match=r"LinearDecay without steps spans the run, .*: give steps"):
        optimizer.update(0)
    optimizer.set_total_steps(10, step=0)
    assert optimizer.rate(5) == 0.5
    optimizer.set_total_steps(20, step=0)
    assert optimizer.rate(5) == 0.75
    with pytest.raises(xpnet.ConfigurationError, match=r"LinearDecay over the 20 steps .*: 30 steps take a new run"):
        optimizer.set_total_steps(30, step=1)
    assert optimizer.schedule_state == {"total_steps": 20}
    optimizer.initialize(model)
    assert optimizer.schedule_state == {"total_steps": None}
    with pytest.raises(xpnet.ConfigurationError, match="a warm-up of 5 steps in a run of 5 leaves none"):
        SGD(xpnet.Warmup(xpnet.LinearDecay(1.0), 5)).set_total_steps(5, step=0)


def test_initialize_forgets_what_the_schedule_saw(cpu) -> None:
    model, optimizer = model_on(cpu), SGD(xpnet.ReduceOnPlateau(1.0, patience=1))
    optimizer.initialize(model)
    for _ in range(3):
        optimizer.schedule.observe(1.0)
    assert optimizer.rate(0) == 0.1
    optimizer.initialize(model)
    assert optimizer.rate(0) == 1.0


@pytest.mark.parametrize("limit", [0.5, 100.0])
def test_gradients_are_clipped_in_place_without_what_is_frozen(backend, limit) -> None:
    model = model_on(backend)
    by_norm, by_value = (SGD(0.0, frozen="0.W", **{option: limit}) for option in ("clip_norm", "clip_value"))
    set_gradients(model, 0)
    before = on_host(model, model.gradients)
    norm = math.sqrt(sum((before[name] ** 2).sum() for name in ("0.b", "1.W", "1.b")))
    for optimizer, clipped in (
        (by_norm, lambda g: g * min(1.0, limit / (norm + 1e-6))),
        (by_value, lambda g: np.clip(g, -limit, limit)),
    ):
        set_gradients(model, 0)
        optimizer.initialize(model)
        optimizer.update(0)
        for name, after in on_host(model, model.gradients).items():
            expected = before[name] if name == "0.W" else clipped(before[name])
            np.testing.assert_allclose(after, expected, rtol=1e-14)


@pytest.mark.parametrize("slots", ["velocity", ("weights",)])
def test_slots_that_cannot_be(slots) -> None:
    """Letters would be slots of their own; "weights" stands in checkpoints for the weights beside their average."""
    own = type("Own", (Optimizer,), {"slots": slots, "rule": lambda *arguments: None})
    model = xpnet.Linear(1, 1).initialize(xpnet.backend("cpu"))
    with pytest.raises(xpnet.ConfigurationError, match=r"^slots of Own must be a tuple of names other than 'weights'"):
        own(0.1).initialize(model)


def test_a_rule_beside_an_operation_is_an_error() -> None:
    own = type("Own", (Adam,), {"rule": lambda *arguments: None})
    model = xpnet.Linear(1, 1).initialize(xpnet.backend("cpu"))
    with pytest.raises(xpnet.ConfigurationError, match=r"^Own has a rule and its base class an operation"):
        own().initialize(model)
