"""What `make gpu` gives to the programs that it starts, on a machine where nothing can be installed."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def environment(scratch: Path) -> dict[str, str]:
    """The user's, with this checkout and carried wheels to import from, MNIST if it was carried, and CUDA's libraries.

    ``scratch`` receives what the wheels contain, and Numba's cache: the compilation of the kernels is tried too.
    """
    wheels = Path(os.environ.get("WHEELS") or ROOT / "wheels")
    paths = [ROOT, ROOT / "kernels", ROOT / "bench", unpacked(wheels, scratch / "wheels")]
    values = dict(os.environ)
    values["PYTHONPATH"] = os.pathsep.join([*map(str, paths), *filter(None, [values.get("PYTHONPATH")])])
    values |= {"NUMBA_CACHE_DIR": str(scratch / "numba"), "XPNET_REQUIRE_CUDA": "1", "PYTHONUNBUFFERED": "1"}
    if (wheels / "mnist").is_dir():
        values.setdefault("XPNET_DATA_DIR", str(wheels.absolute()))
    return values | cuda_libraries(values)


def unpacked(wheels: Path, target: Path) -> Path:
    """Unpack the wheels of packages that are not installed: installed ones may belong together with others there."""
    for wheel in sorted(wheels.glob("*.whl")):
        try:
            importlib.metadata.version(wheel.name.partition("-")[0])
        except importlib.metadata.PackageNotFoundError:
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(target)
    return target


def cuda_libraries(values: dict[str, str]) -> dict[str, str]:
    """Where libNVVM is in the toolkit around ``nvcc``: where NVRTC comes from a wheel, it is looked for beside that."""
    compiler = shutil.which("nvcc", path=values.get("PATH"))
    named = values.get("CUDA_PATH") or values.get("CUDA_HOME")
    home = Path(named) if named else Path(compiler).resolve().parents[1] if compiler else None
    if home is None or not (home / "nvvm" / "lib64" / "libnvvm.so.4").exists():
        return {}
    folders = [*filter(None, [values.get("LD_LIBRARY_PATH")]), str(home / "nvvm" / "lib64")]
    return {"LD_LIBRARY_PATH": os.pathsep.join(folders)} | ({} if named else {"CUDA_HOME": str(home)})
