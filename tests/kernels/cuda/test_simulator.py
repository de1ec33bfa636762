"""The kernels' algorithms in Numba's CUDA simulator, in a process of its own: numba reads the switch when imported."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).parent / "simulator"

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("numba.cuda.simulator") is None, reason="this numba has no CUDA simulator"
)


@pytest.mark.parametrize("cases", sorted(path.name for path in CASES.glob("cases_*.py")))
def test_simulator_agrees_with_the_equations(cases):
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore::RuntimeWarning", CASES / cases],
        env=os.environ | {"NUMBA_ENABLE_CUDASIM": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
