"""The folder of a run: config.toml, metrics.jsonl, best.safetensors, last.safetensors."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xpnet import checkpoint
from xpnet.atomic import write_atomically
from xpnet.checkpoint import Checkpoint
from xpnet.errors import FileFormatError, MissingFileError, RunFolderError
from xpnet.training.callbacks import Callback, Record
from xpnet.training.snapshots import capture, restore
from xpnet.training.trainer import Trainer


class RunFolder(Callback):
    """Keeps a run on disk, so that it can be looked at, evaluated and resumed.

    ``last.safetensors`` is the only truth: it records how long ``metrics.jsonl`` was, and on resume the rest of that
    file is cut off. ``best`` is written before ``last``, and only for a strictly better test accuracy.

    Args:
        path: an existing folder, see :func:`create_run_folder`.
        metadata: goes into every checkpoint (the recipe, under "recipe").
    """

    def __init__(self, path: Path, metadata: Mapping[str, Any]) -> None:
        self.path = path
        self.metadata = dict(metadata)
        self._lines: list[str] = []
        self._improved = False

    @property
    def last(self) -> Path:
        """The checkpoint a run is resumed from."""
        return self.path / "last.safetensors"

    @property
    def best(self) -> Path:
        """The checkpoint with the best test accuracy."""
        return self.path / "best.safetensors"

    @property
    def metrics(self) -> Path:
        """One JSON object a line: the history."""
        return self.path / "metrics.jsonl"

    def write_configuration(self, table: Mapping[str, Any]) -> None:
        """Write config.toml."""
        import tomli_w

        write_atomically(self.path / "config.toml", tomli_w.dumps(table).encode())

    def load_last(self) -> Checkpoint:
        """The last checkpoint; MissingFileError when this is no run folder, or nothing was saved yet."""
        if not self.last.is_file():
            raise MissingFileError(f"{self.path} holds no run to resume: there is no {self.last.name} in it")
        return checkpoint.load(self.last)

    def restore(self, trainer: Trainer, saved: Checkpoint) -> None:
        """Put the trainer, its history included, into the state of a checkpoint of this folder."""
        restore(trainer, saved, str(self.last))
        length = saved.metadata.get("metrics_length", 0)
        try:
            with open(self.metrics, "r+b") as file:
                lines = file.read(length)
                if len(lines) == length:
                    file.truncate(length)
        except OSError as error:
            raise RunFolderError(f"cannot read {self.metrics}: {error.strerror}") from None
        if len(lines) < length:
            raise FileFormatError(f"{self.metrics} is shorter than {self.last.name} recorded: it was changed")
        try:
            trainer.history = [json.loads(line) for line in lines.splitlines()]
        except ValueError as error:
            raise FileFormatError(f"{self.metrics} is damaged: {error}") from None

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Save the initial state, so that a run interrupted at any moment can be resumed."""
        if trainer.step == 0:
            self.on_checkpoint(trainer)

    def on_fit_end(self, trainer: Trainer) -> None:
        """Keep the history of a run that failed, too; on resume it is cut."""
        self._append_metrics()

    def on_batch(self, trainer: Trainer, record: Record) -> None:
        """Keep the line for the next checkpoint."""
        self._lines.append(json.dumps(finite_or_null(record)) + "\n")

    def on_diagnosis(self, trainer: Trainer, record: Record) -> None:
        """Keep the line for the next checkpoint."""
        self.on_batch(trainer, record)

    def on_evaluation(self, trainer: Trainer, record: Record, improved: bool) -> None:
        """Keep the line for the next checkpoint, and whether it deserves to be called the best."""
        self.on_batch(trainer, record)
        self._improved |= improved

    def on_checkpoint(self, trainer: Trainer) -> None:
        """Metrics first, then best, then last: whatever is cut off, last tells what counts."""
        length = self._append_metrics()
        saved = capture(trainer, {**self.metadata, "metrics_length": length})
        if self._improved:
            checkpoint.save(self.best, saved)
            self._improved = False
        checkpoint.save(self.last, saved)

    def _append_metrics(self) -> int:
        try:
            with open(self.metrics, "ab") as file:
                file.write("".join(self._lines).encode())
                file.flush()
                os.fsync(file.fileno())
                self._lines.clear()
                return file.tell()
        except OSError as error:
            raise RunFolderError(f"cannot write {self.metrics}: {error.strerror}") from None


def create_run_folder(path: Path | None, name: str) -> Path:
    """Make the folder for a new run: ``path``, or the next free ``runs/NAME-1``, ``runs/NAME-2``, ….

    Raises:
        RunFolderError: ``path`` is a file, is not empty, or cannot be made.
    """
    try:
        if path is not None:
            path.mkdir(parents=True, exist_ok=True)
            if any(path.iterdir()):
                raise RunFolderError(f"{path} is not empty: name another --out, or go on with --resume {path}")
            return path
        parent = Path("runs")
        parent.mkdir(exist_ok=True)
        number = 1
        while True:
            try:
                (parent / f"{name}-{number}").mkdir()
                return parent / f"{name}-{number}"
            except FileExistsError:
                number += 1
    except RunFolderError:
        raise
    except OSError as error:
        where = path or Path("runs")
        reason = "a file of that name is in the way" if where.is_file() else error.strerror
        raise RunFolderError(f"cannot make the run folder {where}: {reason}") from None


def finite_or_null(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record with None where a number is not finite, as JSON needs it.

    >>> finite_or_null({"loss": float("nan"), "step": 1})
    {'loss': None, 'step': 1}
    """
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in record.items()
    }
