"""Preprocessing layers: scaling of a model's inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from xpnet import ops
from xpnet.backends import Array
from xpnet.context import Context
from xpnet.errors import (
    CallOrderError,
    ConfigurationError,
    DTypeError,
    NonFiniteError,
    ShapeError,
    finite_number,
    positive_integer,
)
from xpnet.initializers import Constant
from xpnet.layers.layer import Layer, ParameterSpec
from xpnet.layers.scaled_inputs import leading_preprocessing
from xpnet.parameters import Shape

Chunks = Callable[[], Iterator[np.ndarray]]
_CHUNK = 1000  # rows per chunk when statistics are computed


class Preprocessing(Layer):
    """A layer that scales a model's inputs, fitted to the training set before the first step.

    It belongs at the start of a model. A Sequential names it after its class, "rescale" or "standardize", and numbers
    the layers after it from 0.
    """

    preprocesses = True

    @property
    def is_fitted(self) -> bool:
        """Whether the scaling is known."""
        raise NotImplementedError

    def fit(self, x: np.ndarray) -> None:
        """Compute the scaling from the samples of a training set, (N, *sample shape).

        Raises:
            ShapeError: there are no samples, or not of the layer's shape.
        """
        x = np.asarray(x)
        if x.size == 0:
            raise ShapeError(f"{type(self).__name__} cannot be fitted to samples of shape {x.shape}: there are none")
        self._fit(lambda: (x[start : start + _CHUNK] for start in range(0, len(x), _CHUNK)))

    def _fit(self, chunks: Chunks) -> None:
        """As ``fit``, for samples in chunks; every call of ``chunks`` iterates over all of them."""
        raise NotImplementedError


class Rescale(Preprocessing):
    """y = x / divisor: pixels from 0 to 255 become numbers from 0 to 1.

    At the start of a model, the division is fused with the gathering of a batch.

    Args:
        divisor: above 0. None: set when training begins, to 255 for uint8 samples and 1 for floating point.

    Raises:
        ConfigurationError: a divisor that is not above 0.
        CallOrderError: in a pass, if the divisor is not set.
        DTypeError: in ``fit``, samples that are neither uint8 nor floating point.

    >>> import numpy as np, xpnet
    >>> model = xpnet.Sequential(Rescale(255.0), xpnet.Flatten()).initialize(xpnet.backend("cpu-reference"))
    >>> model.predict(np.array([[[0, 255]]], np.uint8))
    array([[0., 1.]], dtype=float32)
    """

    def __init__(self, divisor: float | None = None) -> None:
        self.divisor = None if divisor is None else finite_number("divisor", divisor)
        if self.divisor is not None and self.divisor <= 0.0:
            raise ConfigurationError(f"divisor must be above 0, not {divisor!r}")

    @property
    def is_fitted(self) -> bool:
        """Whether the divisor is set."""
        return self.divisor is not None

    def _fit(self, chunks: Chunks) -> None:
        self.divisor = self.divisor_for(next(chunks()).dtype.name)

    def divisor_for(self, dtype: str) -> float:
        """The divisor; if it is not set, the default for samples of that type.

        Raises:
            DTypeError: there is no default.
        """
        if self.divisor is None and dtype != "uint8" and not dtype.startswith("float"):
            raise DTypeError(
                f"Rescale() has a default divisor for uint8 and floating-point samples, not for {dtype}: give a divisor"
            )
        return self.divisor or (255.0 if dtype == "uint8" else 1.0)

    def forward(self, x: Array, context: Context) -> Array:
        """y; x itself if it was divided while it was gathered."""
        if context.prescaled is self:
            return x
        if self.divisor is None:
            raise CallOrderError("Rescale has no divisor yet: give one, such as Rescale(255.0), or train the model")
        return ops.rescale(context.backend, x, self.divisor, context.empty(self, "y", x.shape, x.dtype))

    def backward(self, dy: Array, context: Context) -> Array:
        """dx = dy / divisor."""
        return ops.rescale(context.backend, dy, self.divisor or 1.0, context.empty(self, "dx", dy.shape, dy.dtype))


class Standardize(Preprocessing):
    """y = (x - μ) / σ, with the mean μ and standard deviation σ of each feature or channel over the training set.

    Buffers are ``mean`` and ``deviation``, (features,) each, saved with the weights. They are computed in float64 when
    training begins, unless they are already known; a constant feature has σ = 1.

    Args:
        features: F for samples of shape (F,), C for images (C, H, W); 1: one mean and deviation for all values of
            samples of any shape.

    Raises:
        ConfigurationError: ``features`` is not an integer of at least 1.
        ShapeError: samples with another number of features.
        NonFiniteError: in ``fit``, samples that are infinite, NaN, or too large for the model's dtype.
        CallOrderError: in ``predict`` and evaluation, if it is not fitted.

    Source: LeCun, Bottou, Orr and Müller, "Efficient backprop", 1998, section 4.3.

    >>> import numpy as np, xpnet
    >>> layer = Standardize(2).initialize(xpnet.backend("cpu-reference"))
    >>> layer.fit(np.array([[1.0, 10.0], [3.0, 30.0]]))
    >>> layer.predict(np.array([[3.0, 20.0]]))
    array([[1., 0.]], dtype=float32)
    """

    def __init__(self, features: int) -> None:
        self.features = positive_integer("features", features)

    def buffer_specs(self) -> dict[str, ParameterSpec]:
        """mean and deviation; a deviation of 0 means not fitted."""
        shape = (self.features,)
        return {"mean": ParameterSpec(shape, Constant(0.0)), "deviation": ParameterSpec(shape, Constant(0.0))}

    def output_shape(self, input_shape: Shape) -> Shape:
        """``input_shape``."""
        if self.features != 1 and (not input_shape or input_shape[0] != self.features):
            raise ShapeError(
                f"Standardize({self.features}) takes samples of shape ({self.features},) or ({self.features}, height, "
                f"width), not {tuple(input_shape)}"
            )
        return input_shape

    @property
    def is_fitted(self) -> bool:
        """Whether mean and deviation were computed or loaded; waits for the device."""
        deviation = self.require_backend().to_numpy(self.buffers["deviation"])
        return bool((deviation != 0.0).all())

    def _fit(self, chunks: Chunks) -> None:
        self.require_backend()
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            mean, deviation = (statistic.astype(self.dtype) for statistic in self._statistics(chunks))
        bad = ~(np.isfinite(mean) & np.isfinite(deviation))
        if bad.any():
            raise NonFiniteError(
                f"Standardize cannot be fitted: the samples of feature {np.argmax(bad)} are not all finite, or too "
                f"large for {self.dtype}"
            )
        deviation[deviation == 0.0] = 1.0
        self.buffers["mean"] = mean
        self.buffers["deviation"] = deviation

    def _statistics(self, chunks: Chunks) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation of each feature, float64."""
        # Relative to the first values: so the mean of a feature that never changes is exact, and its deviation 0.
        origin = self._by_feature(next(chunks()))[:, :1]
        count, total = 0, np.zeros(self.features)
        for values in map(self._by_feature, chunks()):
            count, total = count + values.shape[1], total + (values - origin).sum(axis=1)
        mean = origin[:, 0] + total / count
        # Two passes: E[x²] - E[x]² cancels where the mean is large.
        squares = sum(((values - mean[:, None]) ** 2).sum(axis=1) for values in map(self._by_feature, chunks()))
        return mean, np.sqrt(squares / count)

    def _by_feature(self, x: np.ndarray) -> np.ndarray:
        """x as (features, values per feature), float64."""
        self.output_shape(x.shape[1:])
        x = x.astype(np.float64)
        return x.reshape(1, -1) if self.features == 1 else np.moveaxis(x, 1, 0).reshape(self.features, -1)

    def forward(self, x: Array, context: Context) -> Array:
        """y."""
        self.output_shape(x.shape[1:])
        out = context.empty(self, "y", x.shape, x.dtype)
        return ops.standardize(context.backend, x, self.buffers["mean"], self.buffers["deviation"], out)

    def backward(self, dy: Array, context: Context) -> Array:
        """dx = dy / σ."""
        xp = context.backend.xp
        out = context.empty(self, "dx", dy.shape, dy.dtype)
        zero = xp.zeros_like(self.buffers["mean"])
        return ops.standardize(context.backend, dy, zero, self.buffers["deviation"], out)


def fit_preprocessing(model: Layer, x: np.ndarray) -> None:
    """Fit the preprocessing layers at a model's start that are not fitted yet to a training set.

    Each is fitted to the output of those before it.

    >>> import xpnet
    >>> model = xpnet.Sequential(Rescale(), Standardize(1)).initialize(xpnet.backend("cpu-reference"), dtype="float64")
    >>> fit_preprocessing(model, np.array([[0], [255]], np.uint8))
    >>> model.predict(np.array([[255]], np.uint8))
    array([[1.]])
    """
    layers = leading_preprocessing(model)
    for place, layer in enumerate(layers):
        if not layer.is_fitted:
            layer._fit(lambda before=layers[:place]: _preprocessed(before, x))


def _preprocessed(layers: Sequence[Preprocessing], x: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(x), _CHUNK):
        chunk = x[start : start + _CHUNK]
        for layer in layers:
            chunk = layer.predict(chunk)
        yield chunk
