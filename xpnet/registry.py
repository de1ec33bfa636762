"""The registry of classes that files can name: objects from tables, and tables that describe objects."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import numpy as np

from xpnet import initializers, layers, losses, optimizers, schedules
from xpnet.errors import ConfigurationError, Error, one_of
from xpnet.layers import Sequential

__all__ = ["build", "describe", "names", "register"]

Table = dict[str, Any]
Registered = TypeVar("Registered", bound=Callable[..., Any])

_CLASSES: dict[str, dict[str, Any]] = {
    "layer": {
        name: getattr(layers, name) for name in layers.__all__ if name not in ("Context", "Layer", "ParameterSpec")
    },
    "initializer": {name: getattr(initializers, name) for name in initializers.__all__},
    "loss": {
        name: getattr(losses, name)
        for name in losses.__all__
        if name not in ("FunctionLoss", "Loss", "RowLoss", "as_loss")
    },
    "optimizer": {name: getattr(optimizers, name) for name in optimizers.__all__ if name != "Optimizer"},
    "schedule": {
        name: getattr(schedules, name) for name in schedules.__all__ if name not in ("Schedule", "as_schedule")
    },
    "callback": {},  # users' own; for xpnet's a recipe has options
}
_BASES: dict[str, type] = {
    "layer": layers.Layer,
    "loss": losses.Loss,
    "optimizer": optimizers.Optimizer,
    "schedule": schedules.Schedule,
}
_BUILT_IN = frozenset(cls for classes in _CLASSES.values() for cls in classes.values())
_RESERVED: dict[str, type] = {}  # xpnet's classes that no file can name
# Kinds of objects that may be arguments of a user's class.
_NESTABLE_KINDS = tuple(kind for kind in _CLASSES if kind != "callback")
_HOW_TO_REGISTER = (
    "put @xpnet.register above it, and import its module (or give --plugin FILE.py) before reading a file that names it"
)


def register(thing: Registered) -> Registered:
    """Register your own class under its name, so that recipes and checkpoints can name it; a decorator.

    Its module must be imported before a file that names the class is read: a file never makes xpnet import anything.

    Args:
        thing: a class derived from Layer, Loss, Optimizer, Schedule or Callback; an initialiser (a class with
            ``draw``); or a function of (outputs, targets), a loss as :class:`~xpnet.FunctionLoss` takes it. A class
            keeps each argument of its constructor in an attribute of the same name; the arguments are numbers, strings,
            lists and dicts, or objects of registered classes.

    Returns:
        ``thing`` itself. It replaces an earlier one of the same module and name.

    Raises:
        ConfigurationError: it is none of these, another class has its name, or its constructor takes an argument that
            a file cannot hold by name.

    >>> @register
    ... class Half(layers.Layer):
    ...     def forward(self, x, context):
    ...         return x / 2
    ...     def backward(self, dy, context):
    ...         return dy / 2
    >>> describe(Sequential(Half()))
    {'type': 'Sequential', 'layers': [{'type': 'Half'}]}
    """
    kind = _kind_of(thing)
    if inspect.isclass(thing):
        _require_named_arguments(thing)
    for classes in (*_CLASSES.values(), _RESERVED):
        if thing.__name__ in classes and not _same(thing, classes[thing.__name__]):
            other = classes[thing.__name__]
            raise ConfigurationError(
                f"the name {thing.__name__} belongs to {other.__module__}.{other.__qualname__}: take another name"
            )
    _CLASSES[kind][thing.__name__] = thing
    return thing


def _kind_of(thing: Any) -> str:
    if inspect.isfunction(thing) and thing.__name__.isidentifier():
        return "loss"
    if not inspect.isclass(thing):
        raise ConfigurationError(f"{thing!r} is neither a class nor a function with a name, so no file can name it")
    for kind, base in _BASES.items():
        if issubclass(thing, base):
            return kind
    if callable(getattr(thing, "draw", None)):
        return "initializer"
    raise ConfigurationError(
        f"{thing.__name__} must be derived from Layer, Loss, Optimizer, Schedule or Callback, or have a method draw"
    )


def _require_named_arguments(cls: type) -> None:
    """Raise ConfigurationError for arguments that ``describe`` would lose."""
    parameters = _constructor_parameters(cls)
    if "type" in parameters:
        raise ConfigurationError(
            f"{cls.__name__} has an argument 'type', which in a file is the name of the class: rename it"
        )
    for name, parameter in parameters.items():
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise ConfigurationError(f"{cls.__name__} takes {name!r} by position only: remove the / after it")
    constructors = [ancestor.__init__ for ancestor in cls.__mro__[:-1] if "__init__" in vars(ancestor)]  # type: ignore[misc]
    if constructors and all(
        any(parameter.kind is parameter.VAR_KEYWORD for parameter in inspect.signature(one).parameters.values())
        for one in constructors
    ):
        raise ConfigurationError(
            f"{cls.__name__} takes any keywords, which a file cannot hold: name each argument of its constructor"
        )


def add_base(kind: str, base: type, reserved: Iterable[type]) -> None:
    """Let classes derived from ``base`` be registered as ``kind``, under other names than the ``reserved`` classes'."""
    _BASES[kind] = base
    _RESERVED.update({cls.__name__: cls for cls in reserved})


