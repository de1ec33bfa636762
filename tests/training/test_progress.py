"""xpnet.training.progress: plain lines, and on a terminal a bar that they do not tear."""

from __future__ import annotations

import io
import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from xpnet import SGD, Constant, Linear, Sequential, SoftmaxCrossEntropy, Trainer
from xpnet.backends import Backend
from xpnet.data import Dataset, InOrder
from xpnet.errors import NonFiniteError
from xpnet.training import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def trainer_with(progress: Progress, backend: Backend) -> Trainer:
    """A network that stays as it is: to everything it answers class 0, with the logits 1, 0, 0."""
    model = Sequential(Linear(4, 3, weights=Constant(0.0), biases=Constant(0.0))).initialize(backend)
    model.parameters["0.b"][0] = 1.0
    return Trainer(model, SoftmaxCrossEntropy(), SGD(0.0), callbacks=[progress])


def figures_of(y: np.ndarray) -> str:
    """-log softmax(1, 0, 0) at the label is log(e + 2) - 1 for class 0, else log(e + 2)."""
    share = (y == 0).mean()
    return f"loss {math.log(math.e + 2) - share:.4f}  accuracy {share:.4f}"


def shown_at_last(text: str) -> list[str]:
    """The lines a terminal shows after the text, for which a carriage return begins the line anew."""
    lines = []
    for line in text.replace("\x1b[A", "").split("\n"):
        shown = ""
        for part in line.split("\r"):
            shown = part + shown[len(part) :]
        lines.append(shown.rstrip())
    return [line for line in lines if line]


def test_plain_lines(cpu: Backend, small_data: Dataset) -> None:
    stream = io.StringIO()
    run = trainer_with(Progress(stream), cpu)
    run.fit(small_data.train, epochs=2, batch_size=8, sampler=InOrder(), validation=small_data.test)
    figures = f"train {figures_of(small_data.y_train)}  |  validation {figures_of(small_data.y_test)}"
    assert stream.getvalue().splitlines() == [
        f"step      1  {figures_of(small_data.y_train[:8]).partition('  ')[0]}",
        f"epoch   1  step      4  {figures}  best",
        f"epoch   2  step      8  {figures}",
    ]


def test_without_a_test_set(cpu: Backend, small_data: Dataset) -> None:
    stream = io.StringIO()
    trainer_with(Progress(stream), cpu).fit(small_data.train, epochs=1, batch_size=30)
    assert stream.getvalue().splitlines() == [
        f"step      1  {figures_of(small_data.y_train).partition('  ')[0]}",
        f"epoch   1  step      1  train {figures_of(small_data.y_train)}",
    ]


def test_a_diagnosis_is_a_warning(cpu: Backend, small_data: Dataset) -> None:
    stream = io.StringIO()
    trainer_with(Progress(stream), cpu).fit((np.full((5, 4), 99.0), np.zeros(5, int)), epochs=1)
    assert stream.getvalue().startswith("warning (inputs out of range): inputs reach 99, far outside [0, 1]")


def test_lines_go_to_standard_error(cpu: Backend, small_data: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    trainer_with(Progress(), cpu).fit(small_data.train, epochs=1)
    out, err = capsys.readouterr()
    assert out == ""
    assert "epoch   1" in err


def test_a_bar_on_a_terminal(cpu: Backend, small_data: Dataset) -> None:
    stream = Terminal()
    run = trainer_with(Progress(stream), cpu)
    run.fit(small_data.train, epochs=2, batch_size=8, sampler=InOrder(), validation=small_data.test)
    assert "/8 " in stream.getvalue()  # eight steps in all
    assert figures_of(small_data.y_train[:8]).partition("  ")[0].replace(" ", "=") in stream.getvalue()
    figures = f"train {figures_of(small_data.y_train)}  |  validation {figures_of(small_data.y_test)}"
    assert shown_at_last(stream.getvalue()) == [
        f"epoch   1  step      4  {figures}  best",
        f"epoch   2  step      8  {figures}",
    ]


def test_the_bar_of_a_resumed_run_begins_where_that_stopped(cpu: Backend, small_data: Dataset) -> None:
    stream = Terminal()
    run = trainer_with(Progress(stream), cpu)
    run.fit(small_data.train, epochs=2, batch_size=8, stop_after_epoch=1)
    assert "/4 " in stream.getvalue()
    begun = len(stream.getvalue())
    run.fit(small_data.train, epochs=2, batch_size=8)
    first_drawn = stream.getvalue()[begun:].strip("\r").split("\r")[0]
    assert " 4/8 " in first_drawn
    assert " 50%" in first_drawn


@pytest.mark.parametrize(
    ("shell", "shown"),
    [(SimpleNamespace(config={"IPKernelApp": {}}), True), (SimpleNamespace(config={}), False), (None, False)],
    ids=["notebook", "ipython, piped", "ipython imported"],
)
def test_a_bar_in_a_notebook(
    cpu: Backend,
    small_data: Dataset,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    shell: object,
    shown: bool,
) -> None:
    """A notebook's standard error is no terminal, and shows a bar; but a stream that was named is as it is."""
    import tqdm.auto  # noqa: F401 - before anything looks like a notebook: its widgets need one

    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    stream = io.StringIO()
    for progress in (Progress(), Progress(stream)):
        trainer_with(progress, cpu).fit(small_data.train, epochs=2, batch_size=8)
    assert ("/8 " in capsys.readouterr().err) is shown
    assert "\r" not in stream.getvalue()


def test_a_run_that_fails_takes_its_bar_away(cpu: Backend, small_data: Dataset) -> None:
    stream = Terminal()
    x = small_data.x_train.copy()
    x[0, 0] = np.nan
    run = trainer_with(Progress(stream), cpu)
    with pytest.raises(NonFiniteError):
        run.fit((x, small_data.y_train), epochs=1, batch_size=30)
    print("the message", file=stream)
    assert shown_at_last(stream.getvalue())[-1] == "the message"
