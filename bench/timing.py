"""How every benchmark measures: contenders run in separate processes, take turns, and are checked before timing.

A benchmark lists its cases and, by name, a function that builds each contender for a case. The contender named
"limit" is a physical bound (such as a copy of the same bytes), those that begin with "xpnet" are this project's, and
all others are peers. A contender whose packages are missing, that fails or that gives a wrong result is reported, and
the others are measured.
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
import traceback
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
PATIENCE = 120  # seconds until a contender must have been compiled and checked, or measured


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
    facts: Callable[[], dict[str, Any]] = dict  # more entries for the report


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
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no case that would end later")
    options = parser.parse_args(arguments)
    cases, words = benchmark.cases[options.device], options.cases and set(options.cases.split(","))
    wanted = [case for case in cases if not words or words & set(str(case).split())]
    if not wanted:
        parser.error(f"--cases {options.cases}: no case has it in its name; there are {', '.join(map(str, cases))}")
    contenders = chosen(parser, benchmark.contenders[options.device], options.peers)
    origin = {"command": " ".join(["python", *sys.argv]), **machine(options.device), **benchmark.facts()}
    rows: list[dict[str, Any]] = []
    start, longest = time.monotonic(), 0.0
    for case in wanted:
        began = time.monotonic()
        if began + longest > start + options.seconds:
            print(f"no time was left for: {', '.join(map(str, wanted[len(rows) :]))}", flush=True)
            break
        rows.append(compare(case, contenders, options.device, options.turns))
        longest = max(longest, time.monotonic() - began)
        print(describe(rows[-1]), flush=True)
        if options.json:  # after every case, so that an interrupted run keeps its results
            options.json.write_text(json.dumps([row | origin for row in rows], indent=1) + "\n")
    return rows


def main(benchmark: Benchmark, arguments: list[str] | None = None) -> None:
    """Run it as a command: the exit status is 1 if a contender of this project failed, or the limit."""
    ours = [key for row in run(benchmark, arguments) for key in row if key.startswith(("xpnet", "limit"))]
    sys.exit(any(key.endswith("_failed") for key in ours))


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
            kind, content = answer(process)
            if kind == "ready":
                processes[name] = process
                row |= {f"{name}_{key}": value for key, value in content.items()}
            else:
                row[f"{name}_{kind}"] = content
        samples: dict[str, list[float]] = {name: [] for name in processes}
        for _ in range(turns):
            for name, process in [*processes.items()]:
                time.sleep(SETTLE_SECONDS)
                process.send("measure")
                kind, content = answer(process)
                if kind == "times":
                    samples[name] += content
                else:
                    row[f"{name}_{kind}"] = content
                    del processes[name], samples[name]
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


def answer(process: Any) -> tuple[str, Any]:
    """What a contender says: a word and what belongs to it; "failed" and why, if it died or is silent."""
    try:
        return process.recv() if process.poll(PATIENCE) else ("failed", f"no answer in {PATIENCE} s")
    except (EOFError, ConnectionError):
        return "failed", "its process died"


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
        process.join(SETTLE_SECONDS + 10 * SAMPLE_SECONDS)
        process.kill()  # it hangs
        process.join()


def _serve(connection: Any, build: Build, case: Any, device: str) -> None:
    try:
        contender = build(case, device)
    except ImportError as error:
        connection.send(("absent", str(error)))
        return
    except Exception as error:
        connection.send(("failed", _described(error)))
        return
    try:
        before = memory(contender)
        contender.call()
        contender.synchronize()
        extra = memory(contender) - before
        connection.send(("ready", contender.check() | {"extra_mib": round(extra / 2**20, 1)}))
        while connection.recv() == "measure":
            connection.send(("times", sample(contender)))
    except EOFError:
        return
    except Exception as error:  # a peer's own, or a wrong result
        connection.send(("failed", _described(error)))


def _described(error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(frame.filename).name}:{frame.lineno})"


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
    absent = [f"{key[:-7]} is skipped: {value}" for key, value in row.items() if key.endswith("_absent")]
    absent += [f"{key[:-7]} failed: {value}" for key, value in row.items() if key.endswith("_failed")]
    others = [f"{key.replace('_', ' ')} {value}" for key, value in row.items() if "error" in key or "mib" in key]
    return "\n  ".join([row["case"], *(", ".join(line) for line in (figures, ratios, others) if line), *absent])
