"""Stopping a run by a signal: it finishes its step and saves a checkpoint."""

from __future__ import annotations

import shlex
from contextlib import ExitStack
from typing import Any

from xpnet.cli.arguments import say
from xpnet.cli.signals import Interrupted, handling
from xpnet.training import Callback, Trainer


class StopOnSignal(Callback):
    """A context manager: during ``fit``, SIGINT and SIGTERM stop the trainer instead of ending the process."""

    def __init__(self) -> None:
        self._handlers = ExitStack()
        self._received: int | None = None
        self._stopped_after: int | None = None

    def __enter__(self) -> StopOnSignal:
        return self

    def __exit__(self, *exception: object) -> None:
        self._handlers.close()

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Install the signal handlers."""

        def stop(number: int) -> None:
            self._received = number
            trainer.stop()

        self._handlers.enter_context(handling(stop))

    def on_fit_end(self, trainer: Trainer) -> None:
        """Note whether the run ended before its last step."""
        if trainer.step < trainer.intervals.stop:
            self._stopped_after = trainer.step

    def require_done(self, summary: dict[str, Any]) -> None:
        """Say how to resume a run that ended before its last step; raise Interrupted if a signal ended it."""
        if self._stopped_after is None or summary.get("stopped_early", False):
            return
        how = (
            f"after step {self._stopped_after}, which is saved: continue with xpnet train --resume "
            f"{shlex.quote(summary['run_dir'])}"
        )
        if self._received is not None:
            raise Interrupted(self._received, f"stopped {how}")
        say(f"a callback stopped the run {how}")
