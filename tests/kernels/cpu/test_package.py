"""The package loads lazily, exports the functions of the contract, and its sub-packages import one way."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
import xpnet_kernels
from xpnet_kernels import cpu, cuda

README = Path(xpnet_kernels.__file__).parents[1] / "README.md"
CPU = Path(cpu.__file__).parent

# From the ground up; a module imports from its own sub-package and from the floors below. The kernels are on top.
FLOORS = [["numba_extensions"], ["checks", "threads"], ["elementwise", "gemm"], ["cross_entropy"]]
FLOOR_OF = {name: floor for floor, names in enumerate(FLOORS) for name in names}


def test_importing_does_not_import_numba():
    code = "import sys, xpnet_kernels.cpu; print(sorted({'numba', 'numpy', 'cupy'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.strip() == "[]"


def test_every_name_is_a_function_of_that_name():
    for name in cpu.__all__:
        importlib.import_module(f"xpnet_kernels.cpu._{name}")  # does not hide the function
        assert inspect.isfunction(getattr(cpu, name))
        assert getattr(cpu, name).__name__ == name
    assert dir(cpu) == cpu.__all__
    with pytest.raises(AttributeError, match="has no attribute 'relu'"):
        cpu.relu  # noqa: B018


@pytest.mark.skipif(not README.is_file(), reason="the contract lies beside the package in the sources only")
def test_the_contract_has_the_same_names():
    signatures = re.findall(r"^    ([a-z_]+)\(", README.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert sorted(signatures) == cuda.__all__


def test_one_kernel_is_on_cuda_alone():
    assert sorted({*cpu.__all__} ^ {*cuda.__all__}) == ["end_step"]


def test_there_is_a_file_for_each_kernel():
    assert sorted(path.stem for path in CPU.glob("_[a-z]*.py")) == [f"_{name}" for name in cpu.__all__]


def imports_of(path: Path) -> list[str]:
    """The names below xpnet_kernels.cpu of the modules that a file imports."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    assert not [node for node in nodes if isinstance(node, ast.ImportFrom) and node.level], "relative import"
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return [name.removeprefix("xpnet_kernels.cpu.") for name in names if name.startswith("xpnet_kernels.cpu.")]


@pytest.mark.parametrize("path", sorted(CPU.glob("*/*.py")), ids=lambda path: str(path.relative_to(CPU)))
def test_sub_packages_import_downwards(path):
    own = path.parent.name
    for name in imports_of(path):
        below = name.split(".")[0]
        assert below in FLOOR_OF, f"{path} imports {name}, which is a kernel or on no floor"
        assert below == own or FLOOR_OF[below] < FLOOR_OF[own], f"{path} imports {name} from a floor above its own"


def test_kernels_do_not_import_each_other_in_a_circle():
    kernels = {path.stem: path for path in CPU.glob("_[a-z]*.py")}
    waiting = {
        kernel: {name.split(".")[0] for name in imports_of(path)} & set(kernels) for kernel, path in kernels.items()
    }
    while waiting:
        free = {kernel for kernel, below in waiting.items() if not below & set(waiting)}
        assert free, f"these import each other in a circle: {sorted(waiting)}"
        waiting = {kernel: below for kernel, below in waiting.items() if kernel not in free}
