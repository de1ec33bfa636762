"""How every benchmark measures: contenders run in separate processes, take turns, and are checked before timing.

A benchmark lists its cases and, by name, a function that builds each contender for a case. The contender named
"limit" is a physical bound (such as a copy of the same bytes), those that begin with "xpnet" are this project's, and
all others are peers. A peer whose packages are missing is skipped, and the report says so.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("numpy", "numba", "cupy-cuda12x", "cupy-cuda13x", "numba-cuda", "torch", "triton", "liger-kernel", "jax")
SAMPLE_SECONDS = 0.3  # in each turn
SETTLE_SECONDS = 0.3  # between turns: the threads of OpenBLAS and others spin up to a tenth of a second
SHORTEST = 2e-4  # calls are repeated until a sample takes this long
TURNS = 7


class WrongResult(Exception):
    """A contender's result is wrong."""


@dataclass
class Contender:
    """Something to time; ``check`` checks the result of the first call, and returns entries for the report."""

    call: Callable[[], Any]
    check: Callable[[], dict[str, Any]] = dict
    synchronize: Callable[[], Any] = lambda: None
    peak_memory: Callable[[], int] | None = None  # bytes so far; None: the process's largest resident set


Build = Callable[[Any, str], Contender]


@dataclass
class Benchmark:
    """The cases, whose ``str`` is their name, and the contenders, by device."""

    cases: dict[str, list[Any]]
    contenders: dict[str, dict[str, Build]]


def run(benchmark: Benchmark, arguments: list[str] | None = None) -> list[dict[str, Any]]:
    """Measure, print a table, write the rows and return them."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--device", choices=sorted(benchmark.cases), default="cpu")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    parser.add_argument(
        "--cases", "--nets", help="only cases with one of these words, separated by commas, in their name"
    )
    parser.add_argument("--peers", help="only these peers, separated by commas, as in torch,torch-compile,jax")
    parser.add_argument("--turns", type=int, default=TURNS)
    options = parser.parse_args(arguments)
    cases, words = benchmark.cases[options.device], options.cases and set(options.cases.split(","))
    wanted = [case for case in cases if not words or words & set(str(case).split())]
    if not wanted:
        parser.error(f"--cases {options.cases}: no case has it in its name; there are {', '.join(map(str, cases))}")
    contenders = chosen(parser, benchmark.contenders[options.device], options.peers)
    rows, origin = [], {"command": " ".join(["python", *sys.argv]), **machine(options.device)}
    for case in wanted:
        rows.append(compare(case, contenders, options.device, options.turns))
        print(describe(rows[-1]), flush=True)
        if options.json:  # after every case, so that an interrupted run keeps its results
            options.json.write_text(json.dumps([row | origin for row in rows], indent=1) + "\n")
    return rows


def chosen(parser: argparse.ArgumentParser, contenders: dict[str, Build], peers: str | None) -> dict[str, Build]:
    """The limit, this project's contenders, and the chosen peers; all peers if None."""
    if peers is None:
        return contenders
    names = {name for name in contenders if name != "limit" and not name.startswith("xpnet")}
    wanted = {name.replace("-", "_") for name in peers.split(",") if name}
    if unknown := ", ".join(sorted(wanted - names)):
        parser.error(f"--peers {peers}: there is no {unknown}; there are {', '.join(sorted(names))}")
    return {name: build for name, build in contenders.items() if name not in names - wanted}


def compare(case: Any, contenders: dict[str, Build], device: str, turns: int) -> dict[str, Any]:
    """The row of a case: every contender's median over ``turns`` turns, in microseconds, and the ratios."""
    row: dict[str, Any] = {"case": str(case)}
    with ExitStack() as stack:
        started = {  # in parallel: importing and compiling takes longer than the measurements
            name: stack.enter_context(contender_process(build, case, device)) for name, build in contenders.items()
        }
        processes = {}
        for name, process in started.items():
            kind, content = process.recv()
            if kind == "absent":
                row[f"{name}_absent"] = content
            elif kind == "wrong":
                raise RuntimeError(f"{name} fails its check at {case}:\n{content}")
            else:
                processes[name] = process
                row |= {f"{name}_{key}": value for key, value in content.items()}
        samples: dict[str, list[float]] = {name: [] for name in processes}
        for _ in range(turns):
            for name, process in processes.items():
                time.sleep(SETTLE_SECONDS)
                process.send("measure")
                samples[name] += process.recv()
        medians = {name: statistics.median(times) * 1e6 for name, times in samples.items()}
    row |= {f"{name}_us": round(median, 3) for name, median in medians.items()}
    for ours in [name for name in medians if name.startswith("xpnet")]:
        prefix = ours.removeprefix("xpnet").lstrip("_")
        prefix = f"{prefix}_" if prefix else ""
        for other, median in medians.items():
            if other == "limit":
                row[f"{prefix}ratio_to_limit"] = round(medians[ours] / median, 3)
            elif not other.startswith("xpnet"):
                row[f"{prefix}speedup_over_{other}"] = round(median / medians[ours], 2)
    return row


