"""The progress display: a bar on a terminal or in a notebook, plain lines elsewhere."""

from __future__ import annotations

import sys
from typing import Any, TextIO

from xpnet.training.callbacks import Callback, Record
from xpnet.training.trainer import Trainer


class Progress(Callback):
    """Prints evaluations and diagnoses, and a bar of the steps.

    The bar is drawn on a terminal and, without a ``stream``, in a notebook; a file or a pipe gets plain lines. tqdm's
    variable ``TQDM_DISABLE=1`` removes the bar everywhere.

    Args:
        stream: to write to; standard error when None.

    >>> import numpy as np, xpnet
    >>> model = xpnet.Sequential(xpnet.Linear(2, 2)).initialize(xpnet.backend("cpu-reference"))
    >>> trainer = xpnet.Trainer(model, xpnet.SoftmaxCrossEntropy(), xpnet.SGD(1.0), callbacks=[Progress(sys.stdout)])
    >>> _ = trainer.fit((np.eye(2), np.array([0, 1])), epochs=1)
    step      1  loss 0...
    epoch   1  step      1  train loss 0...  accuracy ...
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._in_notebook = stream is None and _in_notebook()
        self._bar: Any = None

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Open the bar."""
        intervals = trainer.intervals
        if intervals is None or not (self._in_notebook or self._stream.isatty()):
            return
        from tqdm.auto import tqdm

        self._bar = tqdm(
            total=intervals.stop,
            initial=trainer.step,
            unit="step",
            file=self._stream,
            leave=False,
            dynamic_ncols=True,  # a window that gets narrower would tear the bar
        )

    def on_batch(self, trainer: Trainer, record: Record) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.set_postfix(loss=f"{record['loss']:.4f}", refresh=False)
            self._bar.update(trainer.step - self._bar.n)
        elif record["step"] == 1:
            self._print(f"step      1  loss {record['loss']:.4f}")

    def on_diagnosis(self, trainer: Trainer, record: Record) -> None:
        """Print the problem."""
        self._print(f"warning ({record['kind']}): {record['message']}")

    def on_evaluation(self, trainer: Trainer, record: Record, improved: bool) -> None:
        """Print a line of metrics."""
        line = (
            f"epoch {record['epoch']:>3}  step {record['step']:>6}  "
            f"train loss {record['train_loss']:.4f}  accuracy {record['train_accuracy']:.4f}"
        )
        if "validation_loss" in record:
            loss, accuracy = record["validation_loss"], record["validation_accuracy"]
            line += f"  |  validation loss {loss:.4f}  accuracy {accuracy:.4f}" + ("  best" if improved else "")
        self._print(line)

    def on_fit_end(self, trainer: Trainer) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()

    def _print(self, line: str) -> None:
        if self._bar is not None:
            self._bar.write(line, file=self._stream)
        else:
            print(line, file=self._stream, flush=True)


def _in_notebook() -> bool:
    """Whether this is a notebook's kernel: its streams are no terminals, but show a bar."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and "IPKernelApp" in shell.config
