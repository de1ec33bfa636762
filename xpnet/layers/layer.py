"""What every layer is: declared parameters, a forward and a backward pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Self

from xpnet import random
from xpnet.backends import FLOATING, Array, Backend
from xpnet.context import Context
from xpnet.errors import CallOrderError, ConfigurationError, one_of
from xpnet.initializers import Initializer
from xpnet.parameters import NamedVector, Shape

Views = Mapping[str, Array]
_NO_VIEWS: Views = MappingProxyType({})


class ParameterSpec(NamedTuple):
    """A parameter or a buffer that a layer asks for.

    Attributes:
        shape: of its array.
        initializer: draws the initial values.
        fan_in: inputs of a unit, for initialisers that scale with it.
        fan_out: units that an input feeds.

    >>> from xpnet.initializers import Constant
    >>> ParameterSpec((3,), Constant(0.0))
    ParameterSpec(shape=(3,), initializer=<...Constant object at ...>, fan_in=1, fan_out=1)
    """

    shape: Shape
    initializer: Initializer
    fan_in: int = 1
    fan_out: int = 1


class Vectors(NamedTuple):
    """A model's three flat vectors."""

    parameters: NamedVector
    gradients: NamedVector
    buffers: NamedVector


class Layer:
    """A layer, and a model: any layer can be initialised and called by itself.

    A subclass keeps every constructor argument under its own name (so that a checkpoint can rebuild it), declares
    its parameters, and defines ``forward``, ``backward`` and ``output_shape``. After ``initialize`` its parameters
    are views into the model's flat vectors: ``parameters["W"]`` updated in place updates the model.

    Attributes:
        backend: where the model lives; None before ``initialize``.
        path: the layer's place in the model, like "1.0"; "" for the model itself.
        takes_integers: whether its input is indices, which nobody shall cast to a floating-point type.
        parameters, gradients, buffers: views by name. On the layer that was initialised (the model) they are
            :class:`~xpnet.parameters.NamedVector`, with the flat ``vector``.

    >>> import xpnet
    >>> class Scale(Layer):
    ...     def parameter_specs(self):
    ...         return {"s": ParameterSpec((), xpnet.Constant(2.0))}
    ...     def forward(self, x, context):
    ...         self.saved = x if context.training else None
    ...         return self.parameters["s"] * x
    ...     def backward(self, dy, context):
    ...         self.gradients["s"][...] = (dy * self.pop_saved()).sum()
    ...         return self.parameters["s"] * dy
    >>> layer = Scale().initialize(xpnet.backend("cpu-reference"), dtype="float64")
    >>> all(check.error < 1e-6 for check in xpnet.check_gradients(layer, [[1.0, 3.0]]))
    True
    """

    backend: Backend | None = None
    parameters: Views = _NO_VIEWS
    gradients: Views = _NO_VIEWS
    buffers: Views = _NO_VIEWS
    path: str = ""
    takes_integers: bool = False
    _dtype: str
    saved: Any = None

    # What a layer defines.

    def parameter_specs(self) -> dict[str, ParameterSpec]:
        """What this layer itself learns, by name."""
        return {}

    def buffer_specs(self) -> dict[str, ParameterSpec]:
        """What this layer itself keeps but does not learn (running statistics), by name."""
        return {}

    def children(self) -> dict[str, Layer]:
        """The layers this layer is made of, by name."""
        return {}

    def output_shape(self, input_shape: Shape) -> Shape:
        """The shape of one sample's output, given the shape of one sample; ShapeError when it does not fit."""
        return input_shape

    def flops(self, input_shape: Shape) -> int:
        """Floating-point operations of the matrix products of a forward pass of one sample, a multiply-add being 2."""
        return 0

    def forward(self, x: Array, context: Context) -> Array:
        """The output for a batch; under ``context.training`` keeps what ``backward`` needs. Never writes into x."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward")

    def backward(self, dy: Array, context: Context) -> Array:
        """The gradient with respect to the input, given that with respect to the output; overwrites ``gradients``.

        Raises:
            CallOrderError: no forward pass under ``training=True`` came before, or it was already used.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no backward")

    def backward_parameters(self, dy: Array, context: Context) -> None:
        """As ``backward``, for a first layer: nobody wants the gradient with respect to the data."""
        self.backward(dy, context)

    # What a layer can do.

    def initialize(self, backend: Backend, seed: int = 0, dtype: str | None = None) -> Self:
        """Lay out all parameters on ``backend`` and draw their initial values.

        The draws depend on the seed and each parameter's name alone: the same bits on every backend, and unchanged
        when another layer is added elsewhere.

        Args:
            backend: where the model shall live.
            seed: any integer.
            dtype: "float32" or "float64"; None: the backend's own.

        Raises:
            CallOrderError: this layer is a part of an initialised model, whose vectors hold its parameters, or has
                such a layer in it.
            ConfigurationError: a layer stands in this model twice.
        """
        learned, kept = self.allocate(backend, dtype).declared()
        for views, items in ((self.parameters, learned), (self.buffers, kept)):
            for name, (shape, initializer, fan_in, fan_out) in items.items():
                key = random.stream_key(seed, "weights", name)
                views[name][...] = backend.asarray(initializer.draw(shape, fan_in, fan_out, key), self.dtype)
        return self

    def allocate(self, backend: Backend, dtype: str | None = None) -> Self:
        """As ``initialize``, but all parameters and buffers are 0: for who has other values for them.

        Raises:
            CallOrderError, ConfigurationError: as ``initialize``.
        """
        if self.backend is not None and not isinstance(self.parameters, NamedVector):
            raise CallOrderError(f"this {type(self).__name__} is a part of a model: call initialize on the model")
        below = list(self._descendants())
        if len({id(layer) for layer in below}) < len(below):
            raise ConfigurationError("a layer stands in this model twice: its parameters would be shared")
        if self.backend is None and any(layer.backend is not None for layer in below):
            raise CallOrderError("a layer of this model was initialised in another one since: build new layers")
        dtype = backend.dtype if dtype is None else one_of("dtype", dtype, FLOATING)
        learned, kept = self.declared()
        parameters = NamedVector(backend, {name: item.shape for name, item in learned.items()}, dtype)
        buffers = NamedVector(backend, {name: item.shape for name, item in kept.items()}, dtype)
        self._bind(Vectors(parameters, NamedVector(backend, parameters.shapes, dtype), buffers), backend, dtype)
        return self

    def declared(self) -> tuple[dict[str, ParameterSpec], dict[str, ParameterSpec]]:
        """The parameters and the buffers that this layer and those in it ask for, by name; nothing is allocated."""
        return dict(self._collect("parameter_specs")), dict(self._collect("buffer_specs"))

    def to(self, backend: Backend) -> Self:
        """A copy of this model, parameters and buffers with it, on another backend; this one stays as it is."""
        parameters, _, buffers = self.vectors
        moved = parameters.copy_to(backend)
        copy = self._unbound_copy()
        gradients = NamedVector(backend, moved.shapes, moved.dtype)
        copy._bind(Vectors(moved, gradients, buffers.copy_to(backend)), backend, moved.dtype)
        return copy

    def __call__(self, x: Array) -> Array:
        """The output in inference, as a fresh array.

        Args:
            x: (N, *input shape), on the model's backend; cast to the model's floating-point type, unless it takes
                integers.
        """
        backend = self.require_backend()
        backend.require(x)
        return self.forward(backend.asarray(x, self.input_dtype), Context(backend))

    @property
    def vectors(self) -> Vectors:
        """The flat vectors of a model; CallOrderError for a layer that was not initialised itself."""
        self.require_backend()
        vectors = self.parameters, self.gradients, self.buffers
        if not all(isinstance(views, NamedVector) for views in vectors):
            raise CallOrderError(f"this {type(self).__name__} is a part of a model, which has the flat vectors")
        return Vectors(*vectors)  # type: ignore[arg-type]

    @property
    def dtype(self) -> str:
        """The floating-point type of the parameters, "float32" or "float64"; CallOrderError before ``initialize``."""
        self.require_backend()
        return self._dtype

    @property
    def input_dtype(self) -> str | None:
        """What inputs are cast to: the model's own type; None, nothing, where it takes integers."""
        return None if self.takes_integers else self.dtype

    def require_backend(self) -> Backend:
        """Where the model lives; CallOrderError before ``initialize``."""
        if self.backend is None:
            raise CallOrderError(
                f"this {type(self).__name__} has no parameters yet: call initialize(xpnet.backend('auto')) on the model"
            )
        return self.backend

    # How it is done.

    def pop_saved(self) -> Any:
        """What ``forward`` left in ``saved``; CallOrderError where there is nothing."""
        kept, self.saved = self.saved, None
        if kept is None:
            raise CallOrderError(
                f"{type(self).__name__}.backward needs a forward pass under Context(training=True) before it, one for "
                "each backward"
            )
        return kept

    def _descendants(self) -> Iterator[Layer]:
        for child in self.children().values():
            yield child
            yield from child._descendants()

    def _collect(self, declare: str, prefix: str = "") -> Iterator[tuple[str, ParameterSpec]]:
        for name, declaration in getattr(self, declare)().items():
            yield prefix + name, declaration
        for name, child in self.children().items():
            yield from child._collect(declare, f"{prefix}{name}.")

    def _bind(self, views: Vectors | tuple[Views, ...], backend: Backend, dtype: str, path: str = "") -> None:
        """Take these views and this path, hand each child those of its name, and forget earlier passes."""
        self.parameters, self.gradients, self.buffers = views
        self.backend, self._dtype, self.saved, self.path = backend, dtype, None, path
        for name, child in self.children().items():
            views_of_child = tuple(_subset(view, f"{name}.") for view in views)
            child._bind(views_of_child, backend, dtype, f"{path}.{name}" if path else name)

    def _unbound_copy(self) -> Self:
        """A copy of this layer and of the layers it holds; what else it holds is shared."""
        copy = object.__new__(type(self))
        copy.__dict__.update({name: _unbound(value) for name, value in self.__dict__.items()})
        return copy


def _unbound(value: Any) -> Any:
    if isinstance(value, Layer):
        return value._unbound_copy()
    if type(value) in (list, tuple):
        return type(value)(map(_unbound, value))
    if type(value) is dict:
        return {key: _unbound(item) for key, item in value.items()}
    return value


def _subset(views: Views, prefix: str) -> Views:
    cut = len(prefix)
    return MappingProxyType({name[cut:]: view for name, view in views.items() if name.startswith(prefix)})