@contextmanager
def contender_process(build: Build, case: Any, device: str) -> Iterator[Any]:
    """A connection to a process that builds and checks a contender, and measures it when told to."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, build, case, device), daemon=True)
    process.start()
    there.close()
    try:
        yield here
    finally:
        here.close()
        process.join()


def _serve(connection: Any, build: Build, case: Any, device: str) -> None:
    try:
        contender = build(case, device)
    except ImportError as error:
        connection.send(("absent", str(error)))
        return
    try:
        before = memory(contender)
        contender.call()
        contender.synchronize()
        extra = memory(contender) - before
        content = contender.check() | {"extra_mib": round(extra / 2**20, 1)}
    except WrongResult as error:
        connection.send(("wrong", str(error)))
        return
    connection.send(("ready", content))
    try:
        while connection.recv() == "measure":
            connection.send(sample(contender))
    except EOFError:
        return


def sample(contender: Contender, seconds: float = SAMPLE_SECONDS) -> list[float]:
    """Seconds per call, several times; short calls are timed in groups."""

    def timed(repetitions: int) -> float:
        contender.synchronize()
        start = time.perf_counter()
        for _ in range(repetitions):
            contender.call()
        contender.synchronize()
        return (time.perf_counter() - start) / repetitions

    repetitions = max(1, round(SHORTEST / max(timed(1), timed(3), 1e-9)))
    samples, end = [], time.perf_counter() + seconds
    while len(samples) < 3 or time.perf_counter() < end:
        samples.append(timed(repetitions))
    return samples


def within(**errors_and_bounds: tuple[float, float]) -> dict[str, float]:
    """The errors by name; raise :class:`WrongResult` when one exceeds its bound."""
    for name, (error, bound) in errors_and_bounds.items():
        if not error <= bound:
            raise WrongResult(f"{name} is {error:.3g}, and at most {bound:.3g} was expected")
    return {name: float(f"{error:.3g}") for name, (error, _) in errors_and_bounds.items()}


def memory(contender: Contender) -> int:
    """The most memory used so far, in bytes."""
    if contender.peak_memory is not None:
        return contender.peak_memory()
    import resource  # not on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def threads() -> int:
    """How many threads each contender may use: the CPUs of this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine(device: str) -> dict[str, Any]:
    """What the figures depend on: the processor, the versions and the commit."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {"machine": f"{_processor(device)}, {threads()} CPUs", "versions": versions, "commit": _commit()}


def _processor(device: str) -> str:
    if device == "cuda":
        import cupy

        return str(cupy.cuda.runtime.getDeviceProperties(0)["name"].decode())
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str:
    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    changed = git("status", "--porcelain", "--", ":/", ":(exclude,top)bench/results")
    return (git("rev-parse", "HEAD") or "unknown") + (" and changes" if changed else "")


def describe(row: dict[str, Any]) -> str:
    """A case as a few lines of text."""
    figures = [f"{key[:-3]} {value:,.4g} us" for key, value in row.items() if key.endswith("_us")]
    ratios = [f"{key.replace('_', ' ')} {value}" for key, value in row.items() if "ratio" in key or "speedup" in key]
    absent = [f"{key.removesuffix('_absent')} is skipped: {value}" for key, value in row.items() if "absent" in key]
    others = [f"{key.replace('_', ' ')} {value}" for key, value in row.items() if "error" in key or "mib" in key]
    return "\n  ".join([row["case"], *(", ".join(line) for line in (figures, ratios, others) if line), *absent])
