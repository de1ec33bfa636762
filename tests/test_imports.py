"""Data flows one way: each module imports only from the floors below its own."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# From the ground up; modules on one floor may import each other where that makes no circle.
FLOORS = [
    ["errors", "random", "initializers", "_version"],
    ["backends"],
    ["context"],
    ["ops"],
    ["atomic", "parameters", "layers", "losses", "metrics", "optimizers", "schedules", "data"],
    ["format_1"],
    ["checkpoint", "book_pickle"],
    ["registry"],
    ["configuration"],
    ["training", "interoperation"],
    ["gradient_check", "parity", "profile"],
    ["cli"],
    ["__main__"],
]
FLOOR_OF = {module: floor for floor, modules in enumerate(FLOORS) for module in modules}
LAZY_ONLY = {"numba", "cupy", "safetensors", "pooch", "requests", "tqdm", "tomli_w", "tensorboard", "matplotlib"}
LAZY_ONLY |= {"onnx", "h5py"}


def modules_of(package: Path) -> list[Path]:
    return sorted(path for path in package.rglob("*.py"))


def imports_of(path: Path) -> list[tuple[str, bool]]:
    """(dotted name, whether it is imported when the module is) for every import in a file."""
    tree = ast.parse(path.read_text())
    at_top = {id(node) for node in tree.body}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) in at_top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = (
                [f"{node.module}.{alias.name}" for alias in node.names]
                if node.module == "xpnet"
                else [node.module or "."]
            )
            found += [(name, id(node) in at_top) for name in names]
    return found


XPNET = [path for path in modules_of(ROOT / "xpnet") if path != ROOT / "xpnet" / "__init__.py"]


@pytest.mark.parametrize("path", XPNET, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_downwards(path: Path) -> None:
    own = path.relative_to(ROOT / "xpnet").parts[0].removesuffix(".py")
    assert own in FLOOR_OF, f"{own} has no floor: give it one in this test"
    for name, at_top in imports_of(path):
        parts = name.split(".")
        if parts[0] == "xpnet" and len(parts) > 1 and parts[1] in FLOOR_OF:
            assert FLOOR_OF[parts[1]] <= FLOOR_OF[own], f"{path} imports {name} from a floor above its own"
        if parts[0] in LAZY_ONLY:
            assert not at_top, f"{path} imports {name} when it is imported itself; do it inside the function"
        assert parts[0] != "numba", f"{path} imports numba: compiled code belongs to kernels/"
        if parts[0] == "cupy" or name == "array_api_compat.cupy":
            assert own == "backends", f"{path} imports cupy: only backends/ knows devices"


@pytest.mark.parametrize("path", modules_of(ROOT / "tests"), ids=lambda path: str(path.relative_to(ROOT)))
def test_tests_are_collected_where_a_package_of_few_tests_is_missing(path: Path) -> None:
    """As on a machine with a GPU where nothing can be installed."""
    at_top = {name for name, at_top in imports_of(path) if at_top}
    assert not at_top & {"array_api_strict", "pooch", "tomli_w"}, "import them in the tests that use them"


def test_floors_have_no_circles() -> None:
    above: dict[str, set[str]] = {}
    for path in XPNET:
        own = path.relative_to(ROOT / "xpnet").parts[0].removesuffix(".py")
        below = {name.split(".")[1] for name, at_top in imports_of(path) if name.startswith("xpnet.") and at_top}
        above.setdefault(own, set()).update(below & FLOOR_OF.keys() - {own})
    settled: set[str] = set()
    while above:
        free = {module for module, below in above.items() if below <= settled}
        assert free, f"these import each other in a circle: {sorted(above)}"
        settled |= free
        above = {module: below for module, below in above.items() if module not in free}


@pytest.mark.parametrize("path", modules_of(ROOT / "kernels"), ids=lambda path: str(path.relative_to(ROOT)))
def test_kernels_know_nothing_of_xpnet(path: Path) -> None:
    assert not [name for name, _ in imports_of(path) if name.split(".")[0] == "xpnet"]


def test_a_function_is_not_hidden_by_its_module() -> None:
    """``xpnet.ops.dropout`` is the function, though the file beside it has that name too."""
    import importlib

    for package in (
        "xpnet",
        "xpnet.backends",
        "xpnet.ops",
        "xpnet.layers",
        "xpnet.data",
        "xpnet.training",
        "xpnet.interoperation",
    ):
        module = importlib.import_module(package)
        folder = Path(str(module.__file__)).parent
        files = {path.stem for path in folder.glob("*.py")} | {path.name for path in folder.iterdir() if path.is_dir()}
        shadowed = {
            name for name in files & set(module.__all__) if package != "xpnet" and not callable(getattr(module, name))
        }
        assert not shadowed, f"{package}: {shadowed}"


def test_importing_xpnet_imports_nothing_heavy() -> None:
    code = "import sys, xpnet; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not LAZY_ONLY & set(output.split())


def test_every_public_name_loads() -> None:
    import xpnet

    for name in xpnet.__all__:
        assert getattr(xpnet, name) is not None


def test_editors_see_the_names_that_python_loads() -> None:
    import xpnet

    tree = ast.parse((ROOT / "xpnet" / "__init__.py").read_text())
    imports = next(node for node in tree.body if isinstance(node, ast.If)).body  # under TYPE_CHECKING
    seen = {(node.module, alias.name, alias.asname) for node in imports for alias in node.names}
    modules = {("xpnet", module, module) for module in xpnet._SUBMODULES}
    assert seen == modules | {(f"xpnet.{home}", name, name) for name, home in xpnet._MODULE_OF.items()}


def test_completion_offers_public_names_alone() -> None:
    code = "import xpnet; print(*(name for name in {*dir(xpnet), *vars(xpnet)} if name[0] != '_'))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    import xpnet

    assert set(output.split()) == set(xpnet.__all__) - {"__version__"}
    assert dir(xpnet) == sorted(xpnet.__all__)
