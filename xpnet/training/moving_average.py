"""The exponential moving average of a model's weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from xpnet import ops
from xpnet.backends import Array
from xpnet.errors import finite_number
from xpnet.layers import Layer
from xpnet.parameters import NamedVector


class MovingAverage:
    """a ← β a + (1-β) θ after every step, from the initial weights on. Buffers are not averaged.

    Args:
        model: initialised.
        decay: β, from 0 to below 1.

    Attributes:
        values: a, by the names of the parameters.

    Raises:
        ConfigurationError: a decay outside that range.
        CallOrderError: the model is not initialised.

    Source: Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", 1992, with exponential
    weights, as in Keras.

    >>> import xpnet
    >>> model = xpnet.Linear(1, 1).initialize(xpnet.backend("cpu-reference"))
    >>> model.parameters["b"][...] = 1.0
    >>> average = MovingAverage(model, 0.75)
    >>> model.parameters["b"][...] = 5.0
    >>> average.update()
    >>> with average.applied():
    ...     model.parameters["b"].tolist()
    [2.0]
    >>> model.parameters["b"].tolist()
    [5.0]
    """

    def __init__(self, model: Layer, decay: float) -> None:
        self.decay = finite_number("ema_decay", decay, low=0.0, below=1.0)
        self._parameters = model.vectors.parameters
        self._backend = self._parameters.backend
        self.values = NamedVector(self._backend, self._parameters.shapes, self._parameters.dtype)
        with self._backend.on_device():
            self.values.vector[...] = self._parameters.vector

    def update(self, found_inf: Array | None = None) -> None:
        """Update the average with the current weights, unless ``found_inf`` is set; never waits for the device."""
        ops.moving_average_update(self._backend, self.values.vector, self._parameters.vector, self.decay, found_inf)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """A context in which the model has the averaged weights, to evaluate, save or copy it."""
        parameters = self._parameters.vector
        with self._backend.on_device():
            weights = self._backend.xp.asarray(parameters, copy=True)
            parameters[...] = self.values.vector
            try:
                yield
            finally:
                parameters[...] = weights
