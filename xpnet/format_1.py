"""Checkpoints, records and recipes of format 1, which are still read: the same in format 2."""

from __future__ import annotations

from typing import Any

_PIXEL_RANGES = {"mnist": 255.0, "fashion-mnist": 255.0, "digits": 16.0}


def upgrade(metadata: dict[str, Any]) -> dict[str, Any]:
    """The metadata of a format 1 checkpoint, in format 2, marked as upgraded.

    >>> upgrade({"report": {"steps_left_out": 3.0}, "step": 7})
    {'report': {'skipped_steps': 3.0}, 'step': 7, 'upgraded_from': 1}
    """
    upgraded = {**metadata, "upgraded_from": 1}
    if isinstance(report := metadata.get("report"), dict):
        upgraded["report"] = _renamed(report, {"steps_left_out": "skipped_steps"})
    if isinstance(recipe := metadata.get("recipe"), dict):
        upgraded["recipe"] = upgrade_recipe(recipe)
        if isinstance(model := metadata.get("model"), dict) and _is_scaled(recipe):
            upgraded["model"] = _with_rescale(model, recipe)
    return upgraded


def upgrade_record(record: dict[str, Any]) -> dict[str, Any]:
    """A record of a format 1 run's history, in format 2; one of format 2 does not change.

    >>> upgrade_record({"event": "evaluation", "test_loss": 0.5, "best_test_accuracy": 0.75})
    {'event': 'evaluation', 'validation_loss': 0.5, 'best_validation_accuracy': 0.75}
    """
    return _renamed(record, _VALIDATION) if record.get("event") == "evaluation" else record


_VALIDATION = {
    "test_loss": "validation_loss",
    "test_accuracy": "validation_accuracy",
    "best_test_accuracy": "best_validation_accuracy",
}


def upgrade_recipe(recipe: dict[str, Any]) -> dict[str, Any]:
    """A recipe's table of format 1, in format 2; format 1 is recognised by the key ``scale`` under ``data``.

    In format 1 pixels were divided by their range outside the model, and without a validation fraction the test set
    chose the best checkpoint.

    >>> upgrade_recipe({"data": {"name": "digits", "scale": True}, "model": {"layers": []}, "training": {"epochs": 1}})
    {'data': {'name': 'digits'}, 'model': {'layers': [{'type': 'Rescale', 'divisor': 16.0}]},
     'training': {'epochs': 1, 'validate_on_test': True}}
    """
    upgraded = dict(recipe)
    if isinstance(optimizer := recipe.get("optimizer"), dict):
        upgraded["optimizer"] = _renamed(optimizer, {"decayed": "weight_decay_mask"})
    if isinstance(training := recipe.get("training"), dict) and "validation_fraction" not in training:
        upgraded["training"] = {**training, "validate_on_test": True}
    if isinstance(model := recipe.get("model"), dict) and _is_scaled(recipe):
        upgraded["model"] = _with_rescale(model, recipe)
    if isinstance(data := recipe.get("data"), dict):
        upgraded["data"] = {key: value for key, value in data.items() if key != "scale"}
    return upgraded


def pixel_range(dataset: Any) -> float:
    """What format 1 divided the pixels of a :class:`~xpnet.Dataset` by, outside the model."""
    return _PIXEL_RANGES.get(dataset.name, 255.0 if dataset.x_train.dtype == "uint8" else 1.0)


def fingerprint(dataset: Any) -> str:
    """The fingerprint that format 1 gave to a :class:`~xpnet.Dataset`."""
    return dataset.digest(repr((dataset.x_train.shape, dataset.classes, pixel_range(dataset))))


def _is_scaled(recipe: dict[str, Any]) -> bool:
    data = recipe.get("data")
    return isinstance(data, dict) and data.get("scale", True) is True


def _with_rescale(model: dict[str, Any], recipe: dict[str, Any]) -> dict[str, Any]:
    """The model's table with a Rescale in front; for a user's data set, its divisor depends on the element type."""
    divisor = _PIXEL_RANGES.get(str(recipe["data"].get("name")))
    rescale = {"type": "Rescale"} if divisor is None else {"type": "Rescale", "divisor": divisor}
    layers = model.get("layers")
    return {**model, "layers": [rescale, *layers]} if isinstance(layers, list) else model


def _renamed(table: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in table.items()}
