"""The package costs nothing until a kernel is used, and names everything the contract names."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
import xpnet_kernels
from xpnet_kernels import cpu
from xpnet_kernels.cpu.compilation import InVector, OutVector, kernel

README = Path(xpnet_kernels.__file__).parents[1] / "README.md"


def test_importing_does_not_import_numba():
    code = "import sys, xpnet_kernels.cpu; print(sorted({'numba', 'numpy', 'cupy'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.strip() == "[]"


def test_every_name_is_a_function_of_that_name():
    for name in cpu.__all__:
        assert getattr(cpu, name).__name__ == name
    assert dir(cpu) == cpu.__all__
    with pytest.raises(AttributeError, match="has no attribute 'relu'"):
        cpu.relu  # noqa: B018


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


@pytest.mark.skipif(not README.is_file(), reason="the contract lies beside the package in the sources only")
def test_the_contract_has_the_same_names():
    signatures = re.findall(r"^    ([a-z_]+)\(", README.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert sorted(signatures) == cpu.__all__
