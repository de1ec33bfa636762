"""docs/guarantees.md names tests, test files and make targets that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "guarantees.md").read_text()


def missing(page: str) -> list[str]:
    """What the page names in code, and is not there."""
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    found = []
    for command in (" ".join(code.split()) for code in re.findall(r"`([^`]+)`", page)):
        if target := re.match(r"make ([\w-]+)", command):
            found += [command] if target[1] not in targets else []
        for path, name in re.findall(r"(tests/[\w/.-]+)(?:::(\w+))?", command):
            there = (ROOT / path).is_file() or (path.endswith("/") and (ROOT / path).is_dir())
            if not there or (name and not re.search(rf"^def {name}\(", (ROOT / path).read_text(), re.MULTILINE)):
                found.append(command)
    return found


def test_all_that_it_names_exists() -> None:
    assert len(re.findall(r"`(?:tests/|make |pytest )", PAGE)) > 20
    assert missing(PAGE) == []


@pytest.mark.parametrize(
    "command",
    [
        "make guarantee",
        "tests/test_nothing.py",
        "tests/nothing/",
        "pytest -m guarantees -s\ntests/training/test_nothing.py",
        "tests/test_guarantees.py::test_all_that_it_names",
    ],
)
def test_what_is_missing_is_seen(command: str) -> None:
    assert missing(f"see `{command}` and `make test`") == [" ".join(command.split())]
