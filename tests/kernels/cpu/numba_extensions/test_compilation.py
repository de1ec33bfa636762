"""Compiling and caching: a kernel is compiled again exactly when a source of the package has changed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
import xpnet_kernels
from xpnet_kernels.cpu.numba_extensions.compilation import InVector, OutVector, kernel

SIGMOID_OF_ZERO = """
import numpy as np
from xpnet_kernels.cpu import bias_activation
y = np.zeros((1, 1))
bias_activation(y, np.zeros(1), "sigmoid", y)
print(y.item())
"""


def run(package: Path, cache: Path | None = None) -> tuple[float, set[tuple[Path, int]]]:
    """The sigmoid of 0 in a process of its own; the files of compiled code, and when they were written."""
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    environment |= {"PYTHONPATH": str(package)} | ({"NUMBA_CACHE_DIR": str(cache)} if cache else {})
    result = subprocess.run(
        [sys.executable, "-c", SIGMOID_OF_ZERO],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return float(result.stdout), {(path, path.stat().st_mtime_ns) for path in (cache or package).rglob("*.nbc")}


@pytest.mark.parametrize("cache", [None, "cache"], ids=["beside the sources", "in a folder of the user's"])
def test_a_change_in_another_file_is_compiled_and_nothing_else(tmp_path, cache):
    package, cache = tmp_path / "package", cache and tmp_path / cache
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(xpnet_kernels.__file__).parent, package / "xpnet_kernels", ignore=ignored)
    value, compiled = run(package, cache)
    assert value == 0.5
    assert len(compiled) == 1
    assert run(package, cache) == (0.5, compiled)

    source = package / "xpnet_kernels" / "cpu" / "elementwise" / "exponential.py"
    text, before = source.read_text(encoding="utf-8"), source.stat()
    changed = text.replace("return (q * r + _ONE_64) * power", "return (q * r + _ONE_64) + power")  # exp 0 is 2
    assert changed != text
    source.write_text(changed, encoding="utf-8")
    shutil.rmtree(source.parent / "__pycache__", ignore_errors=True)  # Python's own cache goes by the time stamp
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))  # only the contents tell
    value, recompiled = run(package, cache)
    assert value == pytest.approx(1 / 3)
    assert recompiled > compiled
    assert run(package, cache) == (value, recompiled)

    source.write_text(text, encoding="utf-8")
    shutil.rmtree(source.parent / "__pycache__", ignore_errors=True)
    assert run(package, cache) == (0.5, recompiled)


def test_without_a_folder_to_cache_in(monkeypatch):
    monkeypatch.setattr(numba.core.caching.CacheImpl, "_locator_classes", [])

    @kernel
    def twice(x: InVector, out: OutVector) -> None:
        for i in range(x.size):
            out[i] = 2 * x[i]

    out = np.empty(3)
    twice[out.dtype](np.arange(3.0), out)
    assert out.tolist() == [0, 2, 4]


def test_other_types_are_never_compiled():
    with pytest.raises(KeyError):
        kernel(lambda x: x)[np.dtype(np.float16)]
