"""The watch by itself: it sees what a reader must not do."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

MISDEEDS: dict[str, Callable[[Path], object]] = {
    "executes": lambda path: exec("1"),
    "imports": lambda path: __import__("this_module_is_nowhere"),
    "calls the shell": lambda path: os.system("true"),
    "starts a process": lambda path: subprocess.run([sys.executable, "--version"], check=True, capture_output=True),
    "writes elsewhere": lambda path: (path.parent.parent / "elsewhere").write_text("x"),
    "removes elsewhere": lambda path: os.remove(path.parent.parent / "nothing"),
}


@pytest.mark.parametrize("misdeed", MISDEEDS)
def test_misdeeds_are_seen(watched: Any, tmp_path: Path, misdeed: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises((AssertionError, OSError, ImportError)) as caught:
        watched(MISDEEDS[misdeed], folder / "file")
    assert isinstance(caught.value, AssertionError)


def test_memory_is_measured_and_reading_is_no_misdeed(watched: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(5 * 2**20))
    outcome = watched(lambda path: len(path.read_bytes()), tmp_path / "file")
    assert outcome.content == 5 * 2**20
    assert outcome.error is None
    assert 5 * 2**20 <= outcome.peak < 6 * 2**20


def test_an_error_that_is_not_of_xpnet_is_not_taken_for_a_refusal(watched: Any, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        watched(lambda path: 1 // 0, tmp_path / "file")
