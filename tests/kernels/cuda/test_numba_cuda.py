"""A kernel compiles with whatever NumPy is installed, where every warning is an error, and NumPy stays as it was."""

from __future__ import annotations

import ast
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import xpnet_kernels.cuda

SOURCES = sorted(Path(xpnet_kernels.cuda.__file__).parent.glob("*.py"))
MISSING = importlib.util.find_spec("numba_cuda") is None and "XPNET_REQUIRE_CUDA_COMPILE" not in os.environ

COMPILE = """
import numpy as np
if {old_numpy}:
    np.row_stack = np.vstack
else:
    vars(np).pop("row_stack", None)
from xpnet_kernels.cuda.numba_cuda import cuda
assert hasattr(np, "row_stack") == {old_numpy}
from numba import types

def add_one(values):
    values[0] += 1

ptx, _ = cuda.compile_ptx(add_one, types.void(types.CPointer(types.float32)), cc=(9, 0))
assert "add.f32" in ptx or "add.rn.f32" in ptx, ptx
"""


@pytest.mark.cuda_compile
@pytest.mark.skipif(MISSING, reason="needs the extra cuda-compile (numba-cuda and its compiler)")
@pytest.mark.parametrize("old_numpy", [False, True], ids=["without row_stack", "with row_stack"])
def test_a_kernel_compiles_in_a_process_of_its_own_without_a_warning(old_numpy):
    code = COMPILE.format(old_numpy=old_numpy)
    run = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_one_module_imports_numba_cuda_for_all():
    importers = {
        path.name
        for path in SOURCES
        for node in ast.parse(path.read_text()).body
        if (isinstance(node, ast.ImportFrom) and node.level == 0 and node.module == "numba"
            and any(name.name == "cuda" for name in node.names))
        or (isinstance(node, ast.ImportFrom) and (node.module or "").startswith("numba.cuda"))
        or (isinstance(node, ast.Import) and any(name.name.startswith("numba.cuda") for name in node.names))
    }  # fmt: skip
    assert not importers
