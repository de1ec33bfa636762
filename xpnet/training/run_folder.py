"""The folder of a run: config.toml, metrics.jsonl, best.safetensors, last.safetensors, and metrics.csv if asked for."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import reprlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from xpnet import checkpoint
from xpnet.atomic import remove_leftovers, write_atomically
from xpnet.checkpoint import Checkpoint
from xpnet.errors import FileFormatError, MissingFileError, NonFiniteError, RunFolderError
from xpnet.format_1 import upgrade_record
from xpnet.training.callbacks import Callback, Record
from xpnet.training.run_lock import LOCK, RunLock
from xpnet.training.snapshots import capture, restore
from xpnet.training.trainer import Trainer

LONGEST_LINE = 2**16  # bytes of a record
_NEEDED: Mapping[object, set[str]] = {"batch": set(), "evaluation": set(), "diagnosis": {"kind", "message"}}


class RunFolder(Callback):
    """Keeps a run on disk, so that it can be inspected, evaluated and resumed.

    A context manager: it locks the folder against other processes, and on entry removes the temporary files of killed
    ones. ``last.safetensors`` records the length of ``metrics.jsonl``; on resume, what follows in that file is cut off.
    ``best`` is written before ``last``, and only for a strictly better evaluation.

    Args:
        path: an existing folder, see :func:`create_run_folder`.
        metadata: goes into every checkpoint; the table under "recipe" goes into config.toml, too.

    Raises:
        RunFolderError: another process uses the folder, or it was removed or cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as path, RunFolder(Path(path), {}) as folder:
    ...     folder.add({"event": "batch", "step": 1, "loss": 0.5})
    ...     folder.metrics.name, folder.metrics.read_text()
    ('metrics.jsonl', '{"event": "batch", "step": 1, "loss": 0.5}\\n')
    """

    def __init__(self, path: Path, metadata: Mapping[str, Any]) -> None:
        self.path = path
        self.metadata = dict(metadata)
        self._lock = RunLock(path)
        self._lines: list[str] = []
        self._metrics_length = 0
        self._improved = False
        self._saved_step = 0

    def __enter__(self) -> RunFolder:
        self._lock.__enter__()
        if self._lock.exclusive:
            for path in (self.configuration, self.best, self.last, self.table):
                remove_leftovers(path)
        return self

    def __exit__(self, *exception: object) -> None:
        self._lock.__exit__(*exception)

    @property
    def last(self) -> Path:
        """The checkpoint a run is resumed from."""
        return self.path / "last.safetensors"

    @property
    def best(self) -> Path:
        """The checkpoint of the best evaluation."""
        return self.path / "best.safetensors"

    @property
    def metrics(self) -> Path:
        """One JSON object a line: the history."""
        return self.path / "metrics.jsonl"

    @property
    def table(self) -> Path:
        """The evaluations of the history as CSV, where the recipe asks for it."""
        return self.path / "metrics.csv"

    @property
    def configuration(self) -> Path:
        """The recipe, with the seed and the device of its last training."""
        return self.path / "config.toml"

    def require_new(self) -> None:
        """Raise RunFolderError when there is anything in the folder."""
        if any(path.name != LOCK for path in self.path.iterdir()):
            raise RunFolderError(f"{self.path} is not empty: name another --out, or continue with --resume {self.path}")

    def require_saved(self) -> None:
        """Raise MissingFileError when this is no run folder, or nothing was saved yet."""
        if not self.last.is_file():
            raise MissingFileError(f"{self.path} holds no run to resume: there is no {self.last.name} in it")

    def restore(self, trainer: Trainer, saved: Checkpoint) -> None:
        """Restore the trainer and its history from a checkpoint of this folder; changes no file.

        Raises:
            FileFormatError: the checkpoint, or the metrics, are damaged.
            RunFolderError: the metrics cannot be read.
        """
        restore(trainer, saved, str(self.last))
        length = saved.metadata.get("metrics_length", 0)
        if type(length) is not int or length < 0:
            raise FileFormatError(
                f"{self.last} is damaged: metrics_length is {reprlib.repr(length)}, not a number of bytes"
            )
        try:
            with open(self.metrics, "rb" if length else "a+b") as file:  # of length 0, it may be missing
                if os.fstat(file.fileno()).st_size < length:
                    raise FileFormatError(f"{self.metrics} is shorter than {self.last.name} recorded: it was changed")
                file.seek(0)
                history = self._parse_metrics(file.read(length))
        except OSError as error:
            raise RunFolderError(f"cannot read {self.metrics}: {error.strerror}") from None
        trainer.history = history
        self._metrics_length = length
        self._saved_step = trainer.step

    @contextlib.contextmanager
    def naming_last_checkpoint(self) -> Iterator[None]:
        """A context that adds the name of the last good checkpoint to the message of a NonFiniteError."""
        try:
            yield
        except NonFiniteError as error:
            raise NonFiniteError(
                f"{error}; {self.last}, of step {self._saved_step}, is the last good checkpoint"
            ) from None

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Save the initial state, so that a run interrupted at any moment can be resumed; then config.toml."""
        import tomli_w

        self.cut_metrics()
        if trainer.step == 0:
            self.on_checkpoint(trainer)
        table = {**self.metadata["recipe"], "run": {"seed": trainer.seed, "device": trainer.backend.name}}
        write_atomically(self.configuration, tomli_w.dumps(table).encode())

    def on_fit_end(self, trainer: Trainer) -> None:
        """Write what is left of the history, also of a run that failed; a resume cuts it off."""
        with contextlib.suppress(RunFolderError):  # the error that ended the run is the one to report
            self._lock.require_held()
            self._append_metrics()

    def on_batch(self, trainer: Trainer, record: Record) -> None:
        """Keep the record for the next checkpoint."""
        self._lines.append(json.dumps(finite_or_null(record)) + "\n")

    def on_diagnosis(self, trainer: Trainer, record: Record) -> None:
        """Keep the record for the next checkpoint."""
        self.on_batch(trainer, record)

    def on_evaluation(self, trainer: Trainer, record: Record, improved: bool) -> None:
        """Keep the record for the next checkpoint, and whether that is the best."""
        self._lock.require_held()  # before the logs, which are called next, write into another run's folder
        self.on_batch(trainer, record)
        self._improved |= improved

    def has_test_record(self) -> bool:
        """Whether the test metrics are recorded, after the last checkpoint: the run is complete."""
        try:
            with open(self.metrics, "rb") as file:
                file.seek(self._metrics_length)
                line = file.readline(LONGEST_LINE)
        except FileNotFoundError:
            return False
        return line.startswith(b'{"event": "test"') and line.endswith(b"\n")

    def add(self, record: Record) -> None:
        """Write a record that follows the last checkpoint; a resume cuts it off."""
        self._lock.require_held()
        self._lines.append(json.dumps(finite_or_null(record)) + "\n")
        self._append_metrics()

    def on_checkpoint(self, trainer: Trainer) -> None:
        """Write metrics, then best, then last: after a crash at any moment, last and what it refers to are complete."""
        self._lock.require_held()
        try:
            self._append_metrics()
            saved = capture(trainer, {**self.metadata, "metrics_length": self._metrics_length})
            if self._improved:
                checkpoint.save(self.best, saved)
                self._improved = False
            checkpoint.save(self.last, saved)
            self._saved_step = trainer.step
        except RunFolderError as error:
            if not self.last.is_file():
                raise
            raise RunFolderError(
                f"{error}; the last checkpoint is intact: fix that, then --resume {self.path}"
            ) from error

    def cut_metrics(self) -> None:
        """Cut off the records after the last checkpoint."""
        self._lock.require_held()
        try:
            with contextlib.suppress(FileNotFoundError):  # no record was written yet
                os.truncate(self.metrics, self._metrics_length)
        except OSError as error:
            raise RunFolderError(f"cannot write {self.metrics}: {error.strerror}") from None

    def _parse_metrics(self, text: bytes) -> list[Record]:
        records: list[Record] = []
        for number, line in enumerate(io.BytesIO(text), start=1):
            try:
                record: Any = json.loads(line.decode()) if len(line) <= LONGEST_LINE else None
            except (ValueError, RecursionError) as error:
                raise FileFormatError(f"{self.metrics} is damaged: {error}, in line {number}") from None
            if not _is_record(record):
                raise FileFormatError(f"{self.metrics} is damaged: line {number} is no record of a run")
            records.append(upgrade_record(record))
        return records

    def _append_metrics(self) -> None:
        if not self._lines:
            return
        try:
            with open(self.metrics, "ab") as file:
                file.write("".join(self._lines).encode())
                file.flush()
                os.fsync(file.fileno())
                length = file.tell()
        except OSError as error:
            with contextlib.suppress(OSError):  # half a line
                os.truncate(self.metrics, self._metrics_length)
            raise RunFolderError(f"cannot write {self.metrics}: {error.strerror}") from None
        self._metrics_length = length
        self._lines.clear()


def _is_record(value: Any) -> bool:
    """Whether it is a flat table of a known event, with the keys that are read later."""
    if not isinstance(value, dict) or any(isinstance(item, (dict, list)) for item in value.values()):
        return False
    return value.get("event") in _NEEDED and _NEEDED[value["event"]] <= value.keys()


def create_run_folder(path: Path | None, name: str) -> Path:
    """Make the folder for a new run: ``path``, or the next free ``runs/NAME-1``, ``runs/NAME-2``, ….

    Raises:
        RunFolderError: ``path`` is a file, or cannot be made.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     create_run_folder(Path(parent, "mine"), "digits").name
    'mine'
    """
    try:
        if path is not None:
            path.mkdir(parents=True, exist_ok=True)
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