def _same(thing: Any, other: Any) -> bool:
    """Whether two classes or functions have the same module and name: a notebook may have defined one again."""
    return (thing.__module__, thing.__qualname__) == (other.__module__, other.__qualname__)


def names(kind: str) -> list[str]:
    """The names of a kind's classes.

    >>> names("loss")
    ['BinaryCrossEntropy', 'MeanSquaredError', 'SoftmaxCrossEntropy']
    """
    return list(_CLASSES[kind])


def build(kind: str, table: Table) -> Any:
    """The object that a table describes: its class by ``type``, its constructor's arguments by their names.

    Args:
        kind: "layer", "initializer", "loss", "optimizer", "schedule" or "callback".
        table: nested tables describe initialisers and, under ``learning_rate``, a schedule; a list under ``layers``
            describes layers. In the table of a user's class, every table with a ``type`` describes an object.

    Raises:
        ConfigurationError: an unknown or missing class or key, or an invalid value.

    >>> build("optimizer", {"type": "SGD", "learning_rate": 0.1}).learning_rate
    0.1
    >>> build("optimizer", {"type": "SGD", "rate": 0.1})
    Traceback (most recent call last):
    xpnet.errors.ConfigurationError: unknown key of SGD 'rate'; the choices are learning_rate, weight_decay, ...
    """
    if not isinstance(table, dict) or "type" not in table:
        choices = f" (one of {', '.join(_CLASSES[kind])})" if _CLASSES[kind] else ""
        raise ConfigurationError(f"expected a table with a 'type'{choices} for the {kind}, got {table!r}")
    cls = _CLASSES[kind][_known_name(kind, table["type"])]
    arguments = {key: value for key, value in table.items() if key != "type"}
    if not inspect.isclass(cls):
        require_keys(cls.__name__, arguments, ["reduction"], required=[])
        return losses.FunctionLoss(cls, **arguments)
    parameters = _constructor_parameters(cls)
    required = [
        name
        for name, parameter in parameters.items()
        if parameter.default is parameter.empty and (cls in _BUILT_IN or parameter.kind is not parameter.VAR_POSITIONAL)
    ]
    require_keys(cls.__name__, arguments, parameters, required)
    built = {name: _build_argument(cls, parameters[name], value) for name, value in arguments.items()}
    variadic = [name for name in built if parameters[name].kind is inspect.Parameter.VAR_POSITIONAL]
    if not variadic:
        return _construct(cls, (), built)
    (name,) = variadic
    if not isinstance(built[name], list):
        raise ConfigurationError(f"{name} must be a list, got {built[name]!r}")
    before = list(parameters)[: list(parameters).index(name)]  # these are positional, too
    positional = [built.pop(other, parameters[other].default) for other in before]
    return _construct(cls, (*positional, *built.pop(name)), built)


def _known_name(kind: str, name: object) -> str:
    if kind == "callback" and isinstance(name, str) and name in _RESERVED:
        raise ConfigurationError(
            f"unknown callback type {name!r}: a recipe names callbacks of your own; xpnet's are chosen by its keys "
            "early_stopping and logs"
        )
    if not _CLASSES[kind]:
        raise ConfigurationError(f"unknown {kind} type {name!r}: no {kind} is registered; {_HOW_TO_REGISTER}")
    try:
        return one_of(f"{kind} type", name, _CLASSES[kind])
    except ConfigurationError as error:
        raise ConfigurationError(f"{error}; for one of your own, {_HOW_TO_REGISTER}") from None


def _build_argument(cls: type, parameter: inspect.Parameter, value: Any) -> Any:
    """The value of an argument, built where a table describes it."""
    name = parameter.name
    if isinstance(parameter.default, tuple(_CLASSES["initializer"].values())):
        return located(name, build, "initializer", value)
    if issubclass(cls, Sequential) and parameter.kind is parameter.VAR_POSITIONAL:
        return build_all("layer", value, name)
    if name == "learning_rate" and isinstance(value, dict):
        return located(name, build, "schedule", value)
    return value if cls in _BUILT_IN else _build_nested(name, value)


