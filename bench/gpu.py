"""Tests and benchmarks on a CUDA GPU, in one command that installs nothing: `make gpu`.

    python bench/gpu.py [--seconds 540] [PART ...]

The parts are run one after the other, the most valuable first, each with a limit of its own and all of them within
--seconds: "first" tells in two minutes whether the kernels and a training run work; "kernels" and "devices" are the
tests on the GPU; then come the benchmarks, and the rest of the tests. What there was no time for is named. Results go
to the folder OUT (default: bench/results): the whole output in gpu.txt, and a NAME_cuda.json for each benchmark, all of
them written as they come.

`make gpu-wheels` fills the folder wheels/ with the packages that such a machine lacks, and with MNIST; it is used by
itself when it is there. WHEELS names another folder. A peer that is missing or fails is reported.

Exit status: 0; 1 when a part failed or there was no time for it; 3 when CUDA cannot be used here.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from gpu_environment import ROOT, environment

NO_GPU = 3
SECONDS = 540
SHORTEST = 15  # seconds: with less no part is begun
GRACE = 10  # seconds to report in, for a part that is interrupted
PYTHON = [sys.executable]


@dataclass(frozen=True)
class Part:
    """A script of bench/ or a set of tests, and the most seconds that it may take."""

    arguments: list[str]
    seconds: int
    result: str = ""  # the benchmark's file

    def command(self, folder: Path, seconds: float) -> list[str]:
        """The command line, for that many seconds."""
        if not self.result:
            return [*PYTHON, *self.arguments]
        # It begins no case that would end later.
        return [*PYTHON, *self.arguments, "--json", str(folder / self.result), "--seconds", f"{seconds - GRACE:.0f}"]


def tests(seconds: int, *paths: str) -> Part:
    """The tests for a GPU in these files, in several processes where pytest-xdist is there."""
    options = ["-m", "pytest", "-m", "gpu", "-q", "-rs", "--tb=short", "--maxfail=50", "-p", "no:cacheprovider"]
    parallel = ["-n", "8", "--dist", "worksteal"] if importlib.util.find_spec("xdist") else []
    return Part([*options, *parallel, *paths], seconds)


def benchmark(seconds: int, name: str, *options: str) -> Part:
    """The CUDA cases of a benchmark."""
    return Part([f"bench/{name}.py", "--device", "cuda", *options], seconds, f"{name}_cuda.json")


TESTED_FIRST = ("tests/kernels/cuda", "tests/devices", "tests/backends")
PARTS = {
    "first": Part(["bench/gpu_first.py"], 120),
    "kernels": tests(150, TESTED_FIRST[0]),
    "devices": tests(90, *TESTED_FIRST[1:]),
    "step": benchmark(100, "train_step", "--turns", "2"),
    "cross_entropy": benchmark(80, "softmax_cross_entropy", "--turns", "2"),
    "optimizers": benchmark(40, "optimizers", "--turns", "2"),
    "epoch": benchmark(60, "epoch", "--turns", "1"),
    "linear_cross_entropy": benchmark(80, "fused_linear_cross_entropy", "--turns", "2"),
    "scaling": benchmark(60, "scaling", "--turns", "1"),
    "tests": tests(300, "tests", *(f"--ignore={path}" for path in TESTED_FIRST)),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run these parts, all when none is named; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", help=f"in any number, separated by spaces or commas: {', '.join(PARTS)}")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for all of them (default: %(default)s)")
    options = parser.parse_args(arguments)
    names = [name for words in options.parts for name in words.split(",") if name]
    if unknown := ", ".join(sorted(set(names) - set(PARTS))):
        parser.error(f"there is no part {unknown}: there are {', '.join(PARTS)}")
    end = time.monotonic() + options.seconds
    with tempfile.TemporaryDirectory() as scratch:
        values = environment(Path(scratch))
        if problem := _problem(values):
            print(f"make gpu needs a GPU that xpnet can use: {problem}", file=sys.stderr)
            return NO_GPU
        folder = Path(os.environ.get("OUT") or ROOT / "bench" / "results").absolute()
        folder.mkdir(parents=True, exist_ok=True)
        outcomes = _run([name for name in PARTS if not names or name in names], folder, values, end)
    return 0 if all(outcome == "done" for outcome in outcomes.values()) else 1


def _problem(values: dict[str, str]) -> str:
    """Why CUDA cannot be used; empty if it can."""
    command = [*PYTHON, "bench/gpu_probe.py"]
    asked = subprocess.run(command, env=values, cwd=ROOT, capture_output=True, text=True, check=False)
    if asked.returncode == 0:
        return asked.stdout.strip()
    problem = asked.stderr.strip().splitlines()[-1]
    missing = problem.startswith("ModuleNotFoundError")
    return problem + "; 'make gpu-wheels' fetches it, where there is a package index" * missing


def _run(names: list[str], folder: Path, values: dict[str, str], end: float) -> dict[str, str]:
    """What became of each part."""
    outcomes = {}
    with (folder / "gpu.txt").open("w+b", buffering=0) as log:
        for name in names:
            seconds = min(PARTS[name].seconds, end - time.monotonic())
            if seconds < SHORTEST:
                outcomes[name] = "left out: no time"
                continue
            start, place = time.monotonic(), log.tell()
            log.write(f"== {name}\n".encode())
            outcomes[name] = _outcome(PARTS[name].command(folder, seconds), values, seconds, log)
            log.write(f"-- {name}: {outcomes[name]}, {time.monotonic() - start:.0f} s\n\n".encode())
            log.seek(place)
            print(log.read().decode(errors="replace"), end="", flush=True)
        summary = "".join(f"{name}: {outcome}\n" for name, outcome in outcomes.items())
        log.write(summary.encode())
    print(summary, end="")
    return outcomes


def _outcome(command: list[str], values: dict[str, str], seconds: float, log: BinaryIO) -> str:
    """Run a command and all that it starts; it is interrupted, then ended, when its time is over."""
    process = subprocess.Popen(
        command, env=values, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
    )
    try:
        status = process.wait(seconds - GRACE)
        return "done" if status == 0 else f"failed with status {status}"
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
        return "out of time"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # and whatever it has left
        process.wait()


if __name__ == "__main__":
    sys.exit(main())
