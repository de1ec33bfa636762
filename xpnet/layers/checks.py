"""What a layer of the user's own may do wrong, told by that layer's name instead of its neighbour's.

``Layer`` wraps the passes of every class that is defined outside xpnet. xpnet's own classes pay nothing for it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from xpnet.backends import Array
from xpnet.context import Context
from xpnet.errors import LayerError
from xpnet.layers.tree import described

if TYPE_CHECKING:
    from xpnet.layers.layer import Layer

_UNWRITTEN = -(2.0**100)  # a gradient that is still this number was not written: no computed one is


def require_free_names(cls: type[Layer], taken: Iterable[str]) -> None:
    """Raise LayerError where an argument of the constructor has the name of an attribute that every layer has."""
    for name in inspect.signature(cls.__init__).parameters.keys() & set(taken):
        raise LayerError(f"{cls.__name__} has an argument {name!r}, an attribute of every layer: call it otherwise")


def check_passes(cls: type[Layer]) -> None:
    """Wrap the passes that a class defines."""
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
        if type(self).forward is not checked:  # a subclass's forward called it, and that one is checked
            return forward(self, x, context)
        y = _noting(self, "forward", forward, self, x, context)
        _require_output(self, x, y, context)
        self._trained_shape = tuple(x.shape) if context.training else None
        return y

    return checked


def _checked_backward(backward: Callable[..., Array]) -> Callable[..., Array]:
    @functools.wraps(backward)
    def checked(self: Layer, dy: Array, context: Context) -> Array:
        if type(self).backward is not checked:
            return backward(self, dy, context)
        shape = self._trained_shape
        dx = _written_gradients(self, "backward", backward, dy, context)
        if shape is not None and not self.takes_integers:
            made = "backward returned"
            _require_array(self, made, dx, context, "return the gradient with respect to the input")
            if tuple(dx.shape) != shape:
                raise LayerError(f"{_who(self)}: {made} shape {tuple(dx.shape)}, and the input has shape {shape}")
            _require_dtype(self, made, dx, dy)
        return dx

    return checked


def _checked_backward_parameters(backward_parameters: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(backward_parameters)
    def checked(self: Layer, dy: Array, context: Context) -> None:
        if type(self).backward_parameters is not checked:
            return backward_parameters(self, dy, context)
        return _written_gradients(self, "backward_parameters", backward_parameters, dy, context)

    return checked


def _require_output(layer: Layer, x: Array, y: Any, context: Context) -> None:
    made = "forward returned"
    _require_array(layer, made, y, context, "return the output")
    expected = (x.shape[0], *_noting(layer, "output_shape", layer.output_shape, tuple(x.shape[1:])))
    if tuple(y.shape)[:1] != expected[:1]:
        raise LayerError(f"{_who(layer)}: {made} shape {tuple(y.shape)} for {x.shape[0]} rows: make one of each row")
    if tuple(y.shape) != expected:
        raise LayerError(
            f"{_who(layer)}: {made} shape {tuple(y.shape)}, and output_shape says {expected}: define "
            "output_shape(self, input_shape), which takes and gives the shape of one sample"
        )
    if context.backend.xp.isdtype(x.dtype, "real floating"):
        _require_dtype(layer, made, y, x)


def _require_array(layer: Layer, made: str, array: Any, context: Context, wanted: str) -> None:
    if array is None:
        raise LayerError(f"{_who(layer)}: {made} None: {wanted}")
    if not context.backend.owns(array):
        kind = f"{type(array).__module__}.{type(array).__name__}"
        raise LayerError(
            f"{_who(layer)}: {made} a {kind}: {wanted}, an array of the backend {context.backend.name!r} "
            "(context.backend.xp has its functions)"
        )


def _require_dtype(layer: Layer, made: str, array: Array, given: Array) -> None:
    if array.dtype != given.dtype:
        raise LayerError(f"{_who(layer)}: {made} {array.dtype} for {given.dtype}: keep to the type that was given")


def _written_gradients(layer: Layer, name: str, backward: Callable[..., Any], dy: Array, context: Context) -> Any:
    """What ``backward`` returns; the first time, each gradient must have been written."""
    first = not layer._gradients_seen
    if first:
        for gradient in layer.gradients.values():
            gradient[...] = _UNWRITTEN
    dx = _noting(layer, name, backward, layer, dy, context)
    layer._trained_shape = None
    if first:
        any_ = context.backend.xp.any
        left = [own for own, gradient in layer.gradients.items() if bool(any_(gradient == _UNWRITTEN))]
        if left:
            raise LayerError(
                f"{_who(layer)}: {name} left {', '.join(left)} unwritten: assign self.gradients[{left[0]!r}] = … in "
                "every backward pass (adding to what is there is not enough)"
            )
        layer._gradients_seen = True
    return dx


def _noting(layer: Layer, name: str, method: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return method(*arguments)
    except Exception as error:
        error.add_note(f"in {name} of {_who(layer)}")
        raise


def _who(layer: Layer) -> str:
    return described(layer.path, layer)
