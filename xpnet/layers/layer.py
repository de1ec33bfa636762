"""The base class of layers and models."""

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
from xpnet.layers.prediction import predict
from xpnet.layers.scaled_inputs import require_fitted
from xpnet.layers.state import Unmatched, load_state
from xpnet.layers.summary import summary
from xpnet.layers.tree import described, find_instances, full_name, map_instances, walk
from xpnet.parameters import NamedVector, Shape, Views

_NO_VIEWS = Views({}, "", None)
_PASSES = {"forward", "backward", "backward_parameters"}
_BOUND_ATTRIBUTES = {  # set by the model that the layer is initialised in, and by passes through it
    *("backend", "parameters", "gradients", "buffers", "path", "saved"),
    *("_dtype", "_pending_shape", "_gradients_checked"),
}

_MODEL_STATE = "xpnet.model"  # the key of backend, dtype and arrays in a pickled layer's state


class Layer:
    """The base class of layers and models: any layer can be initialised and called by itself.

    A subclass stores every constructor argument in an attribute of the same name (so that a checkpoint can rebuild it),
    lists its parameters in ``parameter_specs``, and defines ``forward``, ``backward`` and, if it changes the shape of
    samples, ``output_shape``. Layers in its attributes, directly or in lists, tuples or dictionaries, are its children,
    with names such as "encoder", "blocks.0" and "heads.left". :func:`xpnet.register` lets files refer to the class.

    ``forward`` stores in ``saved`` what ``backward`` needs; ``backward`` takes it with ``pop_saved`` and assigns all of
    its ``gradients``. After ``initialize`` parameters are views into the model's flat vector, and assigning to
    ``parameters["W"]`` writes into it.

    Attributes:
        backend: the model's backend; None before ``initialize``.
        path: the layer's name in the model, such as "1.0"; "" for the model itself.
        preprocesses: whether it scales a model's inputs and so belongs at the model's start.
        takes_bfloat16: whether its passes take and return bfloat16 arrays where the backend's precision is "bf16". If
            not, it gets float32 there, and its results are rounded.
        takes_integers: whether its input is indices, which must not be cast to floating point.
        parameters, gradients, buffers: views by name. On the layer that was initialised (the model) they are
            :class:`~xpnet.parameters.NamedVector`, with the flat ``vector``.
        saved: what ``forward`` stored for ``backward``; None: nothing.

    Raises:
        LayerError: in a pass, a user-defined layer returned no array of the expected shape and dtype, or left a
            gradient unwritten.

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
    takes_bfloat16: bool = False
    saved: Any = None
    _dtype: str
    _pending_shape: Shape | None = None  # input shape of a checked forward pass that awaits its backward pass
    _gradients_checked: bool = False  # whether a checked backward pass has written all gradients

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cls.__module__.partition(".")[0] != "xpnet":
            require_free_names(cls, _BOUND_ATTRIBUTES | {"dtype", "input_dtype", "vectors"})
            check_passes(cls)
            if "takes_bfloat16" not in vars(cls) and not _PASSES.isdisjoint(vars(cls)):
                cls.takes_bfloat16 = False  # the base class's says nothing about new passes
            if "backward" in vars(cls) and "backward_parameters" not in vars(cls):
                # A first layer would otherwise run that of its base class, which does not know the new backward.
                cls.backward_parameters = Layer.backward_parameters  # type: ignore[method-assign]

    # Defined by subclasses.

    def parameter_specs(self) -> dict[str, ParameterSpec]:
        """The parameters of this layer itself, by name."""
        return {}

    def buffer_specs(self) -> dict[str, ParameterSpec]:
        """The buffers of this layer itself, such as running statistics, by name."""
        return {}

    def children(self) -> dict[str, Layer]:
        """The layers in this layer's attributes, by name.

        Raises:
            ConfigurationError: two have the same name.
        """
        children: dict[str, Layer] = {}
        for attribute, value in self._own_attributes().items():
            for name, child in find_instances(value, Layer, attribute):
                if name in children:
                    raise ConfigurationError(f"two layers of a {type(self).__name__} are called {name!r}")
                children[name] = child
        return children

    def output_shape(self, input_shape: Shape) -> Shape:
        """The shape of one sample's output, given the shape of one sample; ShapeError when it does not fit."""
        return input_shape

    def flops(self, input_shape: Shape) -> int:
        """FLOPs of the matrix products in the forward pass of one sample; a multiply-add counts as 2."""
        return 0

    def forward(self, x: Array, context: Context) -> Array:
        """The output for a batch; if ``context.training``, saves what ``backward`` needs. Must not write into x."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward")

    def backward(self, dy: Array, context: Context) -> Array:
        """The gradient with respect to the input, from that with respect to the output; overwrites ``gradients``.

        Raises:
            CallOrderError: no forward pass with ``training=True`` came before, or it was already used.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no backward")

    def backward_parameters(self, dy: Array, context: Context) -> None:
        """As ``backward``, for a first layer, where the gradient with respect to the input is not needed."""
        self.backward(dy, context)

    # Common to all layers.

    def initialize(self, backend: Backend, seed: int = 0, dtype: str | None = None) -> Self:
        """Allocate all parameters and buffers on ``backend`` and draw their initial values.

        The values depend only on the seed and the parameter's name: the same bits on every backend, unchanged when
        another layer is added. Layers that were models of their own, such as ``copy.deepcopy(trained.layers[0])``,
        keep their values.

        Args:
            backend: where to allocate.
            seed: any integer.
            dtype: "float32" or "float64"; None: the backend's default.

        Raises:
            CallOrderError: this layer, or one in it, is a part of another initialised model.
            ConfigurationError: a layer is used twice in this model, or two parameters have the same name.
        """
        kept = allocate(self, backend, dtype)
        for views, items in zip((self.parameters, self.buffers), self.declared(), strict=True):
            for name, (shape, initializer, fan_in, fan_out) in items.items():
                if name not in kept:
                    key = random.stream_key(seed, "weights", name)
                    views[name] = initializer.draw(shape, fan_in, fan_out, key)
        return self

    def allocate(self, backend: Backend, dtype: str | None = None) -> Self:
        """As ``initialize``, but with zeros as initial values, for values that are loaded afterwards.

        Raises:
            CallOrderError, ConfigurationError: as ``initialize``.
        """
        allocate(self, backend, dtype)
        return self

    def declared(self) -> tuple[dict[str, ParameterSpec], dict[str, ParameterSpec]]:
        """The specifications of all parameters and of all buffers in this model, by name; nothing is allocated.

        Raises:
            ConfigurationError: two have the same name.
        """
        parameters: dict[str, ParameterSpec] = {}
        buffers: dict[str, ParameterSpec] = {}
        for name, layer in walk(self):
            for found, specs in ((parameters, layer.parameter_specs()), (buffers, layer.buffer_specs())):
                for own, spec in specs.items():
                    if full_name(name, own) in parameters.keys() | buffers.keys():
                        raise ConfigurationError(f"two parameters or buffers are called {full_name(name, own)!r}")
                    found[full_name(name, own)] = spec
        return parameters, buffers

    def to(self, backend: Backend) -> Self:
        """A copy of this model, with its parameters and buffers, on another backend."""
        parameters, _, buffers = self.vectors
        moved = parameters.copy_to(backend)
        copy = self._unbound_copy()
        bind(copy, Vectors(moved, NamedVector(backend, moved.shapes, moved.dtype), buffers.copy_to(backend)))
        return copy

    def __call__(self, x: Array) -> Array:
        """The output in inference mode, as a new array.

        Args:
            x: (N, *input shape), on the model's backend; cast to the model's floating-point type, unless it takes
                integers.

        Raises:
            CallOrderError: a preprocessing layer is not fitted.
        """
        backend = self.require_backend()
        require_fitted(self)
        backend.require(x)
        with backend.on_device():
            return backend.widened(self.forward(backend.asarray(x, self.input_dtype), Context(backend)))

    def predict(self, x: np.ndarray | Array, batch_size: int = 1000) -> np.ndarray:
        """The outputs in inference mode, computed in batches and copied to the host.

        Args:
            x: (N, *input shape), on the host or on the model's backend, scaled as the training samples were: raw pixels
                if the model begins with a :class:`Rescale`.
            batch_size: rows per batch.

        Returns:
            (N, *output shape), a NumPy array.

        Raises:
            ConfigurationError: ``batch_size`` is not an integer of at least 1.
            CallOrderError: a preprocessing layer is not fitted.
        """
        return predict(self, x, batch_size)

    def predict_labels(self, x: np.ndarray | Array, batch_size: int = 1000) -> np.ndarray:
        """The class with the largest output, the first of equal ones: (N,) or (N, …) int64, a NumPy array."""
        return np.argmax(self.predict(x, batch_size), axis=-1)

    def summary(self, input_shape: Shape | None = None) -> str:
        """A table of the layers: name, output shape, number of parameters, FLOPs.

        FLOPs are the floating-point operations in the forward pass of one sample, counted as by PyTorch's
        ``FlopCounterMode``: only matrix products (Linear, Conv2d), with 2 for a multiply-add. A backward pass has twice
        as many, less those of the first layer's dx.

        Args:
            input_shape: of one sample; None: taken from the first Linear or Reshape layer.

        >>> import xpnet
        >>> print(xpnet.Sequential(xpnet.Linear(784, 50, "relu"), xpnet.Linear(50, 10)).summary())
        layer  kind             output  parameters   FLOPs
        0      Linear relu       (50,)      39,250  78,400
        1      Linear            (10,)         510   1,000
        total                               39,760  79,400
        """
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
        """Write parameters and buffers by name, cast to the model's dtype; an error leaves all unchanged.

        Args:
            state: arrays by name, as returned by ``state_dict``.
            strict: whether the names must match exactly. If not, the names in common are written.

        Returns:
            The names ``missing`` in the state and those ``left_over``.

        Raises:
            ConfigurationError: names are missing or left over, if ``strict``.
            ShapeError: an array has another shape.
            DTypeError: an array is not floating point.

        >>> import numpy as np, xpnet
        >>> model = xpnet.Sequential(xpnet.Linear(1, 2), xpnet.Linear(2, 1)).initialize(xpnet.backend("cpu"))
        >>> model.load_state_dict({"0.b": np.ones(2), "head": np.ones(3)}, strict=False)
        Unmatched(missing=['0.W', '1.W', '1.b'], left_over=['head'])
        """
        return load_state(self, state, strict)

    @property
    def vectors(self) -> Vectors:
        """The flat vectors of a model; CallOrderError for a layer within one."""
        self.require_backend()
        vectors = self.parameters, self.gradients, self.buffers
        if not all(isinstance(views, NamedVector) for views in vectors):
            raise CallOrderError(f"this {type(self).__name__} is a part of a model, which has the flat vectors")
        return Vectors(*vectors)  # type: ignore[arg-type]

    @property
    def dtype(self) -> str:
        """The dtype of the parameters, "float32" or "float64"; CallOrderError before ``initialize``."""
        self.require_backend()
        return self._dtype

    @property
    def input_dtype(self) -> str | None:
        """The dtype that inputs are cast to; None, no cast, if the model takes integers."""
        return None if self.takes_integers else self.dtype

    def require_backend(self) -> Backend:
        """The model's backend; CallOrderError before ``initialize``."""
        if self.backend is None:
            raise CallOrderError(
                f"this {type(self).__name__} has no parameters yet: call initialize(xpnet.backend('auto')) on the model"
            )
        return self.backend

    # For subclasses.

    def pop_saved(self) -> Any:
        """Return what ``forward`` stored in ``saved``, and clear it.

        Raises:
            CallOrderError: no forward pass with ``training=True`` came before, or it was already used.
            LayerError: ``forward`` saved nothing.
        """
        saved, self.saved = self.saved, None
        if saved is None and self._pending_shape is not None:
            raise LayerError(
                f"{described(self.path, self)}: forward saved nothing for backward: store what it needs, such as "
                "self.saved = x"
            )
        if saved is None:
            raise CallOrderError(
                f"{type(self).__name__}.backward needs a forward pass under Context(training=True) before it, one for "
                "each backward"
            )
        return saved

    # For summary.py and scaled_inputs.py.

    @property
    def _known_shape(self) -> Shape:
        """A sample shape that the layer's arguments determine, else ()."""
        return ()

    def _chain(self) -> dict[str, Layer]:
        """The layers, by name, through which the input passes one after the other."""
        return {"": self}

    # Copies.

    def _own_attributes(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in _BOUND_ATTRIBUTES}

    def _unbound_copy(self) -> Self:
        """An uninitialised copy of this layer and its children; other attributes are shared."""
        copy = object.__new__(type(self))
        attributes = self._own_attributes()
        vars(copy).update(
            {name: map_instances(value, Layer, Layer._unbound_copy) for name, value in attributes.items()}
        )
        return copy

    # A copied or pickled layer carries the values of its own parameters and is a model of its own, so that a part of a
    # model can be copied.

    def __getstate__(self) -> dict[str, Any]:
        state = self._own_attributes()
        if self.backend is not None:
            own = {*self.parameter_specs(), *self.buffer_specs()}
            views = {name: view for name, view in {**self.parameters, **self.buffers}.items() if name in own}
            values = {name: self.backend.to_numpy(view) for name, view in views.items()}
            state[_MODEL_STATE] = self.backend, self._dtype, values
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        attributes = {name: value for name, value in state.items() if name != _MODEL_STATE}
        vars(self).update(attributes)
        if _MODEL_STATE in state:
            backend, dtype, values = state[_MODEL_STATE]
            allocate(self, backend, dtype)
            load_state(self, values, strict=False)
