"""What every layer is: declared parameters, a forward and a backward pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from xpnet import random
from xpnet.backends import Array, Backend
from xpnet.context import Context
from xpnet.errors import CallOrderError, ConfigurationError, LayerError
from xpnet.layers.allocation import ParameterSpec, Vectors, allocate, bind
from xpnet.layers.checks import check_passes, require_free_names
from xpnet.layers.state import Unmatched, load_state
from xpnet.layers.tree import described, full_name, held, replaced, walk
from xpnet.parameters import NamedVector, Shape, Views

_NO_VIEWS = Views({}, "", None)
_OF_A_MODEL = {  # attributes that a layer has from the model that it is initialised in, and from passes through it
    *("backend", "parameters", "gradients", "buffers", "path", "saved"),
    *("_dtype", "_trained_shape", "_gradients_seen"),
}

_MODEL = "xpnet.model"  # in a copied layer's state, beside its attributes


class Layer:
    """A layer, and a model: any layer can be initialised and called by itself.

    A subclass keeps every constructor argument under its own name (so that a checkpoint can rebuild it), names its
    parameters in ``parameter_specs``, and defines ``forward``, ``backward`` and, where samples change their shape,
    ``output_shape``. Layers that it holds as attributes, in lists, tuples or dictionaries are its children, called
    "encoder", "blocks.0", "heads.left". :func:`xpnet.register` makes it known to files.

    What ``backward`` needs of the forward pass, ``forward`` keeps in ``saved`` and ``backward`` takes with
    ``pop_saved``; it assigns to each of its ``gradients``. After ``initialize`` parameters are views into the model's
    flat vectors: assigning to ``parameters["W"]`` writes there.

    Attributes:
        backend: where the model lives; None before ``initialize``.
        path: the layer's place in the model, like "1.0"; "" for the model itself.
        preprocesses: whether it scales the inputs of a model, at whose start it stands then.
        takes_integers: whether its input is indices, which nobody shall cast to a floating-point type.
        parameters, gradients, buffers: views by name. On the layer that was initialised (the model) they are
            :class:`~xpnet.parameters.NamedVector`, with the flat ``vector``.
        saved: what ``forward`` keeps for ``backward``; None: nothing.

    Raises:
        LayerError: in a pass through a class of the user's own that returns no array of the right shape and type, or
            leaves a gradient unwritten.

    >>> import xpnet
    >>> class Scale(Layer):
    ...     def parameter_specs(self):
    ...         return {"s": ParameterSpec((), xpnet.Constant(2.0))}
    ...     def forward(self, x, context):
    ...         self.saved = x
    ...         return self.parameters["s"] * x
    ...     def backward(self, dy, context):
    ...         self.gradients["s"] = (dy * self.pop_saved()).sum()
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
    preprocesses: bool = False
    saved: Any = None
    _dtype: str
    _trained_shape: Shape | None = None  # of the input of a checked forward pass that waits for its backward
    _gradients_seen: bool = False  # whether a checked backward pass wrote all gradients

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cls.__module__.partition(".")[0] != "xpnet":
            require_free_names(cls, _OF_A_MODEL)
            check_passes(cls)

    # What a layer defines.

    def parameter_specs(self) -> dict[str, ParameterSpec]:
        """What this layer itself learns, by name."""
        return {}

    def buffer_specs(self) -> dict[str, ParameterSpec]:
        """What this layer itself keeps but does not learn (running statistics), by name."""
        return {}

    def children(self) -> dict[str, Layer]:
        """The layers that this layer is made of, by name: those that its attributes are or hold.

        Raises:
            ConfigurationError: two have the same name.
        """
        children: dict[str, Layer] = {}
        for attribute, value in self._own_attributes().items():
            for name, child in held(value, Layer, attribute):
                if name in children:
                    raise ConfigurationError(f"two layers of a {type(self).__name__} are called {name!r}")
                children[name] = child
        return children

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
        when another layer is added elsewhere. Layers that were models of their own until now, such as
        ``copy.deepcopy(trained.layers[0])``, keep their values.

        Args:
            backend: where the model shall live.
            seed: any integer.
            dtype: "float32" or "float64"; None: the backend's own.

        Raises:
            CallOrderError: this layer, or one in it, is a part of another initialised model, whose vectors hold its
                parameters.
            ConfigurationError: a layer stands in this model twice, or two parameters have the same name.
        """
        carried = allocate(self, backend, dtype)
        for views, items in zip((self.parameters, self.buffers), self.declared(), strict=True):
            for name, (shape, initializer, fan_in, fan_out) in items.items():
                if name not in carried:
                    key = random.stream_key(seed, "weights", name)
                    views[name] = initializer.draw(shape, fan_in, fan_out, key)
        return self

    def allocate(self, backend: Backend, dtype: str | None = None) -> Self:
        """As ``initialize``, but what that would draw is 0: for who has other values for it.

        Raises:
            CallOrderError, ConfigurationError: as ``initialize``.
        """
        allocate(self, backend, dtype)
        return self

    def declared(self) -> tuple[dict[str, ParameterSpec], dict[str, ParameterSpec]]:
        """The parameters and the buffers that this layer and those in it ask for, by name; nothing is allocated.

        Raises:
            ConfigurationError: two have the same name.
        """
        learned: dict[str, ParameterSpec] = {}
        kept: dict[str, ParameterSpec] = {}
        for name, layer in walk(self):
            for found, specs in ((learned, layer.parameter_specs()), (kept, layer.buffer_specs())):
                for own, spec in specs.items():
                    if full_name(name, own) in learned.keys() | kept.keys():
                        raise ConfigurationError(f"two parameters or buffers are called {full_name(name, own)!r}")
                    found[full_name(name, own)] = spec
        return learned, kept

    def to(self, backend: Backend) -> Self:
        """A copy of this model, parameters and buffers with it, on another backend; this one stays as it is."""
        parameters, _, buffers = self.vectors
        moved = parameters.copy_to(backend)
        copy = self._unbound_copy()
        bind(copy, Vectors(moved, NamedVector(backend, moved.shapes, moved.dtype), buffers.copy_to(backend)))
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

    def predict(self, x: np.ndarray | Array, batch_size: int = 1000) -> np.ndarray:
        """The outputs, computed batch by batch and brought to the host.

        Args:
            x: (N, *input shape), on the host or on the model's backend, as the training samples were: of a model that
                begins with a :class:`Rescale`, raw pixels.
            batch_size: rows computed at a time.

        Returns:
            (N, *output shape), a NumPy array.

        Raises:
            ConfigurationError: ``batch_size`` is no whole number of at least 1.
            CallOrderError: a preprocessing layer that was never fitted.
        """
        from xpnet.layers.prediction import predict

        return predict(self, x, batch_size)

    def predict_labels(self, x: np.ndarray | Array, batch_size: int = 1000) -> np.ndarray:
        """The class with the largest output, the first of several: (N,) or (N, …) int64, a NumPy array."""
        return np.argmax(self.predict(x, batch_size), axis=-1)

    def summary(self, input_shape: Shape | None = None) -> str:
        """A table of the layers: name, output shape, number of parameters, FLOPs.

        FLOPs are the floating-point operations of a forward pass of one sample, as PyTorch's ``FlopCounterMode`` counts
        them: those of matrix products (Linear, Conv2d), 2 for a multiply-add. Biases, activations, normalisations,
        pooling and look-ups count 0. A backward pass has twice as many, less those of the first layer's dx.

        Args:
            input_shape: of one sample; None: read off the first Linear or Reshape layer.

        >>> import xpnet
        >>> print(xpnet.Sequential(xpnet.Linear(784, 50, "relu"), xpnet.Linear(50, 10)).summary())
        layer  kind             output  parameters   FLOPs
        0      Linear relu       (50,)      39,250  78,400
        1      Linear            (10,)         510   1,000
        total                               39,760  79,400
        """
        from xpnet.layers.summary import summary

        return summary(self, input_shape)

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of the parameters and buffers on the host, by name.

        >>> import xpnet
        >>> model = xpnet.Sequential(xpnet.Linear(2, 3), xpnet.BatchNorm(3)).initialize(xpnet.backend("cpu"))
        >>> list(model.state_dict())
        ['0.W', '0.b', '1.gamma', '1.beta', '1.running_mean', '1.running_variance']
        """
        to_numpy = self.require_backend().to_numpy
        return {name: np.array(to_numpy(view)) for name, view in {**self.parameters, **self.buffers}.items()}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> Unmatched:
        """Write parameters and buffers by name, cast to the model's type; nothing, unless all is right.

        Args:
            state: arrays, as ``state_dict`` gives them.
            strict: whether every name of the model must be there, and no other. If not, what fits is written.

        Returns:
            The names that were ``missing`` and those ``left_over``.

        Raises:
            ConfigurationError: names that are missing or left over.
            ShapeError: an array of another shape, strict or not.
            DTypeError: an array that is not of floating-point numbers, strict or not.

        >>> import numpy as np, xpnet
        >>> model = xpnet.Sequential(xpnet.Linear(1, 2), xpnet.Linear(2, 1)).initialize(xpnet.backend("cpu"))
        >>> model.load_state_dict({"0.b": np.ones(2), "head": np.ones(3)}, strict=False)
        Unmatched(missing=['0.W', '1.W', '1.b'], left_over=['head'])
        """
        return load_state(self, state, strict)

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

    # How it is done: see also allocation.py.

    def pop_saved(self) -> Any:
        """What ``forward`` left in ``saved``, which is None from then on.

        Raises:
            CallOrderError: no forward pass under ``training=True`` came before, or its backward pass did, too.
            LayerError: ``forward`` left nothing.
        """
        kept, self.saved = self.saved, None
        if kept is None and self._trained_shape is not None:
            raise LayerError(
                f"{described(self.path, self)}: forward left nothing for backward: keep what it needs, such as "
                "self.saved = x"
            )
        if kept is None:
            raise CallOrderError(
                f"{type(self).__name__}.backward needs a forward pass under Context(training=True) before it, one for "
                "each backward"
            )
        return kept

    def _own_attributes(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in _OF_A_MODEL}

    def _unbound_copy(self) -> Self:
        """A copy of this layer and of the layers it holds, not initialised; what else it holds is shared."""
        copy = object.__new__(type(self))
        attributes = self._own_attributes()
        vars(copy).update({name: replaced(value, Layer, Layer._unbound_copy) for name, value in attributes.items()})
        return copy

    # Copied or pickled, each layer has the values of its own parameters with it, and is a model until it is put into
    # another: so a part of a model can be copied alone.

    def __getstate__(self) -> dict[str, Any]:
        state = self._own_attributes()
        if self.backend is not None:
            own = {*self.parameter_specs(), *self.buffer_specs()}
            views = {name: view for name, view in {**self.parameters, **self.buffers}.items() if name in own}
            values = {name: self.backend.to_numpy(view) for name, view in views.items()}
            state[_MODEL] = self.backend, self._dtype, values
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        attributes = {name: value for name, value in state.items() if name != _MODEL}
        vars(self).update(attributes)
        if _MODEL in state:
            backend, dtype, values = state[_MODEL]
            allocate(self, backend, dtype)
            load_state(self, values, strict=False)
