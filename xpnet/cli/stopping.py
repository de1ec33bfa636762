"""A run that is told to stop finishes its step and is saved."""

from __future__ import annotations

import shlex
from contextlib import ExitStack

from xpnet.cli.signals import Interrupted, handling
from xpnet.training.callbacks import Callback, Trainer


class StopOnSignal(Callback):
    """From the first step to the last, SIGINT and SIGTERM stop the trainer instead of ending the process."""

    def __init__(self) -> None:
        self._handlers = ExitStack()
        self._received: int | None = None
        self._stopped_after: int | None = None

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Take the signals over."""

        def stop(number: int) -> None:
            self._received = number
            trainer.stop()

        self._handlers.enter_context(handling(stop))

    def on_fit_end(self, trainer: Trainer) -> None:
        """Give the signals back, and note whether steps are missing."""
        self._handlers.close()
        if trainer.step < trainer.schedule.stop:
            self._stopped_after = trainer.step

    def require_done(self, folder: str) -> None:
        """Raise Interrupted, saying how to go on, when a signal ended the run in ``folder`` before its time."""
        if self._received is not None and self._stopped_after is not None:
            raise Interrupted(
                self._received,
                f"stopped after step {self._stopped_after}, which is saved: go on with xpnet train --resume "
                f"{shlex.quote(folder)}",
            )
