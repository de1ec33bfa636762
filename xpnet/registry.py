"""Names and classes: an object from the table that a file holds, and the table that describes an object."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from xpnet import initializers, layers, losses, optimizers, schedules
from xpnet.errors import ConfigurationError, one_of
from xpnet.layers import Sequential

Table = dict[str, Any]

_CLASSES: dict[str, dict[str, type]] = {
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
}


def names(kind: str) -> list[str]:
    """The names of a kind's classes.

    >>> names("loss")
    ['BinaryCrossEntropy', 'MeanSquaredError', 'SoftmaxCrossEntropy']
    """
    return list(_CLASSES[kind])


def build(kind: str, table: Table) -> Any:
    """The object that a table describes: its class by ``type``, its constructor's arguments by their names.

    Args:
        kind: "layer", "initializer", "loss", "optimizer" or "schedule".
        table: nested tables describe initialisers and, under ``learning_rate``, a schedule; a list under ``layers``
            describes layers.

    Raises:
        ConfigurationError: an unknown class or key, a missing one, or an impossible value.

    >>> build("optimizer", {"type": "SGD", "learning_rate": 0.1}).learning_rate
    0.1
    >>> build("optimizer", {"type": "SGD", "rate": 0.1})
    Traceback (most recent call last):
    xpnet.errors.ConfigurationError: unknown key of SGD 'rate'; the choices are learning_rate, weight_decay, ...
    """
    if not isinstance(table, dict) or "type" not in table:
        choices = ", ".join(_CLASSES[kind])
        raise ConfigurationError(f"expected a table with a 'type' (one of {choices}) for the {kind}, got {table!r}")
    cls = _CLASSES[kind][one_of(f"{kind} type", table["type"], _CLASSES[kind])]
    arguments = {key: value for key, value in table.items() if key != "type"}
    if issubclass(cls, Sequential):
        require_keys(cls.__name__, arguments, ["layers"], required=["layers"])
        return cls(*build_all("layer", arguments["layers"], "layers"))
    parameters = _constructor_parameters(cls)
    required = [name for name, parameter in parameters.items() if parameter.default is parameter.empty]
    require_keys(cls.__name__, arguments, parameters, required)
    initializers_ = tuple(_CLASSES["initializer"].values())
    nested = {name: "initializer" for name in arguments if isinstance(parameters[name].default, initializers_)}
    if isinstance(arguments.get("learning_rate"), dict):
        nested["learning_rate"] = "schedule"
    built = {name: located(name, build, kind, arguments[name]) for name, kind in nested.items()}
    return cls(**{**arguments, **built})


def build_all(kind: str, tables: object, where: str) -> list[Any]:
    """The objects that a list of tables describes; an error names the entry.

    Raises:
        ConfigurationError: it is no list, or one of its tables describes nothing.

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
        ConfigurationError: the object's class is not xpnet's own.

    >>> describe(layers.Linear(2, 3))["weights"]
    {'type': 'FanInUniform'}
    """
    name = type(thing).__name__
    if not any(type(thing) is classes.get(name) for classes in _CLASSES.values()):
        raise ConfigurationError(f"{name} is not one of xpnet's own classes, so no file can name it")
    if isinstance(thing, Sequential):
        return {"type": name, "layers": [describe(layer) for layer in thing.layers]}
    table: Table = {"type": name}
    for argument, parameter in _constructor_parameters(type(thing)).items():
        value = getattr(thing, argument)
        is_off = parameter.kind is parameter.KEYWORD_ONLY and value in (parameter.default, {})  # an option not in use
        if value is not None and not is_off:  # TOML has no null; what is absent takes the constructor's default, None
            plain = list(value) if isinstance(value, tuple) else value
            table[argument] = plain if isinstance(plain, (str, bool, int, float, list, dict)) else describe(value)
    return table


def _constructor_parameters(cls: type) -> Mapping[str, inspect.Parameter]:
    """By name; where a constructor passes ``**options`` on, those of the class above are among them."""
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
    """What the action gives; its error with ``where`` in front."""
    try:
        return action(*arguments)
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: {error}") from None
