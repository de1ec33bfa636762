"""Why CUDA cannot be used here."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from xpnet.backends.memory import first_line, is_memory_full


def cuda_problem(number: int | None = None) -> str | None:
    """Why CUDA cannot be used here and what to do, in one sentence; None if a test kernel ran.

    Args:
        number: of the GPU, as in "cuda:1"; None: the current one.

    >>> from xpnet.backends import backend
    >>> backend("auto").name == ("cuda" if cuda_problem() is None else "cpu")
    True
    """
    specification = importlib.util.find_spec("cupy")
    if specification is None:
        return "CuPy is not installed: pip install 'xpnet[cuda13]' (or 'xpnet[cuda12]' for a CUDA 12 driver)"
    if specification.origin is None:  # a folder without a package; importing it would succeed
        folder = next(iter(specification.submodule_search_locations or ["cupy"]))
        return f"{folder} is what an uninstalled CuPy left behind: delete that folder"
    names = (distribution.name or "" for distribution in importlib.metadata.distributions())
    wheels = sorted({name for name in names if re.fullmatch(r"cupy(-cuda\d+x|-rocm-.+)?", name.lower())})
    if len(wheels) > 1:
        return (
            f"two CuPy packages are installed ({', '.join(wheels)}) and overwrite each other: "
            f"uninstall both with 'pip uninstall {' '.join(wheels)}', then install one"
        )
    try:
        import cupy
    except Exception as error:  # a broken installation fails in many ways
        return f"CuPy is installed but cannot be imported ({first_line(error)}): reinstall it"
    package = wheels[0] if wheels else "cupy"
    if problem := _device_problem(cupy, package, number):
        return problem
    with _current(cupy, number):
        return _kernel_problem(cupy, package)


def _current(cupy: Any, number: int | None) -> AbstractContextManager[Any]:
    """A context in which the device of that number is the current one."""
    return nullcontext() if number is None else cupy.cuda.Device(number)


def _kernel_problem(cupy: Any, package: str) -> str | None:
    """Why the fused kernels do not run on a device that works otherwise; None if they are not installed."""
    if importlib.util.find_spec("numba_cuda") is None:
        return None
    extra = "xpnet[cuda12]" if package == "cupy-cuda12x" else "xpnet[cuda13]"
    try:
        from xpnet_kernels.cuda import sgd_update

        values = cupy.ones(4)
        sgd_update(values, cupy.ones(4), cupy.full(1, 0.5), stream=cupy.cuda.get_current_stream().ptr)
        if cupy.asnumpy(values).tolist() != [0.5] * 4:
            return "a fused test kernel ran and gave wrong numbers: the GPU or its driver is faulty"
    except Exception as error:
        return _explain(error, package) if is_memory_full(error) else _explain_kernel(error, extra)
    return None


def _explain_kernel(error: Exception, extra: str) -> str:
    lines = str(error).strip().splitlines()
    if len(lines) > 1 and lines[0].startswith("Failed in "):  # Numba's step of the compilation; what failed follows
        lines.pop(0)
    text = f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
    lowered = text.lower().replace("_", "")
    libraries = ("libnvvm", "libdevice", "libnvrtc", "libnvjitlink", "dynamiclibnotfound")
    if isinstance(error, ImportError | OSError) or any(name in lowered for name in libraries):
        return f"a library of the fused kernels' compiler is missing ({text}): pip install --force-reinstall '{extra}'"
    if "unsupportedptx" in lowered or "insufficientdriver" in lowered:
        return f"the driver is older than the fused kernels' compiler ({text}): update the driver"
    versions = " and ".join(f"{name} {importlib.metadata.version(name)}" for name in ("numba-cuda", "numpy"))
    return (
        f"a fused test kernel fails to compile or to run ({text}; {versions}): install releases that fit each other, "
        "or pip uninstall numba-cuda to train without the fused kernels"
    )


def _device_problem(cupy: Any, package: str, number: int | None = None) -> str | None:
    runtime = cupy.cuda.runtime
    try:
        driver = runtime.driverGetVersion()
        if driver == 0:
            return "no NVIDIA driver was found: install one, or use --device cpu"
        built_for = runtime.runtimeGetVersion()
        if driver // 1000 < built_for // 1000:
            return (
                f"the NVIDIA driver is too old: it supports CUDA {driver // 1000}, and this CuPy is built for CUDA "
                f"{built_for // 1000}: update the driver, or install 'xpnet[cuda{driver // 1000}]' instead"
            )
        gpus = runtime.getDeviceCount()
        if gpus == 0:
            return "the driver shows no GPU: see nvidia-smi and CUDA_VISIBLE_DEVICES"
        if number is not None and number >= gpus:
            shown = "one GPU, cuda:0" if gpus == 1 else f"{gpus} GPUs, cuda:0 to cuda:{gpus - 1}"
            return f"the driver shows {shown}: name one of them, or see nvidia-smi and CUDA_VISIBLE_DEVICES"
        with _current(cupy, number):
            values = cupy.arange(4) * 2 + 1  # the first kernel: needs the compiler, the GPU and some memory
            if cupy.asnumpy(values).tolist() != [1, 3, 5, 7]:
                return "a test kernel ran and gave wrong numbers: the GPU or its driver is faulty"
            ones = cupy.ones((2, 2))
            if cupy.asnumpy(cupy.matmul(ones, ones)).tolist() != [[2, 2], [2, 2]]:  # the first product: needs cuBLAS
                return "a test product ran and gave wrong numbers: the GPU or its driver is faulty"
    except Exception as error:  # whatever CuPy raises is the reason
        return _explain(error, package)
    return None


def _explain(error: Exception, package: str) -> str:
    text = f"{type(error).__name__}: {first_line(error)}"
    lowered = text.lower()
    if is_memory_full(error):
        return f"the GPU's memory is full ({text}): end other programs on it (nvidia-smi lists them)"
    if any(word in lowered for word in ("nokernelimage", "no_binary", "invalidptx", "unsupported", "gpu-architecture")):
        return f"this GPU is not supported by the installed CuPy ({text}): install the CuPy that fits it"
    if "cublas" in lowered:
        first = "" if isinstance(error, ImportError) else "if the GPU's memory is full end other programs on it, else "
        return (
            f"cuBLAS, CUDA's matrix products, is missing or does not work ({text}): {first}pip install '{package}[ctk]'"
        )
    if "nvrtc" in lowered or "cannot open source file" in lowered or "compileexception" in lowered:
        return f"CuPy's kernel compiler is missing or does not work ({text}): pip install '{package}[ctk]'"
    if "nodevice" in lowered:
        return f"the driver shows no GPU ({text}): see nvidia-smi and CUDA_VISIBLE_DEVICES"
    if "insufficientdriver" in lowered:
        return f"the NVIDIA driver is missing or too old for this CuPy ({text}): update the driver"
    return f"a test kernel failed ({text}): 'python -c \"import cupy; cupy.show_config()\"' shows details"
