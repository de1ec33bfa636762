"""Checks of user-defined layers: an error names the layer that caused it rather than the next one.

``Layer`` wraps the passes of every class that is defined outside xpnet; xpnet's own layers run unchecked.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any

from xpnet.backends import Array
from xpnet.context import Context
from xpnet.errors import LayerError
from xpnet.layers.precision import InFloat32
from xpnet.layers.tree import described

Layer = Any  # xpnet.Layer, whose module imports this one

_UNWRITTEN = -(2.0**100)  # fills gradients before a pass; what still has this value was not written


def require_free_names(cls: type[Layer], taken: Iterable[str]) -> None:
    """Raise LayerError if a constructor argument has the name of an attribute of every layer."""
    for name in inspect.signature(cls.__init__).parameters.keys() & set(taken):
        raise LayerError(f"{cls.__name__} has an argument {name!r}, an attribute of every layer: rename it")


def check_passes(cls: type[Layer]) -> None:
    """Wrap the passes that a class defines in checks."""
    wrappers = {
        "forward": _checked_forward,
        "backward": _checked_backward,
        "backward_parameters": _checked_backward_parameters,
    }
    for name, wrapper in wrappers.items():
        if inspect.isfunction(vars(cls).get(name)):
            setattr(cls, name, wrapper(vars(cls)[name]))


def _checked_forward(forward: Callable[..., Array]) -> Callable[..., Array]:
    @functools.wraps(forward)
    def checked(self: Layer, x: Array, context: Context) -> Array:
        if type(self).forward is not checked:  # called by a subclass's forward, which is checked itself
            return forward(self, x, context)
        if context.backend.activation_dtype is not None and not self.takes_bfloat16:
            return InFloat32(self).forward(x, context)
        y = _call_with_note(self, "forward", forward, self, x, context)
        _require_output(self, x, y, context)
        self._pending_shape = tuple(x.shape) if context.training else None
        return y

    return checked


def _checked_backward(backward: Callable[..., Array]) -> Callable[..., Array]:
    @functools.wraps(backward)
    def checked(self: Layer, dy: Array, context: Context) -> Array:
        if type(self).backward is not checked:
            return backward(self, dy, context)
        if context.backend.activation_dtype is not None and not self.takes_bfloat16:
            return InFloat32(self).backward(dy, context)
        shape = self._pending_shape
        dx = _written_gradients(self, "backward", backward, dy, context)
        if shape is not None and not self.takes_integers:
            _require_array(self, "backward", dx, context, "return the gradient with respect to the input")
            if tuple(dx.shape) != shape:
                raise LayerError(
                    f"{_name_of(self)}: backward returned shape {tuple(dx.shape)}, but the input has shape {shape}"
                )
            _require_dtype(self, "backward", dx, dy)
        return dx

    return checked


def _checked_backward_parameters(backward_parameters: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(backward_parameters)
    def checked(self: Layer, dy: Array, context: Context) -> None:
        if type(self).backward_parameters is not checked:
            return backward_parameters(self, dy, context)
        if context.backend.activation_dtype is not None and not self.takes_bfloat16:
            return InFloat32(self).backward_parameters(dy, context)
        return _written_gradients(self, "backward_parameters", backward_parameters, dy, context)

    return checked


def _require_output(layer: Layer, x: Array, y: Any, context: Context) -> None:
    _require_array(layer, "forward", y, context, "return the output")
    expected = (x.shape[0], *_call_with_note(layer, "output_shape", layer.output_shape, tuple(x.shape[1:])))
    if tuple(y.shape)[:1] != expected[:1]:
        raise LayerError(
            f"{_name_of(layer)}: forward returned shape {tuple(y.shape)} for {x.shape[0]} rows: return one row for each"
        )
    if tuple(y.shape) != expected:
        raise LayerError(
            f"{_name_of(layer)}: forward returned shape {tuple(y.shape)}, but output_shape gives {expected}: define "
            "output_shape(self, input_shape), which maps the shape of one sample"
        )
    if context.backend.is_bfloat16(x) or context.backend.xp.isdtype(x.dtype, "real floating"):
        _require_dtype(layer, "forward", y, x)


def _require_array(layer: Layer, method: str, array: Any, context: Context, fix: str) -> None:
    if array is None:
        raise LayerError(f"{_name_of(layer)}: {method} returned None: {fix}")
    if not context.backend.owns(array):
        kind = f"{type(array).__module__}.{type(array).__name__}"
        raise LayerError(
            f"{_name_of(layer)}: {method} returned a {kind}: {fix}, an array of the backend {context.backend.name!r} "
            "(context.backend.xp has its functions)"
        )


def _require_dtype(layer: Layer, method: str, array: Array, argument: Array) -> None:
    if array.dtype != argument.dtype:
        raise LayerError(
            f"{_name_of(layer)}: {method} returned {array.dtype} for {argument.dtype}: return the dtype of its argument"
        )


def _written_gradients(layer: Layer, name: str, backward: Callable[..., Any], dy: Array, context: Context) -> Any:
    """The result of ``backward``, whose first call must write every gradient."""
    first = not layer._gradients_checked
    if first:
        for gradient in layer.gradients.values():
            gradient[...] = _UNWRITTEN
    dx = _call_with_note(layer, name, backward, layer, dy, context)
    layer._pending_shape = None
    if first:
        any_ = context.backend.xp.any
        left = [own for own, gradient in layer.gradients.items() if bool(any_(gradient == _UNWRITTEN))]
        if left:
            raise LayerError(
                f"{_name_of(layer)}: {name} left {', '.join(left)} unwritten: assign self.gradients[{left[0]!r}] = … "
                "in every backward pass (adding in place is not enough)"
            )
        layer._gradients_checked = True
    return dx


def _call_with_note(layer: Layer, name: str, method: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return method(*arguments)
    except Exception as error:
        error.add_note(f"in {name} of {_name_of(layer)}")
        raise


def _name_of(layer: Layer) -> str:
    return described(layer.path, layer)
