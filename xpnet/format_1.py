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
    recipe = metadata.get("recipe")
    if isinstance(recipe, dict) and isinstance(optimizer := recipe.get("optimizer"), dict):
        upgraded["recipe"] = {**recipe, "optimizer": _renamed(optimizer, {"decayed": "weight_decay_mask"})}
    return upgraded


def _renamed(table: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in table.items()}
