"""Checkpoints of format 1, written before xpnet 0.2: their metadata as format 2 has it. Read for ever."""

from __future__ import annotations

from typing import Any


def upgrade(metadata: dict[str, Any]) -> dict[str, Any]:
    """The metadata of a format 1 checkpoint in the words of format 2.

    >>> upgrade({"report": {"steps_left_out": 3.0}, "step": 7})
    {'report': {'skipped_steps': 3.0}, 'step': 7}
    """
    upgraded = dict(metadata)
    if isinstance(report := metadata.get("report"), dict):
        upgraded["report"] = _renamed(report, {"steps_left_out": "skipped_steps"})
    if isinstance(recipe := metadata.get("recipe"), dict):
        upgraded["recipe"] = _upgraded_recipe(recipe)
    return upgraded


def upgrade_record(record: dict[str, Any]) -> dict[str, Any]:
    """A record of a format 1 run's history as format 2 has it; one of format 2 as it is.

    >>> upgrade_record({"event": "evaluation", "test_loss": 0.5, "best_test_accuracy": 0.75})
    {'event': 'evaluation', 'validation_loss': 0.5, 'best_validation_accuracy': 0.75}
    """
    return _renamed(record, _VALIDATION) if record.get("event") == "evaluation" else record


_VALIDATION = {
    "test_loss": "validation_loss",
    "test_accuracy": "validation_accuracy",
    "best_test_accuracy": "best_validation_accuracy",
}


def _upgraded_recipe(recipe: dict[str, Any]) -> dict[str, Any]:
    """Without a validation fraction, format 1 chose the best checkpoint by the test set."""
    upgraded = dict(recipe)
    if isinstance(optimizer := recipe.get("optimizer"), dict):
        upgraded["optimizer"] = _renamed(optimizer, {"decayed": "weight_decay_mask"})
    if isinstance(training := recipe.get("training"), dict) and "validation_fraction" not in training:
        upgraded["training"] = {**training, "validate_on_test": True}
    return upgraded


def _renamed(table: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in table.items()}
