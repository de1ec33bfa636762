"""Optimizers: one update of all parameters at once, on flat vectors. Definitions and defaults are PyTorch's."""

from __future__ import annotations

import math
from collections.abc import Callable

from xpnet import ops
from xpnet.backends import Array
from xpnet.errors import CallOrderError, finite_number
from xpnet.layers import Layer
from xpnet.parameters import NamedVector


class Optimizer:
    """What every optimizer is: hyperparameters, state vectors laid out like the parameters, and ``update``.

    A subclass names its state vectors in ``slots``, and the operation that updates them with the parameters:
    ``operation(backend, values, gradients, *state, settings, finite)``, as those of :mod:`xpnet.ops` are.

    Args:
        learning_rate: η, the step's length.

    Attributes:
        model: what it updates; None before ``initialize``.
        state: a :class:`~xpnet.parameters.NamedVector` for each name in ``slots``.
    """

    slots: tuple[str, ...] = ()
    operation: Callable[..., None]

    def __init__(self, learning_rate: float) -> None:
        self.learning_rate = finite_number("learning_rate", learning_rate, low=0.0)
        self.state: dict[str, NamedVector] = {}
        self.model: Layer | None = None
        self._vectors: list[Array] = []

    def initialize(self, model: Layer) -> None:
        """Take an initialised model, and start from zero state."""
        parameters, gradients, _ = model.vectors
        self.model = model
        self._backend = parameters.backend
        self.state = {slot: NamedVector(self._backend, parameters.shapes, parameters.dtype) for slot in self.slots}
        self._vectors = [views.vector for views in (parameters, gradients, *self.state.values())]
        self._settings = self._backend.aligned_zeros(len(self._step_settings(0)), "float64")
        self._current: list[float] = []  # what is in them

    def update(self, step: int, finite: Array | None = None) -> None:
        """Move the parameters against their gradients, in place.

        Args:
            step: steps taken before this one: 0 at first.
            finite: (1,) int32 on the device; where it holds 0, parameters and state stay as they are.

        Raises:
            CallOrderError: there is no model yet, or it was initialised again since.
        """
        if self.model is None or self.model.vectors.parameters.vector is not self._vectors[0]:
            raise CallOrderError(
                f"{type(self).__name__}.update needs initialize(model) before it, after the model's own"
            )
        settings = self._step_settings(step)
        if settings != self._current:
            self._settings[...] = self._backend.asarray(settings, "float64")
            self._current = settings
        self.operation(self._backend, *self._vectors, self._settings, finite)

    def _step_settings(self, step: int) -> list[float]:
        """What the update needs to know of this step, as the operation takes it."""
        return [self.learning_rate]


class SGD(Optimizer):
    """θ ← θ - η g.

    >>> SGD(0.1).learning_rate
    0.1
    """

    operation = staticmethod(ops.sgd_update)

    def __init__(self, learning_rate: float = 1e-3) -> None:
        super().__init__(learning_rate)


class Momentum(Optimizer):
    """v ← μ v + g;  θ ← θ - η v.

    Args:
        learning_rate: η.
        momentum: μ, from 0 to below 1.

    Source: Polyak, "Some methods of speeding up the convergence of iteration methods", 1964.

    >>> Momentum(0.01).momentum
    0.9
    """

    slots = ("velocity",)
    operation = staticmethod(ops.momentum_update)

    def __init__(self, learning_rate: float = 1e-3, momentum: float = 0.9) -> None:
        super().__init__(learning_rate)
        self.momentum = finite_number("momentum", momentum, low=0.0, below=1.0)

    def _step_settings(self, step: int) -> list[float]:
        return [self.learning_rate, self.momentum, 0.0]


class Adam(Optimizer):
    """m ← β₁ m + (1-β₁) g;  v ← β₂ v + (1-β₂) g²;  θ ← θ - η m̂ / (sqrt(v̂) + ε), with m̂ = m / (1-β₁ᵗ), v̂ alike.

    Args:
        learning_rate: η.
        beta1: β₁, from 0 to below 1.
        beta2: β₂, from 0 to below 1.
        epsilon: ε, at least 0.

    Source: Kingma and Ba, "Adam: a method for stochastic optimization", 2015, algorithm 1.

    >>> Adam().epsilon
    1e-08
    """

    slots = ("m", "v")
    operation = staticmethod(ops.adam_update)

    def __init__(
        self, learning_rate: float = 1e-3, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8
    ) -> None:
        super().__init__(learning_rate)
        self.beta1 = finite_number("beta1", beta1, low=0.0, below=1.0)
        self.beta2 = finite_number("beta2", beta2, low=0.0, below=1.0)
        self.epsilon = finite_number("epsilon", epsilon, low=0.0)

    def _step_settings(self, step: int) -> list[float]:
        corrections = (-math.expm1((step + 1) * math.log(beta)) if beta else 1.0 for beta in (self.beta1, self.beta2))
        return [self.learning_rate, self.beta1, self.beta2, self.epsilon, *corrections, 0.0]
