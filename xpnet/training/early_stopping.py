"""Early stopping: ending a run that no longer improves."""

from __future__ import annotations

import math
from collections.abc import Iterable

from xpnet.configuration import MONITORS
from xpnet.errors import ConfigurationError, finite_number, one_of, positive_integer
from xpnet.training.callbacks import Callback, Record
from xpnet.training.trainer import Trainer


class EarlyStopping(Callback):
    """Ends a run after ``patience`` evaluations in a row without improvement.

    An evaluation is an improvement when its validation accuracy a exceeds the best so far, b, by more than
    ``min_delta``: a > b + min_delta; or its validation loss l < b - min_delta. Otherwise b stays, so that small
    improvements add up. A loss that is not finite is no improvement.

    A resumed run counts the evaluations in its history, so it ends where it would have ended. The model keeps the
    weights of the last step; ``best.safetensors`` in a run's folder has the best.

    Args:
        patience: evaluations in a row without improvement that end the run, at least 1.
        min_delta: minimum improvement that counts, at least 0.
        monitor: "accuracy" or "loss".

    Raises:
        ConfigurationError: a value out of range; at the first evaluation, no validation set, or a loss that defines no
            accuracy while the accuracy is monitored.

    Source: Prechelt, "Early stopping - but when?", 1998; the criterion with ``min_delta`` is Keras's.

    >>> import numpy as np, xpnet
    >>> model = xpnet.Sequential(xpnet.Linear(1, 2)).initialize(xpnet.backend("cpu-reference"))
    >>> early = EarlyStopping(patience=3)
    >>> trainer = xpnet.Trainer(model, xpnet.SoftmaxCrossEntropy(), xpnet.SGD(0.0), callbacks=[early])
    >>> samples = np.ones((4, 1)), np.array([0, 1, 0, 1])
    >>> _ = trainer.fit(samples, validation=samples, epochs=100)
    >>> trainer.step, early.waited
    (4, 3)
    """

    def __init__(self, patience: int, min_delta: float = 0.0, monitor: str = MONITORS[0]) -> None:
        self.patience = positive_integer("patience", patience)
        self.min_delta = finite_number("min_delta", min_delta, low=0.0)
        self.monitor = one_of("monitor", monitor, MONITORS)
        self.waited = 0
        self._best = -math.inf

    @property
    def is_over(self) -> bool:
        """Whether ``patience`` evaluations in a row brought no improvement."""
        return self.waited >= self.patience

    def look_back(self, history: Iterable[Record]) -> None:
        """Start counting over, from a history."""
        self.waited, self._best = 0, -math.inf
        for record in history:
            if record["event"] == "evaluation":
                self._look_at(record)

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Count the evaluations in a resumed run's history."""
        self.look_back(trainer.history)

    def on_evaluation(self, trainer: Trainer, record: Record, improved: bool) -> None:
        """Stop the trainer after ``patience`` evaluations without improvement."""
        self._look_at(record)
        if self.is_over:
            trainer.stop()

    def _look_at(self, record: Record) -> None:
        score = self._score(record)
        if score > self._best + self.min_delta:
            self.waited, self._best = 0, score
        else:
            self.waited += 1

    def _score(self, record: Record) -> float:
        """The accuracy, or minus the loss: the larger, the better."""
        if "validation_loss" not in record:
            raise ConfigurationError("early stopping needs a validation set: give fit one (validation=…)")
        value = record[f"validation_{self.monitor}"]
        missing = value is None or math.isnan(value)  # metrics.jsonl has null for what is not finite
        if self.monitor == "loss":
            return -math.inf if missing else -value
        if missing:
            raise ConfigurationError(
                "early stopping monitors the accuracy, which this loss does not define: set monitor to 'loss'"
            )
        return float(value)