def _build_nested(where: str, value: Any) -> Any:
    if isinstance(value, list):
        return [_build_nested(f"{where}[{place}]", item) for place, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    if not isinstance(value.get("type"), str):
        return {key: _build_nested(f"{where}.{key}", item) for key, item in value.items()}
    kinds = [kind for kind in _NESTABLE_KINDS if value["type"] in _CLASSES[kind]]
    return located(where, build, kinds[0] if kinds else "layer", value)


def _construct(cls: type, positional: tuple[Any, ...], arguments: Table) -> Any:
    if cls in _BUILT_IN:
        return cls(*positional, **arguments)
    try:
        return cls(*positional, **arguments)
    except Error:
        raise
    except Exception as error:
        raise ConfigurationError(f"{cls.__name__} cannot be built: {type(error).__name__}: {error}") from error


def build_all(kind: str, tables: object, where: str) -> list[Any]:
    """The objects that a list of tables describes; an error names the entry.

    Raises:
        ConfigurationError: it is not a list, or one of its tables is invalid.

    >>> build_all("layer", [{"type": "Linear", "inputs": 2}], "layers")
    Traceback (most recent call last):
    xpnet.errors.ConfigurationError: layers[0]: Linear lacks the key 'outputs'
    """
    if not isinstance(tables, list):
        raise ConfigurationError(f"{where} must be a list of tables, got {tables!r}")
    return [located(f"{where}[{place}]", build, kind, table) for place, table in enumerate(tables)]


def describe(thing: Any) -> Table:
    """The table from which ``build`` makes an equal object.

    Raises:
        ConfigurationError: a class is not registered, or has no attribute for an argument of its constructor, or one
            that no file can hold.

    >>> describe(layers.Linear(2, 3))["weights"]
    {'type': 'FanInUniform'}
    """
    is_function = type(thing) is losses.FunctionLoss
    cls = thing.function if is_function else type(thing)
    name = getattr(cls, "__name__", repr(cls))
    if not any(name in classes and _same(cls, classes[name]) for classes in _CLASSES.values()):
        raise ConfigurationError(f"no file can name {name}, which is not registered: {_HOW_TO_REGISTER}")
    if is_function:
        return {"type": name, "reduction": thing.reduction}
    table: Table = {"type": name}
    for argument, parameter in _constructor_parameters(cls).items():
        if not hasattr(thing, argument):
            raise ConfigurationError(
                f"{name} keeps no attribute {argument!r}, the name of its constructor's argument: write "
                f"self.{argument} = {argument} there, so that a file can hold it"
            )
        value = getattr(thing, argument)
        if value is None and parameter.default is None:  # TOML has no null; a missing key means the default
            continue
        described = _described(f"{name}'s {argument}", value)
        default = list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
        # Keyword-only arguments only where they differ from the default; Optimizer replaces None by {}.
        defaults = (default, {} if cls in _BUILT_IN else default)
        if parameter.kind is not parameter.KEYWORD_ONLY or described not in defaults:
            table[argument] = described
    return table


def _described(where: str, value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, (list, tuple)):
        return [_described(f"{where}[{place}]", item) for place, item in enumerate(value)]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        if isinstance(value.get("type"), str):
            raise ConfigurationError(f"{where} has a text under 'type', which in a file names a class: rename the key")
        return {key: _described(f"{where}.{key}", item) for key, item in value.items()}
    kind = type(value)
    if value is None or isinstance(value, dict) or kind.__module__ in ("builtins", "numpy"):
        raise ConfigurationError(
            f"{where} is {value!r}, which no file can hold: keep numbers, texts, lists and tables of them, or objects "
            "of registered classes"
        )
    return describe(value)


def _constructor_parameters(cls: type) -> Mapping[str, inspect.Parameter]:
    """A constructor's parameters by name, with those of the base class where it takes ``**options``."""
    parameters: dict[str, inspect.Parameter] = {}
    for ancestor in cls.__mro__[:-1]:
        if "__init__" not in vars(ancestor):
            continue
        _, *own = inspect.signature(ancestor.__init__).parameters.values()  # type: ignore[misc]
        named = [parameter for parameter in own if parameter.kind is not parameter.VAR_KEYWORD]
        parameters |= {parameter.name: parameter for parameter in named if parameter.name not in parameters}
        if named == own:
            break
    return parameters


def require_keys(owner: str, table: Table, keys: Iterable[str], required: list[str]) -> None:
    """Raise ConfigurationError for a key of ``table`` that is not in ``keys``, or a required one that is missing."""
    keys = list(keys)
    for key in table:
        if not keys:
            raise ConfigurationError(f"unknown key {key!r} of {owner}, which takes none")
        one_of(f"key of {owner}", key, keys)
    for key in required:
        if key not in table:
            raise ConfigurationError(f"{owner} lacks the key {key!r}")


def located(where: str, action: Callable[..., Any], *arguments: Any) -> Any:
    """Call ``action``, and put ``where`` in front of the message of its ConfigurationError."""
    try:
        return action(*arguments)
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: {error}") from None
