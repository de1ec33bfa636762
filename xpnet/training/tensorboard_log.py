"""A run's metrics for TensorBoard."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xpnet.errors import ConfigurationError, RunFolderError
from xpnet.training.callbacks import Callback, Record
from xpnet.training.trainer import Trainer

_PARTS = ("train", "validation")
_FIGURES = ("loss", "accuracy")


def require_tensorboard() -> Any:
    """The module that writes event files; raises ConfigurationError, with what to install, where it is missing."""
    try:
        from tensorboard.summary.writer import event_file_writer
    except ImportError as error:
        raise ConfigurationError(
            f"a log for TensorBoard needs the package tensorboard: run pip install 'xpnet[tensorboard]' ({error})"
        ) from None
    return event_file_writer


class TensorBoardLog(Callback):
    """Curves for ``tensorboard --logdir FOLDER``: a point for each evaluation, and the loss at each reporting point.

    The curves, over steps, are "loss/batch", "loss/train", "loss/validation", "accuracy/train" and
    "accuracy/validation"; TensorBoard stores float32. A resumed run writes another file, which makes TensorBoard
    discard the points after the checkpoint.

    TensorBoard's own package (``pip install 'xpnet[tensorboard]'``) writes the files, as in PyTorch's
    ``SummaryWriter``.

    Args:
        folder: to write to, one for each run; made where it is missing.

    Raises:
        ConfigurationError: the package is not installed.
        RunFolderError: during a run, the folder cannot be written.

    >>> import tempfile, numpy as np, xpnet
    >>> model = xpnet.Sequential(xpnet.Linear(2, 2)).initialize(xpnet.backend("cpu-reference"))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     log = TensorBoardLog(folder)
    ...     trainer = xpnet.Trainer(model, xpnet.SoftmaxCrossEntropy(), xpnet.SGD(1.0), callbacks=[log])
    ...     _ = trainer.fit((np.eye(2), np.array([0, 1])), epochs=1)
    ...     len(list(Path(folder).glob("events.out.tfevents.*")))
    1
    """

    def __init__(self, folder: str | Path) -> None:
        require_tensorboard()
        self.folder = Path(folder)
        self._writer: Any = None

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Open a file."""
        from tensorboard.compat.proto.event_pb2 import SessionLog

        with self._reporting_disk_errors():
            self._writer = require_tensorboard().EventFileWriter(str(self.folder))
        if trainer.step > 0:
            self._write(trainer.step + 1, session_log=SessionLog(status=SessionLog.START))

    def on_batch(self, trainer: Trainer, record: Record) -> None:
        """Add a point to the curve of the batches' losses."""
        self._write_scalars(record["step"], {"loss/batch": record["loss"]})

    def on_evaluation(self, trainer: Trainer, record: Record, improved: bool) -> None:
        """Add a point to each curve, and flush the file."""
        points = {
            f"{figure}/{part}": record[f"{part}_{figure}"]
            for part in _PARTS
            for figure in _FIGURES
            if f"{part}_{figure}" in record
        }
        self._write_scalars(record["step"], points)
        with self._reporting_disk_errors():
            self._writer.flush()

    def on_fit_end(self, trainer: Trainer) -> None:
        """Close the file."""
        if self._writer is not None:
            with contextlib.suppress(OSError):  # the error that ended the run is the one to report
                self._writer.close()
            self._writer = None

    def _write_scalars(self, step: int, points: dict[str, float]) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in points.items()]
        self._write(step, summary=Summary(value=values))

    def _write(self, step: int, **content: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        with self._reporting_disk_errors():
            self._writer.add_event(Event(wall_time=time.time(), step=step, **content))

    @contextlib.contextmanager
    def _reporting_disk_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RunFolderError(f"cannot write the log in {self.folder}: {error.strerror or error}") from None
