"""``xpnet doctor``: what works on this machine, and how to fix what does not."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Callable
from typing import Any

NAME = "doctor"
HELP = "Check what works on this machine, and say how to fix what does not."
EXAMPLE = "xpnet doctor"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None of its own."""


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Check everything that training needs; a check's "note" says what is missing where its "ok" is false."""
    import xpnet

    checks = {
        "system": _system,
        "packages": _packages,
        "kernels": _kernels,
        "cuda": _cuda,
        "mnist": _mnist,
    }
    results = [_checked(name, check) for name, check in checks.items()]
    return {"version": xpnet.__version__, "device": xpnet.backend("auto").name, "checks": results}


def render(result: dict[str, Any]) -> str:
    """A line for each check."""
    lines = [f"xpnet {result['version']}; --device auto is {result['device']}"]
    lines += [f"{'ok' if c['ok'] else '--':<4}{c['name']:<10}{c['note']}" for c in result["checks"]]
    return "\n".join(lines)


def _checked(name: str, check: Callable[[], tuple[bool, str]]) -> dict[str, Any]:
    try:
        ok, note = check()
    except Exception as error:  # a doctor reports what it finds, whatever it is
        ok, note = False, f"{type(error).__name__}: {error}"
    return {"name": name, "ok": ok, "note": note}


def _system() -> tuple[bool, str]:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return True, f"Python {platform.python_version()} on {sys.platform} {platform.machine()}, {usable} CPUs"


def _packages() -> tuple[bool, str]:
    from importlib.metadata import version

    return True, ", ".join(f"{name} {version(name)}" for name in ("numpy", "array-api-compat", "numba", "safetensors"))


def _kernels() -> tuple[bool, str]:
    return _fused("cpu")


def _cuda() -> tuple[bool, str]:
    import xpnet
    from xpnet.backends import cuda_devices

    if problem := xpnet.cuda_problem():
        return False, problem
    if xpnet.backend("cuda").kernels is None:
        return False, (
            "a test kernel ran, but numba-cuda is missing, and with it the fused kernels: pip install 'xpnet[cuda13]' "
            "(or 'xpnet[cuda12]' for a CUDA 12 driver)"
        )
    ok, note = _fused("cuda")
    return ok, "; ".join([*(f"{name} is {kind}" for name, kind in cuda_devices().items()), note])


def _fused(name: str) -> tuple[bool, str]:
    """Compile a backend's fused kernel, and compare its result with that of plain NumPy."""
    import numpy as np

    import xpnet

    logits, labels = np.linspace(-3, 3, 40, dtype=np.float32).reshape(4, 10), np.arange(4)
    gradients = []
    for backend in (xpnet.backend(name), xpnet.backend("cpu-reference")):
        with backend.on_device():
            result = xpnet.ops.softmax_cross_entropy(backend, backend.asarray(logits), backend.asarray(labels))
            gradients.append(backend.to_numpy(result.gradient))
    error = float(np.abs(gradients[0] - gradients[1]).max())
    return error < 1e-6, f"fused kernels compile; softmax cross-entropy differs from plain NumPy by {error:.0e}"


def _mnist() -> tuple[bool, str]:
    import xpnet

    try:
        xpnet.data.load("mnist", download=False)
    except xpnet.Error as error:
        return False, f"{error}"
    return True, "found"
