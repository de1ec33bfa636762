"""The command line in this process, with nothing of the user's and nothing from the network."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from xpnet.cli import main
from xpnet.data import loading
from xpnet.errors import MissingFileError

CPU = ("--device", "cpu-reference")


class Outcome(NamedTuple):
    """What a command gave."""

    status: int
    out: str
    err: str

    @property
    def result(self) -> dict[str, Any]:
        """The JSON object, which must be all there is on standard output."""
        (line,) = self.out.splitlines()
        return json.loads(line, parse_constant=lambda constant: pytest.fail(f"{constant} is not JSON"))

    @property
    def complaint(self) -> str:
        """The one sentence of a command that failed as it should: status 2, one last line on standard error."""
        assert (self.status, self.out) == (2, "")
        lines = [line for line in self.err.splitlines() if not line.startswith("device: ")]
        assert len(lines) == 1, self.err
        return lines[0]


Xpnet = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def nothing_of_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working folder, no data folder, no cache, no network."""

    def no_network(*_: object) -> None:
        raise MissingFileError("no mirror served it: no network in tests")

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XPNET_DATA_DIR", raising=False)
    for name in ("XDG_CACHE_HOME", "HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path.parent / "home"))
    monkeypatch.setattr(loading, "fetch", no_network)


@pytest.fixture
def xpnet(capsys: pytest.CaptureFixture[str]) -> Xpnet:
    """``xpnet("train", "--recipe", "digits")`` runs the command."""

    def run(*arguments: object) -> Outcome:
        status = main([str(argument) for argument in arguments])
        return Outcome(status, *capsys.readouterr())

    return run
