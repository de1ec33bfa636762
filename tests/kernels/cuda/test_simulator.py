"""The kernels' algorithms in Numba's CUDA simulator, in a process of its own: Numba reads the switch when imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from xpnet_kernels.cuda.numba_cuda import cuda

SIMULATOR = any((Path(folder) / "simulator").is_dir() for folder in cuda.__path__)


@pytest.mark.skipif(not SIMULATOR, reason="this numba has no CUDA simulator")
def test_kernels_in_the_simulator():
    cases = sorted((Path(__file__).parent / "simulator").glob("cases_*.py"))
    result = subprocess.run(
        # Kernels compute with infinities and NaN, which NumPy's scalars warn of and a GPU does not.
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore::RuntimeWarning", *cases],
        env=os.environ | {"NUMBA_ENABLE_CUDASIM": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
