"""``xpnet profile``."""

from __future__ import annotations

from typing import Any

CPU = ("--device", "cpu-reference")
DIGITS = ("profile", "--recipe", "digits", "--steps", 2, *CPU)


def test_the_figures_as_json(xpnet: Any) -> None:
    outcome = xpnet(*DIGITS, "--batch-size", 50, "--optimizer", "momentum", "--json")
    assert outcome.status == 0
    assert outcome.err == "device: cpu-reference   recipe: digits   data: digits   batch: 50\n"
    result = outcome.result
    assert list(result) == ["recipe", "device", "batch_size", "seconds", "rest", "parts", "peaks", "memory"]
    assert (result["recipe"], result["device"], result["batch_size"]) == ("digits", "cpu-reference", 50)
    (update,) = (part for part in result["parts"] if part["name"] == "optimizer")
    assert update["work"] == 5 * 4 * (64 * 512 + 512 + 512 * 10 + 10)


def test_the_printed_table(xpnet: Any) -> None:
    outcome = xpnet(*DIGITS)
    assert outcome.status == 0
    lines = outcome.out.splitlines()
    assert lines[0].split() == ["part", "operation", "time", "share", "achieved", "of", "peak"]
    assert [line.split()[:2] for line in lines[1:-3]][:2] == [["data", "batch"], ["1", "Linear"]]
    assert lines[-3].startswith("the rest")
    assert lines[-2].startswith("whole step")
    assert lines[-1].startswith("peaks: ")
    assert all("GFLOP/s" in line or "GB/s" in line for line in lines[1:-3])


def test_wrong_options_are_refused_in_one_sentence(xpnet: Any) -> None:
    assert "steps must be" in xpnet(*DIGITS[:-4], "--steps", 0, *CPU).complaint
    assert "unknown recipe" in xpnet("profile", "--recipe", "none", *CPU).complaint
