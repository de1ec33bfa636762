"""xpnet.cli.signals and stopping: told to stop, a run finishes its step, is saved, and says how to go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import xpnet as library
from xpnet import checkpoint
from xpnet.cli import main, recipes
from xpnet.cli.signals import Interrupted, handling, interrupt
from xpnet.training import EarlyStopping, Trainer, runs, trainer

DIGITS = ("train", "--recipe", "digits", "--device", "cpu-reference", "--epochs", 2, "--json")
RESUME = ("train", "--device", "cpu-reference", "--json", "--resume")
STATUSES = pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
SameRun = Callable[[Path, Path], None]


def signal_at(call: int, function: Callable[..., Any], number: int) -> Callable[..., Any]:
    """The function, in the midst of whose so-manieth call the signal comes."""
    calls = [0]

    def interrupted(*arguments: Any, **keywords: Any) -> Any:
        calls[0] += 1
        if calls[0] == call:
            signal.raise_signal(number)
        return function(*arguments, **keywords)

    return interrupted


# The owner and name of a function, the call of it that is interrupted, and the step after which the run then stops.
MOMENTS = {
    "the first step": (Trainer, "train_step", 1, 1),
    "a step": (Trainer, "train_step", 50, 50),
    "an evaluation": (trainer, "evaluate_batches", 1, 45),
    "the first save": (checkpoint, "save", 1, 1),
    "the save of the best": (checkpoint, "save", 2, 45),
}


@pytest.mark.parametrize(
    ("moment", "number", "status"),
    [("a step", signal.SIGINT, 130), *((moment, signal.SIGTERM, 143) for moment in MOMENTS)],
)
def test_a_run_that_is_told_to_stop(
    xpnet: Any, monkeypatch: pytest.MonkeyPatch, assert_same_run: SameRun, moment: str, number: int, status: int
) -> None:
    whole = xpnet(*DIGITS, "--out", "whole").result
    owner, name, call, step = MOMENTS[moment]
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, signal_at(call, getattr(owner, name), number))
        outcome = xpnet(*DIGITS, "--out", "my run")
    assert (outcome.status, outcome.out) == (status, "")
    assert outcome.err.splitlines()[-1] == (
        f"xpnet train: stopped after step {step}, which is saved: continue with xpnet train --resume 'my run'"
    )
    assert checkpoint.load("my run/last.safetensors").metadata["step"] == step
    resumed = xpnet(*RESUME, "my run").result
    assert resumed["test_accuracy"] == whole["test_accuracy"]
    assert_same_run(Path("whole"), Path("my run"))


@STATUSES
def test_a_signal_before_the_first_step_leaves_no_run(
    xpnet: Any, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, status: int
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(library.data, "load", signal_at(1, library.data.load, number))
        outcome = xpnet(*DIGITS, "--out", "run")
    assert (outcome.status, outcome.out) == (status, "")
    assert outcome.err == (
        f"xpnet train: stopped by {number.name} before there was anything to save: run the same command again\n"
    )
    with monkeypatch.context() as patch:
        patch.setattr(library.training.RunFolder, "require_new", lambda folder: signal.raise_signal(number))
        assert xpnet(*DIGITS, "--out", "run").status == status
    assert xpnet(*DIGITS, "--out", "run").status == 0  # the folder it made is not in the way


TOO_LATE = {
    "the last step": (Trainer, "train_step", 90),
    "the evaluation on the test set": (runs, "measure_test", 1),
}


@pytest.mark.parametrize("moment", TOO_LATE)
def test_a_signal_after_the_last_step_changes_nothing(xpnet: Any, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    owner, name, call = TOO_LATE[moment]
    monkeypatch.setattr(owner, name, signal_at(call, getattr(owner, name), signal.SIGTERM))
    outcome = xpnet(*DIGITS, "--validation-fraction", 0.01)
    assert outcome.status == 0
    assert outcome.result["steps"] == 90
    assert outcome.result["test_accuracy"] > 0.5


def test_in_the_evaluation_that_ends_the_run_early(xpnet: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EarlyStopping, "_score", lambda self, record: 0.0)
    monkeypatch.setattr(trainer, "evaluate_batches", signal_at(2, trainer.evaluate_batches, signal.SIGTERM))
    outcome = xpnet(*DIGITS, "--epochs", 9, "--validation-fraction", 0.01, "--patience", 1)
    assert outcome.status == 0
    assert (outcome.result["epochs"], outcome.result["stopped_early"]) == (2, True)


def test_a_failure_is_told_although_a_stop_was_asked_for(xpnet: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(self: Trainer, *_: object) -> None:
        raise library.NonFiniteError("the loss is not finite")

    monkeypatch.setattr(Trainer, "train_step", signal_at(3, Trainer.train_step, signal.SIGTERM))
    monkeypatch.setattr(Trainer, "_finite_report", explode)
    outcome = xpnet(*DIGITS)
    assert outcome.status == 2
    assert outcome.err.splitlines()[-1].startswith("xpnet train: the loss is not finite; ")


def test_any_command_is_ended_in_one_sentence(xpnet: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes, "run", lambda options: signal.raise_signal(signal.SIGTERM))
    outcome = xpnet("recipes")
    assert (outcome.status, outcome.out) == (143, "")
    assert outcome.err.startswith("xpnet recipes: stopped by SIGTERM")


def test_a_signal_that_was_ignored_stays_ignored(xpnet: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As under nohup, or in the background of a script."""
    monkeypatch.setattr(Trainer, "train_step", signal_at(3, Trainer.train_step, signal.SIGINT))
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert xpnet(*DIGITS).status == 0
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_handlers_are_those_of_before(xpnet: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert xpnet(*DIGITS, "--out", "run").status == 0
    assert xpnet(*DIGITS, "--out", "run").status == 2
    monkeypatch.setattr(Trainer, "train_step", signal_at(3, Trainer.train_step, signal.SIGTERM))
    assert xpnet(*DIGITS).status == 143
    monkeypatch.setattr(library.training.RunFolder, "on_fit_begin", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        xpnet(*DIGITS)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_the_library_installs_no_handlers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a handler was installed")

    monkeypatch.setattr(signal, "signal", refuse)
    recipe = library.load_recipe("digits").with_options(epochs=1)
    library.training.train(recipe, library.data.load("digits"), library.backend("cpu-reference"), out=tmp_path)


def test_the_first_signal_is_obeyed_in_order_and_the_second_at_once() -> None:
    received = []
    with handling(received.append):
        signal.raise_signal(signal.SIGINT)
        assert received == [signal.SIGINT]
        assert signal.getsignal(signal.SIGINT) == signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    with pytest.raises(Interrupted, match="stopped by SIGTERM") as raised, handling(interrupt):
        signal.raise_signal(signal.SIGTERM)
    assert raised.value.status == 143


ENDLESS_STEP = """
import sys, time
from xpnet.cli import main
from xpnet.training import Trainer

def train_step(trainer, *_):
    while True:
        print(trainer._stopping, flush=True)
        time.sleep(0.01)

Trainer.train_step = train_step
sys.exit(main(["train", "--recipe", "digits", "--device", "cpu-reference", "--out", sys.argv[1]]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot send these signals to another process")
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_a_process_in_the_midst_of_a_step(tmp_path: Path, second: signal.Signals) -> None:
    command = [sys.executable, "-c", ENDLESS_STEP, str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "False\n"
        process.send_signal(signal.SIGTERM)
        while process.stdout.readline() != "True\n":
            pass
        process.send_signal(second)
    assert process.returncode == -second
    assert checkpoint.load(tmp_path / "run" / "last.safetensors").metadata["step"] == 0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot send these signals to another process")
def test_a_process_that_is_told_to_stop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    arguments = [*map(str, DIGITS[:-3]), "--epochs", "100000", "--out", str(run)]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "xpnet", *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        while not process.stderr.readline().startswith("epoch   1"):
            pass
        process.send_signal(signal.SIGINT)
        last = process.stderr.read().splitlines()[-1]
    assert process.returncode == 130
    step = checkpoint.load(run / "last.safetensors").metadata["step"]
    assert last == f"xpnet train: stopped after step {step}, which is saved: continue with xpnet train --resume {run}"
    done = step // 45
    assert main([*map(str, RESUME), str(run), "--stop-after-epoch", str(done + 1)]) == 0
