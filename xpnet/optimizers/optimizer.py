"""The base class of optimizers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypedDict

from xpnet import ops
from xpnet.backends import Array
from xpnet.errors import CallOrderError, ConfigurationError, finite_number
from xpnet.layers import Layer
from xpnet.optimizers import groups
from xpnet.optimizers.groups import Group
from xpnet.optimizers.hyperparameters import AHEAD, Hyperparameters
from xpnet.parameters import NamedVector, Shape
from xpnet.schedules import Schedule, as_schedule

# Set by initialize, and not pickled.
_BOUND_ATTRIBUTES = {"_backend", "_parameters", "_groups", "_hyperparameters", "_segments"}

_WEIGHTS = "weights"  # in checkpoints, beside the slots: the weights whose moving average is evaluated


class CommonOptions(TypedDict, total=False):
    """The keyword options of every optimizer except ``weight_decay``, for type checkers."""

    weight_decay_mask: str | Iterable[str] | None
    learning_rate_factors: Mapping[str, float] | None
    frozen: str | Iterable[str]
    clip_norm: float | None
    clip_value: float | None


class OptimizerOptions(CommonOptions, total=False):
    """The same with ``weight_decay``, for optimizers where it is 0 by default."""

    weight_decay: float


class Optimizer:
    """The base class of optimizers: hyperparameters, state vectors laid out like the parameters, and ``update``.

    A subclass names its state vectors in ``slots`` and defines ``rule(backend, values, gradients, *state,
    learning_rate)``, which updates ``values`` and the state in place; they are flat vectors, and ``learning_rate`` is a
    0-d array of their dtype. Its constructor passes further keywords to this one, so that every optimizer takes these
    options. (xpnet's own optimizers set ``operation`` instead, a function of :mod:`xpnet.ops` that may be a fused
    kernel: ``operation(backend, values, gradients, *state, hyperparameters, found_inf)``.) In a pattern, ``*`` stands
    for any text: "0.*" is layer 0, "*.b" all biases.

    Args:
        learning_rate: η, a number or a :class:`~xpnet.schedules.Schedule`.
        weight_decay: λ. It is added to the gradient, g + λ θ, or, if the optimizer decouples it, applied as
            θ ← (1-ηλ) θ.
        weight_decay_mask: pattern or patterns of the parameters that decay; None: those with two or more axes.
        learning_rate_factors: factors of η by pattern; where several patterns match, their product.
        frozen: pattern or patterns of the parameters that are not updated and do not count in the norm.
        clip_norm: see :func:`xpnet.ops.clip_norm`; over all gradients together, before weight decay is added.
        clip_value: see :func:`xpnet.ops.clip_value`; not together with ``clip_norm``. Both write into the model's
            gradients.

    Attributes:
        model: the model that it updates; None before ``initialize``.
        state: a :class:`~xpnet.parameters.NamedVector` for each name in ``slots``.

    Raises:
        ConfigurationError: an option out of range, or both ``clip_norm`` and ``clip_value``.

    >>> import xpnet
    >>> model = xpnet.Sequential(xpnet.Linear(2, 2), xpnet.Linear(2, 1)).initialize(xpnet.backend("cpu-reference"))
    >>> optimizer = xpnet.SGD(0.5, frozen="0.*", learning_rate_factors={"1.b": 2.0})
    >>> optimizer.initialize(model)
    >>> before = model.parameters.vector.copy()
    >>> for gradient in model.gradients.values():
    ...     gradient[...] = 1.0
    >>> optimizer.update(step=0)
    >>> moved = model.parameters.vector - before
    >>> [round(float(moved[start]), 3) for start in model.parameters.starts.values()]
    [0.0, 0.0, -0.5, -1.0]

    >>> class SignDescent(Optimizer):
    ...     def rule(self, backend, values, gradients, learning_rate):
    ...         values -= learning_rate * backend.xp.sign(gradients)
    >>> optimizer = SignDescent(0.25)
    >>> optimizer.initialize(model)
    >>> before = model.parameters.vector.copy()
    >>> optimizer.update(step=0)
    >>> round(float((before - model.parameters.vector).max()), 3)
    0.25
    """

    slots: tuple[str, ...] = ()
    rule: Callable[..., None] | None = None
    operation: Callable[..., None] | None = None
    decoupled_weight_decay: bool = False

    def __init__(
        self,
        learning_rate: float | Schedule,
        *,
        weight_decay: float = 0.0,
        weight_decay_mask: str | Iterable[str] | None = None,
        learning_rate_factors: Mapping[str, float] | None = None,
        frozen: str | Iterable[str] = (),
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        is_schedule = isinstance(learning_rate, Schedule)
        self.learning_rate = learning_rate if is_schedule else finite_number("learning_rate", learning_rate, low=0.0)
        self.weight_decay = finite_number("weight_decay", weight_decay, low=0.0)
        self.weight_decay_mask = (
            None if weight_decay_mask is None else groups.patterns("weight_decay_mask", weight_decay_mask)
        )
        self.learning_rate_factors = groups.factors("learning_rate_factors", learning_rate_factors or {})
        self.frozen = groups.patterns("frozen", frozen)
        self.clip_norm = None if clip_norm is None else finite_number("clip_norm", clip_norm, low=0.0)
        self.clip_value = None if clip_value is None else finite_number("clip_value", clip_value, low=0.0)
        if clip_norm is not None and clip_value is not None:
            raise ConfigurationError(f"give clip_norm or clip_value, not both (got {clip_norm!r} and {clip_value!r})")
        self.state: dict[str, NamedVector] = {}
        self.model: Layer | None = None
        self.total_steps: int | None = None

    @property
    def schedule(self) -> Schedule:
        """The learning rate as a function of the step."""
        return as_schedule(self.learning_rate)

    def rate(self, step: int) -> float:
        """The learning rate at a step, before ``learning_rate_factors``."""
        learning_rate = self.learning_rate
        return learning_rate(step, self.total_steps) if isinstance(learning_rate, Schedule) else learning_rate

    def initialize(self, model: Layer) -> None:
        """Set the model to update, which must be initialised, and reset the state to zero.

        Raises:
            ConfigurationError: a pattern matches no parameter of the model, all parameters are frozen, or the class has
                no rule, a rule and an operation, or invalid slots.
        """
        if self.rule is None and self.operation is None:
            raise ConfigurationError(
                f"{type(self).__name__} has no rule: define rule(self, backend, values, gradients, learning_rate)"
            )
        if self.rule is not None and self.operation is not None:
            raise ConfigurationError(
                f"{type(self).__name__} has a rule and its base class an operation, so that the rule would not be "
                "used: derive it from Optimizer"
            )
        if isinstance(self.slots, str) or _WEIGHTS in self.slots:
            raise ConfigurationError(
                f"slots of {type(self).__name__} must be a tuple of names other than {_WEIGHTS!r}, such as "
                f"('velocity',), not {self.slots!r}"
            )
        parameters, gradients, _ = model.vectors
        for option in ("weight_decay_mask", "learning_rate_factors", "frozen"):
            groups.require_matches(option, getattr(self, option) or (), parameters)
        segments = groups.segments(parameters, self._group_of)
        if self.frozen and not segments:
            raise ConfigurationError(f"frozen: {', '.join(self.frozen)} leaves no parameter to train")
        self.model = model
        self._backend = parameters.backend
        self.state = {slot: NamedVector(self._backend, parameters.shapes, parameters.dtype) for slot in self.slots}
        self.schedule.reset()
        self.total_steps = None
        self._parameters = parameters
        self._groups = list(dict.fromkeys(segment.group for segment in segments))
        width = len(self._step_hyperparameters(0, 0.0, 0.0))
        self._hyperparameters = Hyperparameters(self._backend, width * len(self._groups))
        vectors = [views.vector for views in (parameters, gradients, *self.state.values())]
        self._segments: list[tuple[Array, float, list[Array]]] = []
        for group, place in segments:
            start = width * self._groups.index(group)
            coupled_decay = 0.0 if self.decoupled_weight_decay else group.weight_decay
            hyperparameters = self._hyperparameters.vector[start : start + width]
            self._segments.append((hyperparameters, coupled_decay, [vector[place] for vector in vectors]))

    @property
    def reads_found_inf(self) -> bool:
        """Whether ``update`` itself skips the step if ``found_inf`` is set; a ``rule`` does not."""
        return self.operation is not None and type(self).update is Optimizer.update

    def update(self, step: int, found_inf: Array | None = None) -> None:
        """Update the parameters and the state in place.

        Args:
            step: the number of steps before this one.
            found_inf: (1,) int32 on the device; unless it is 0, an ``operation`` skips the update (see
                ``reads_found_inf``).

        Raises:
            CallOrderError: there is no model, or it was initialised again since.
            ConfigurationError: the schedule spans the run, and ``set_total_steps`` was not called.
        """
        self._require_model()
        self._hyperparameters.write(self._hyperparameters_at(step))
        if self.clip_norm is not None or self.clip_value is not None:
            self._clip()
        for group_hyperparameters, coupled_decay, (values, gradients, *state) in self._segments:
            total = gradients + coupled_decay * values if coupled_decay else gradients
            if self.operation is not None:
                self.operation(self._backend, values, total, *state, group_hyperparameters, found_inf)
            elif self.rule is not None:
                learning_rate = self._backend.xp.astype(group_hyperparameters[0, ...], values.dtype)
                self.rule(self._backend, values, total, *state, learning_rate)

    def table(self, step: int) -> ops.HyperparameterTable:
        """The hyperparameters of many steps, ``step`` among them, for :func:`xpnet.ops.end_step` before ``update``.

        They are copied to the device once in many steps, or when the learning rate was changed.

        Raises:
            CallOrderError: there is no model, or it was initialised again since.
        """
        self._require_model()
        changing = isinstance(self.learning_rate, Schedule)
        stop = max(self.total_steps or 0, step + 1) if changing else step + AHEAD
        return self._hyperparameters.table(step, self._hyperparameters_at, stop)

    def _require_model(self) -> None:
        if self.model is None or self.model.parameters is not self._parameters:
            raise CallOrderError(
                f"{type(self).__name__}.update needs initialize(model) before it, after the model's own"
            )

    def _hyperparameters_at(self, step: int) -> list[float]:
        """Those of all groups, one after the other."""
        rate = self.rate(step)
        found: list[float] = []
        for factor, decay in self._groups:
            found += self._step_hyperparameters(step, rate * factor, decay if self.decoupled_weight_decay else 0.0)
        return found

    def set_total_steps(self, total_steps: int, step: int) -> None:
        """Set the number of steps of the run, before ``step`` is taken; a schedule may depend on it.

        Raises:
            ConfigurationError: the schedule spans the run, and earlier steps were taken with another number, or the
                number is too small for it.
        """
        if self.schedule.spans_the_run and step > 0 and self.total_steps not in (None, total_steps):
            raise ConfigurationError(
                f"the learning rate follows {type(self.learning_rate).__name__} over the {self.total_steps:,} steps "
                f"of this run, a number that cannot change: {total_steps:,} steps take a new run"
            )
        self.total_steps = total_steps
        self.rate(step)  # raises now, rather than at the first step, if the schedule does not fit into the run

    @property
    def schedule_state(self) -> dict[str, Any]:
        """The state of the schedule, for checkpoints; assign it to restore the schedule."""
        total = {"total_steps": self.total_steps} if self.schedule.spans_the_run else {}
        return total | dict(self.schedule.state)

    @schedule_state.setter
    def schedule_state(self, state: Mapping[str, Any]) -> None:
        self.total_steps = state.get("total_steps")
        self.schedule.restore(state)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in _BOUND_ATTRIBUTES}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if self.model is not None:
            schedule, total_steps = dict(self.schedule.state), self.total_steps
            self.initialize(self.model)
            self.schedule.restore(schedule)
            self.total_steps = total_steps
            with self._backend.on_device():
                for slot, vector in state["state"].items():
                    self.state[slot].vector[...] = vector.vector

    def _clip(self) -> None:
        if self.clip_norm is not None:
            ops.clip_norm(self._backend, [vectors[1] for _, _, vectors in self._segments], self.clip_norm)
        if self.clip_value is not None:
            ops.clip_value(self._backend, [vectors[1] for _, _, vectors in self._segments], self.clip_value)

    def _group_of(self, name: str, shape: Shape) -> Group | None:
        if groups.matches(name, self.frozen):
            return None
        decays = len(shape) >= 2 if self.weight_decay_mask is None else groups.matches(name, self.weight_decay_mask)
        factor = groups.factor_of(name, self.learning_rate_factors)
        return Group(factor, self.weight_decay if decays else 0.0)

    def _step_hyperparameters(self, step: int, rate: float, decay: float) -> list[float]:
        """The ``hyperparameters`` of the operation at a step, for a group's learning rate and decoupled decay."""
        return [rate]
