"""A run's evaluations as a CSV file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from xpnet.atomic import write_atomically
from xpnet.errors import RunFolderError
from xpnet.training.callbacks import Callback, Record
from xpnet.training.run_folder import finite_or_null
from xpnet.training.trainer import Trainer


class CSVLog(Callback):
    """A row for each evaluation, in a file that spreadsheets, pandas and NumPy read.

    The columns are the keys of the evaluations' records (see :class:`Callback`), separated by commas, in UTF-8, with
    a header line. Numbers are written with all their digits, so that reading them gives the same bits; a number that is
    not finite is an empty cell.

    Each fit rewrites the file from the trainer's history, so that a resumed run has each row once.

    Args:
        path: of the file, in an existing folder.

    Raises:
        RunFolderError: during a run, the file cannot be written.

    >>> import tempfile, numpy as np, xpnet
    >>> model = xpnet.Sequential(xpnet.Linear(1, 2)).initialize(xpnet.backend("cpu-reference"))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     log = CSVLog(f"{folder}/metrics.csv")
    ...     trainer = xpnet.Trainer(model, xpnet.SoftmaxCrossEntropy(), xpnet.SGD(0.0), callbacks=[log])
    ...     _ = trainer.fit((np.ones((4, 1)), np.array([0, 1, 0, 1])), epochs=2)
    ...     with open(log.path) as file:
    ...         [(row["step"], row["epoch"], row["train_accuracy"]) for row in csv.DictReader(file)]
    [('1', '1', '0.5'), ('2', '2', '0.5')]
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._columns: list[str] = []

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Write the evaluations of the history."""
        self._rewrite(trainer)

    def on_evaluation(self, trainer: Trainer, record: Record, improved: bool) -> None:
        """Add a row, or rewrite the file where the record has a new column."""
        if not record.keys() - {"event"} <= {*self._columns}:
            self._rewrite(trainer)
            return
        try:
            with open(self.path, "a", encoding="utf-8", newline="") as file:
                file.write(self._formatted([record]))
        except OSError as error:
            raise RunFolderError(f"cannot write {self.path}: {error.strerror}") from None

    def _rewrite(self, trainer: Trainer) -> None:
        records = [record for record in trainer.history if record["event"] == "evaluation"]
        self._columns = [key for key in dict.fromkeys(key for record in records for key in record) if key != "event"]
        names = dict(zip(self._columns, self._columns, strict=True))
        write_atomically(self.path, self._formatted([names, *records] if records else []).encode())

    def _formatted(self, records: Iterable[Record]) -> str:
        text = io.StringIO()
        rows = csv.DictWriter(text, self._columns, restval="", extrasaction="ignore", lineterminator="\n")
        rows.writerows(finite_or_null(record) for record in records)
        return text.getvalue()
