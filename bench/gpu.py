"""Tests and benchmarks on a CUDA GPU, in one command that installs nothing: `make gpu`.

It runs the tests marked ``gpu``, then the CUDA cases of every benchmark, the most important first, within nine minutes.
``python bench/gpu.py scaling epoch`` runs only these parts. Results go to the folder that OUT names, by default
bench/results: gpu_tests.txt, a NAME_cuda.json for each benchmark, and the whole output in gpu.txt. Missing packages
(array-api-strict and hypothesis for the tests, or a peer) may be given as wheels, in a folder that WHEELS names. A peer
that is missing is skipped, and the report says so.

Exit status: 0; 1 when a test or a benchmark failed or there was no time for it; 3 when CUDA cannot be used here.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
SECONDS = 540
NO_GPU = 3
TESTS = ("gpu_tests", [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider"])
BENCHMARKS = {
    "train_step": ["--turns", "2"],
    "softmax_cross_entropy": ["--turns", "2"],
    "optimizers": ["--turns", "2"],
    "fused_linear_cross_entropy": ["--turns", "2"],
    "epoch": ["--turns", "1"],
    "scaling": ["--turns", "1"],
}


def main(parts: Sequence[str] = ()) -> int:
    """Run these parts, all when none is named; return the exit status."""
    if unknown := set(parts) - {TESTS[0], *BENCHMARKS}:
        print(
            f"there is no part {', '.join(sorted(unknown))}: there are {', '.join([TESTS[0], *BENCHMARKS])}",
            file=sys.stderr,
        )
        return 2
    with tempfile.TemporaryDirectory() as scratch:
        environment = _environment(Path(scratch))
        asked = subprocess.run(
            [sys.executable, "-c", "from xpnet.backends import cuda_problem; print(cuda_problem() or '')"],
            env=environment, cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        problem = asked.stdout.strip() if asked.returncode == 0 else asked.stderr.strip().splitlines()[-1]
        if problem:
            print(f"make gpu needs a GPU that xpnet can use: {problem}", file=sys.stderr)
            return NO_GPU
        return _run(Path(os.environ.get("OUT") or ROOT / "bench" / "results"), environment, parts)


def _environment(scratch: Path) -> dict[str, str]:
    """The user's environment, with this checkout and the wheels to import from, and a kernel cache of its own."""
    paths = [ROOT, ROOT / "kernels", ROOT / "bench"]
    if "WHEELS" in os.environ:
        for wheel in sorted(Path(os.environ["WHEELS"]).glob("*.whl")):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(scratch / "wheels")
        paths.append(scratch / "wheels")
    path = os.pathsep.join([*map(str, paths), *filter(None, [os.environ.get("PYTHONPATH")])])
    return os.environ | {"PYTHONPATH": path, "NUMBA_CACHE_DIR": str(scratch / "numba")}


def _run(folder: Path, environment: dict[str, str], parts: Sequence[str] = ()) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    end, failed, report = time.monotonic() + SECONDS, [], []
    commands = dict([TESTS])
    for name, options in BENCHMARKS.items():
        target = folder / f"{name}_cuda.json"
        script = [sys.executable, str(ROOT / "bench" / f"{name}.py"), "--device", "cuda", "--json", str(target)]
        commands[name] = script + options
    for name, command in commands.items():
        if parts and name not in parts:
            continue
        text, status = _output(command, environment, end - time.monotonic())
        print(f"== {name}\n{text}", flush=True)
        report.append(f"== {name}\n{text}")
        if name == TESTS[0]:
            (folder / f"{name}.txt").write_text(text)
        if status != 0:
            failed.append(name)
    name = "_".join(["gpu", *parts])
    (folder / f"{name}.txt").write_text("\n".join([*report, f"failed: {', '.join(failed) or 'nothing'}\n"]))
    return 1 if failed else 0


def _output(command: list[str], environment: dict[str, str], seconds: float) -> tuple[str, int]:
    try:
        done = subprocess.run(
            command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=max(seconds, 1), check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        so_far = error.output or b""
        return (so_far.decode() if isinstance(so_far, bytes) else so_far) + "\nout of time\n", 1
    return done.stdout, done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
