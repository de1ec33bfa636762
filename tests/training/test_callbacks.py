"""xpnet.training.callbacks: told every moment in order, and able to stop a run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.training.conftest import Recorder, network, on_host, samples, trainer
from xpnet import Trainer
from xpnet.backends import Backend
from xpnet.training import Callback


def test_callbacks_are_told_every_moment_in_order(backend: Backend) -> None:
    moments: list[tuple[Any, ...]] = []
    x, y = samples()
    callbacks = [Recorder(moments, "a"), Recorder(moments, "b")]
    trainer(network(backend), learning_rate=0.0, callbacks=callbacks).fit(
        (255.0 * x, y), epochs=2, batch_size=4, validation=samples(7)
    )
    expected = [
        ("fit begin", 0),
        ("diagnosis", 0, "inputs out of range"),
        ("batch", 1),
        ("evaluation", 3, True),
        ("checkpoint", 3),
        ("batch", 4),
        ("evaluation", 6, False),
        ("checkpoint", 6),
        ("fit end", 6),
    ]
    assert moments == [(name, *moment) for moment in expected for name in "ab"]


def test_a_run_may_be_stopped_at_the_end_of_each_epoch_too(cpu: Backend) -> None:
    moments: list[tuple[Any, ...]] = []
    trainer(network(cpu), callbacks=[Recorder(moments)]).fit(samples(), epochs=2, batch_size=4, evaluate_every=5)
    assert [moment for moment in moments if moment[0] in ("evaluation", "checkpoint")] == [
        ("checkpoint", 3),
        ("evaluation", 5, False),
        ("checkpoint", 5),
        ("evaluation", 6, False),
        ("checkpoint", 6),
    ]


class StopAt(Callback):
    """Asks for a stop at the first moment of that name after so many steps."""

    def __init__(self, moment: str, step: int) -> None:
        self.moment, self.step = moment, step

    def on_fit_begin(self, trainer: Trainer) -> None:
        if self.moment == "fit begin":
            trainer.stop()

    def on_batch(self, trainer: Trainer, record: dict[str, Any]) -> None:
        if (self.moment, self.step) == ("batch", trainer.step):
            trainer.stop()

    def on_evaluation(self, trainer: Trainer, record: dict[str, Any], improved: bool) -> None:
        if (self.moment, self.step) == ("evaluation", trainer.step):
            trainer.stop()


@pytest.mark.parametrize(
    ("moment", "step"), [("fit begin", 1), ("batch", 1), ("batch", 4), ("evaluation", 3), ("evaluation", 9)]
)
def test_a_stop_ends_with_a_checkpoint_after_the_step(backend: Backend, moment: str, step: int) -> None:
    whole = network(backend)
    trainer(whole).fit(samples(), epochs=3, batch_size=4)
    moments: list[tuple[Any, ...]] = []
    run = trainer(network(backend), callbacks=[StopAt(moment, step), Recorder(moments)])
    run.fit(samples(), epochs=3, batch_size=4)
    assert run.step == step
    assert [moment[:2] for moment in moments[-2:]] == [("checkpoint", step), ("fit end", step)]
    run.callbacks.clear()
    run.fit(samples(), epochs=3, batch_size=4)
    assert run.step == 9
    for name, values in on_host(whole).items():
        np.testing.assert_array_equal(on_host(run.model)[name], values)


def test_a_callback_that_fails_at_the_beginning_still_gets_its_end(cpu: Backend) -> None:
    class Fails(Callback):
        def on_fit_begin(self, trainer: Trainer) -> None:
            raise OSError("no room")

    moments: list[tuple[Any, ...]] = []
    with pytest.raises(OSError, match="no room"):
        trainer(network(cpu), callbacks=[Recorder(moments), Fails()]).fit(samples(), epochs=1)
    assert [moment[0] for moment in moments] == ["fit begin", "fit end"]
