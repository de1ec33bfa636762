"""Telling a person how a run goes: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from typing import Any, TextIO

from xpnet.training.callbacks import Callback, Record
from xpnet.training.trainer import Trainer


class Progress(Callback):
    """Prints evaluations and diagnoses, and on a terminal a bar of the steps.

    Args:
        stream: where to; standard error when None.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._bar: Any = None

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Open the bar."""
        if not self._stream.isatty() or trainer.schedule is None:
            return
        from tqdm.auto import tqdm

        schedule = trainer.schedule
        self._bar = tqdm(total=schedule.stop, initial=trainer.step, unit="step", file=self._stream, leave=False)

    def on_batch(self, trainer: Trainer, record: Record) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.set_postfix(loss=f"{record['loss']:.4f}", refresh=False)
            self._bar.update(trainer.step - self._bar.n)
        elif record["step"] == 1:
            self._print(f"step      1  loss {record['loss']:.4f}")

    def on_diagnosis(self, trainer: Trainer, record: Record) -> None:
        """Say what is wrong."""
        self._print(f"warning ({record['kind']}): {record['message']}")

    def on_evaluation(self, trainer: Trainer, record: Record, improved: bool) -> None:
        """A line of figures."""
        line = (
            f"epoch {record['epoch']:>3}  step {record['step']:>6}  "
            f"train loss {record['train_loss']:.4f}  accuracy {record['train_accuracy']:.4f}"
        )
        if "test_loss" in record:
            line += f"  |  test loss {record['test_loss']:.4f}  accuracy {record['test_accuracy']:.4f}"
            line += "  best" if improved else ""
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
