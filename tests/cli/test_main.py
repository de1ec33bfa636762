"""xpnet.cli: exit statuses, what goes to which stream, and what a command costs before it begins."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import xpnet as library
from xpnet.cli import COMMANDS, main, recipes

Process = subprocess.CompletedProcess[str]


def process(*arguments: str, **environment: str) -> Process:
    """``python -m xpnet ARGUMENTS``, in the current folder."""
    command = [sys.executable, "-m", "xpnet", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, check=False)


def with_closed_pipe(stream: str, *arguments: str) -> Process:
    """``python -m xpnet ARGUMENTS``, one of its streams a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: writing}
    try:
        return subprocess.run([sys.executable, "-m", "xpnet", *arguments], text=True, check=False, **streams)
    finally:
        os.close(writing)


def failing_with(error: BaseException) -> Callable[..., dict[str, Any]]:
    def run(options: object) -> dict[str, Any]:
        raise error

    return run


def test_the_last_line_of_stdout_is_one_json_object_and_all_else_is_on_stderr() -> None:
    done = process("train", "--recipe", "digits", "--epochs", "1", "--device", "cpu-reference", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout.splitlines()[-1])["epochs"] == 1
    assert len(done.stdout.splitlines()) == 1
    assert "epoch   1" in done.stderr


def test_an_error_is_a_sentence_and_debug_shows_where_it_arose() -> None:
    done = process("train", "--recipe", "torch-mpl")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(
        "xpnet train: unknown recipe 'torch-mpl' (did you mean 'torch-mlp'?); the choices are "
    )
    assert len(done.stderr.splitlines()) == 1
    debug = process("train", "--recipe", "torch-mpl", "--debug")
    assert debug.returncode == 1
    assert debug.stderr.startswith("Traceback")
    assert "ConfigurationError: unknown recipe 'torch-mpl'" in debug.stderr


@pytest.mark.parametrize("arguments", [[], *([command.NAME] for command in COMMANDS)], ids=str)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; from xpnet.cli import main\n"
        f"try: main({[*arguments, '--help']})\n"
        "except SystemExit: print('\\n', *sorted({name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "xpnet" in loaded
    assert not loaded & {"numpy", "numba", "cupy", "array_api_compat", "safetensors", "pooch", "requests", "tqdm"}


@pytest.mark.parametrize("arguments", [("recipes",), ("recipes", "--json"), ("--help",)])
def test_a_closed_stdout_ends_without_an_error(arguments: tuple[str, ...]) -> None:
    """``xpnet recipes | head -1``, with a reader who is gone before the first line."""
    done = with_closed_pipe("stdout", *arguments)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_closed_stderr_is_no_success_unless_the_run_was_complete() -> None:
    """``xpnet train 2>&1 | head -1``: the run ends where its progress cannot be told."""
    done = with_closed_pipe("stderr", "train", "--recipe", "digits", "--epochs", "1", "--device", "cpu-reference")
    assert done.returncode != 0 or "best_test_accuracy" in done.stdout


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.NAME)
def test_every_command_has_help_with_an_example(command: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([command.NAME, "--help"])
    out, _ = capsys.readouterr()
    assert exit_.value.code == 0
    assert f"example: {command.EXAMPLE}" in out
    assert command.EXAMPLE.startswith(f"xpnet {command.NAME}")
    assert "--json" in out


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["--version"])
    assert exit_.value.code == 0
    assert capsys.readouterr().out == f"xpnet {library.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["tarin"], "invalid choice: 'tarin'"),
        (["train", "--epochs", "many"], "argument --epochs: invalid int value: 'many'"),
        (["train", "--epoch-count", "3"], "unrecognized arguments: --epoch-count 3"),
        (["evaluate"], "the following arguments are required: FILE|RUN_DIR"),
    ],
)
def test_a_command_line_that_makes_no_sense(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    out, err = capsys.readouterr()
    assert (exit_.value.code, out) == (2, "")
    assert message in err.splitlines()[-1]


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (library.ShapeError("three\u00a0rows"), 2, "xpnet recipes: three\u00a0rows\n"),
        (PermissionError(13, "Permission denied", "/x"), 2, "xpnet recipes: [Errno 13] Permission denied: '/x'\n"),
        (MemoryError(), 2, "xpnet recipes: out of memory\n"),
        (MemoryError("Unable to allocate 9. TiB"), 2, "xpnet recipes: Unable to allocate 9. TiB\n"),
    ],
)
def test_exit_statuses(
    error: BaseException,
    status: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(recipes, "run", failing_with(error))
    assert main(["recipes"]) == status
    assert capsys.readouterr() == ("", said)
    with pytest.raises(type(error)):
        main(["recipes", "--debug"])


def test_a_bug_is_not_dressed_up_as_a_users_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes, "run", failing_with(ZeroDivisionError("division by zero")))
    with pytest.raises(ZeroDivisionError):
        main(["recipes"])
