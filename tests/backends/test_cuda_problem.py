"""Why CUDA cannot be used, in one sentence with a remedy: CuPy's wheels, the device, the fused kernels."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import xpnet

PROBE = importlib.import_module("xpnet.backends.cuda_problem")  # the package gives the function that name


def raised(name: str, message: str, base: type[Exception] = RuntimeError) -> Exception:
    """An error as CuPy raises it; ``xpnet`` knows it by name only, for it cannot import CuPy's classes."""
    return type(name, (base,), {})(message)


def fake_cupy(driver=13000, runtime=13000, devices=1, kernel=None, product=((2.0, 2.0), (2.0, 2.0)), copied=None):
    """A module with as much of CuPy as the probe touches."""

    def gives(outcome):
        def call(*arguments):
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        return call

    runtime_calls = {"driverGetVersion": driver, "runtimeGetVersion": runtime, "getDeviceCount": devices}
    return SimpleNamespace(
        cuda=SimpleNamespace(runtime=SimpleNamespace(**{name: gives(out) for name, out in runtime_calls.items()})),
        arange=gives(np.arange(4) if kernel is None else kernel),
        ones=np.ones,
        matmul=gives(product if isinstance(product, Exception) else np.array(product)),
        asnumpy=lambda array: array if copied is None else copied,
    )


DEVICE_PROBLEMS = {
    "no driver": (fake_cupy(driver=0), "no NVIDIA driver was found", "install one, or use --device cpu"),
    "driver too old": (
        fake_cupy(driver=12040, runtime=13000),
        "the NVIDIA driver is too old: it supports CUDA 12, and this CuPy is built for CUDA 13",
        "update the driver, or install 'xpnet[cuda12]' instead",
    ),
    "driver too old, says CuPy": (
        fake_cupy(
            devices=raised("CUDARuntimeError", "cudaErrorInsufficientDriver: CUDA driver version is insufficient")
        ),
        "the NVIDIA driver is missing or too old",
        "update the driver",
    ),
    "no GPU": (fake_cupy(devices=0), "the driver shows no GPU", "CUDA_VISIBLE_DEVICES"),
    "no GPU, says CuPy": (
        fake_cupy(devices=raised("CUDARuntimeError", "cudaErrorNoDevice: no CUDA-capable device is detected")),
        "the driver shows no GPU",
        "CUDA_VISIBLE_DEVICES",
    ),
    "compiler missing": (
        fake_cupy(kernel=raised("RuntimeError", "CuPy failed to load libnvrtc.so.13: OSError: cannot open it")),
        "CuPy's kernel compiler is missing or does not work",
        "pip install 'cupy-cuda12x[ctk]'",
    ),
    "compiler without its headers": (
        fake_cupy(kernel=raised("CompileException", 'x.cu(1): catastrophic error: cannot open source file "x.h"')),
        "CuPy's kernel compiler is missing or does not work",
        "pip install 'cupy-cuda12x[ctk]'",
    ),
    "cuBLAS missing": (
        fake_cupy(
            product=raised("ImportError", 'Failure finding "libcublasLt.so.13 or libcublasLt.so.12": No such file')
        ),
        "cuBLAS, CUDA's matrix products, is missing or does not work",
        "pip install 'cupy-cuda12x[ctk]'",
    ),
    "cuBLAS without memory": (
        fake_cupy(product=raised("CUBLASError", "CUBLAS_STATUS_ALLOC_FAILED")),
        "the GPU's memory is full",
        "end other programs on it (nvidia-smi lists them)",
    ),
    "cuBLAS broken": (
        fake_cupy(product=raised("CUBLASError", "CUBLAS_STATUS_NOT_INITIALIZED")),
        "cuBLAS, CUDA's matrix products, is missing or does not work",
        "pip install 'cupy-cuda12x[ctk]'",
    ),
    "GPU without a kernel image": (
        fake_cupy(kernel=raised("CUDARuntimeError", "cudaErrorNoKernelImageForDevice: no kernel image is available")),
        "this GPU is not supported",
        "install the CuPy that fits it",
    ),
    "GPU without a binary": (
        fake_cupy(kernel=raised("CUDADriverError", "CUDA_ERROR_NO_BINARY_FOR_GPU: no kernel image is available")),
        "this GPU is not supported",
        "install the CuPy that fits it",
    ),
    "GPU that the compiler does not know": (
        fake_cupy(kernel=raised("CompileException", "nvrtc: error: invalid value for --gpu-architecture (-arch)\n")),
        "this GPU is not supported",
        "install the CuPy that fits it",
    ),
    "GPU full": (
        fake_cupy(kernel=raised("OutOfMemoryError", "Out of memory allocating 512 bytes", MemoryError)),
        "the GPU's memory is full",
        "end other programs on it (nvidia-smi lists them)",
    ),
    "GPU full, says the runtime": (
        fake_cupy(devices=raised("CUDARuntimeError", "cudaErrorMemoryAllocation: out of memory")),
        "the GPU's memory is full",
        "end other programs on it (nvidia-smi lists them)",
    ),
    "wrong numbers": (
        fake_cupy(copied=np.array([1, 3, 5, 8])),
        "a test kernel ran and gave wrong numbers",
        "the GPU or its driver is faulty",
    ),
    "wrong product": (
        fake_cupy(product=((2, 2), (2, 1))),
        "a test product ran and gave wrong numbers",
        "the GPU or its driver is faulty",
    ),
    "anything else": (
        fake_cupy(kernel=raised("Odd", "what\nis this?")),
        "a test kernel failed (Odd: what)",
        "show_config",
    ),
    "anything else, without a word": (
        fake_cupy(kernel=raised("Odd", "")),
        "a test kernel failed (Odd: no message)",
        "show_config",
    ),
}


class TestDeviceProblem:
    def test_a_device_that_works_has_no_problem(self) -> None:
        assert PROBE._device_problem(fake_cupy(), "cupy") is None
        assert PROBE._device_problem(fake_cupy(driver=13010, runtime=12090), "cupy") is None  # newer than needed
        assert (
            PROBE._device_problem(fake_cupy(driver=13000, runtime=13010), "cupy") is None
        )  # minor versions are compatible

    @pytest.mark.parametrize("case", DEVICE_PROBLEMS)
    def test_each_device_problem_comes_with_a_remedy_in_one_line(self, case) -> None:
        cupy, reason, cure = DEVICE_PROBLEMS[case]
        problem = PROBE._device_problem(cupy, "cupy-cuda12x")
        assert reason in problem
        assert cure in problem
        assert "\n" not in problem

    @pytest.mark.parametrize(
        ("devices", "number", "shown"), [(1, 1, "one GPU, cuda:0"), (4, 4, "4 GPUs, cuda:0 to cuda:3")]
    )
    def test_a_device_that_is_not_there_names_those_that_are(self, devices, number, shown) -> None:
        problem = PROBE._device_problem(fake_cupy(devices=devices), "cupy", number)
        assert problem == f"the driver shows {shown}: name one of them, or see nvidia-smi and CUDA_VISIBLE_DEVICES"

    def test_a_numbered_device_is_tried_itself(self) -> None:
        cupy, tried = fake_cupy(devices=2), []
        cupy.cuda.Device = lambda number: contextlib.nullcontext(tried.append(number))
        assert PROBE._device_problem(cupy, "cupy", 1) is None
        assert tried == [1]


class TestCudaProblem:
    @pytest.fixture
    def install(self, monkeypatch):
        """Make these distributions, and this module (None: there is none), the installed ones."""

        def install(distributions, module=None, found=True):
            find_spec = importlib.util.find_spec
            monkeypatch.setattr(
                "importlib.metadata.distributions",
                lambda: [SimpleNamespace(name=name) for name in ("numpy", None, *distributions)],
            )
            monkeypatch.setattr(
                "importlib.util.find_spec",
                lambda name, *rest: (
                    (SimpleNamespace(origin="cupy/__init__.py") if found else None)
                    if name == "cupy"
                    else find_spec(name, *rest)
                ),
            )
            monkeypatch.setitem(sys.modules, "cupy", module)
            monkeypatch.setattr(PROBE, "_kernel_problem", lambda cupy, package: None)

        return install

    def test_not_installed(self, install) -> None:
        install([], found=False)
        assert xpnet.cuda_problem().startswith("CuPy is not installed: pip install 'xpnet[cuda13]'")

    def test_two_wheels(self, install) -> None:
        install(["cupy-cuda12x", "cupy-cuda13x"])
        problem = xpnet.cuda_problem()
        assert "two CuPy packages are installed (cupy-cuda12x, cupy-cuda13x)" in problem
        assert "pip uninstall cupy-cuda12x cupy-cuda13x" in problem

    def test_one_wheel_found_twice_is_one(self, install) -> None:
        install(["cupy-cuda13x", "cupy-cuda13x"], fake_cupy())
        assert xpnet.cuda_problem() is None

    def test_a_package_that_depends_on_cupy_is_not_a_second_wheel(self, install) -> None:
        install(["cupy-cuda13x", "cupy-xarray"], fake_cupy())
        assert xpnet.cuda_problem() is None

    def test_installed_and_broken(self, install) -> None:
        install(["cupy-cuda13x"], None)
        problem = xpnet.cuda_problem()
        assert problem.startswith("CuPy is installed but cannot be imported (")
        assert problem.endswith("reinstall it")

    def test_the_remedy_names_the_installed_wheel(self, install) -> None:
        install(["cupy-cuda12x"], fake_cupy(kernel=raised("RuntimeError", "CuPy failed to load libnvrtc.so.12")))
        assert xpnet.cuda_problem().endswith("pip install 'cupy-cuda12x[ctk]'")

    def test_the_devices_own_problem_is_passed_on(self, install) -> None:
        install(["cupy-cuda13x"], fake_cupy(driver=0))
        assert "no NVIDIA driver was found" in xpnet.cuda_problem()

    def test_a_wheel_and_a_device_that_work_are_no_problem(self, install) -> None:
        install(["cupy-cuda13x"], fake_cupy())
        assert xpnet.cuda_problem() is None


class TestKernelProblem:
    """The fused kernels on a device that works otherwise; a stand-in for one of them, on NumPy."""

    @pytest.fixture
    def problem(self, monkeypatch):
        import xpnet_kernels.cuda

        cupy = SimpleNamespace(
            ones=np.ones, full=np.full, asnumpy=np.asarray,
            cuda=SimpleNamespace(get_current_stream=lambda: SimpleNamespace(ptr=3)),
        )  # fmt: skip

        def problem(kernel, installed=True, package="cupy-cuda13x"):
            monkeypatch.setitem(vars(xpnet_kernels.cuda), "sgd_update", kernel)
            monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if installed else None)
            return PROBE._kernel_problem(cupy, package)

        return problem

    @staticmethod
    def right(values, gradients, settings, *, stream) -> None:
        assert stream == 3
        values -= settings[0] * gradients

    def test_right_kernels_have_no_problem(self, problem) -> None:
        assert problem(self.right) is None

    def test_not_installed_is_none(self, problem) -> None:
        assert problem(None, installed=False) is None

    def test_wrong_numbers(self, problem) -> None:
        assert "gave wrong numbers" in problem(lambda *arguments, **keywords: None)

    @pytest.mark.parametrize(("package", "extra"), [("cupy-cuda12x", "cuda12"), ("cupy-cuda13x", "cuda13")])
    def test_the_remedy_fits_the_wheel(self, problem, package, extra) -> None:
        said = problem(self.failing(RuntimeError("libNVVM cannot be found")), package=package)
        assert said == (
            "a library of the fused kernels' compiler is missing (RuntimeError: libNVVM cannot be found): "
            f"pip install --force-reinstall 'xpnet[{extra}]'"
        )

    @staticmethod
    def failing(error):
        def kernel(*arguments, **keywords) -> None:
            raise error

        return kernel

    def test_a_kernel_that_does_not_compile_is_no_reason_to_reinstall(self, problem, monkeypatch) -> None:
        monkeypatch.setattr("importlib.metadata.version", {"numba-cuda": "0.30.4", "numpy": "2.5.5"}.get)
        said = problem(self.failing(AttributeError("module 'numpy' has no attribute 'row_stack'")))
        assert said.startswith(
            "a fused test kernel fails to compile or to run (AttributeError: module 'numpy' has no attribute "
            "'row_stack'; numba-cuda 0.30.4 and numpy 2.5.5): "
        )
        assert "reinstall" not in said
        assert "uninstall numba-cuda" in said

    def test_what_numba_could_not_type_is_said_rather_than_in_which_step(self, problem, monkeypatch) -> None:
        message = "Failed in cuda mode pipeline (step: nopython frontend)\nUntyped global name 'advance'\n\nFile x.py"
        monkeypatch.setattr("importlib.metadata.version", lambda name: "1.0")
        said = problem(self.failing(raised("TypingError", message)))
        assert "(TypingError: Untyped global name 'advance'; numba-cuda " in said

    def test_an_old_driver(self, problem) -> None:
        said = problem(
            self.failing(raised("CudaAPIError", "[222] CUDA_ERROR_UNSUPPORTED_PTX_VERSION in cuLinkAddData"))
        )
        assert said.startswith("the driver is older than the fused kernels' compiler (CudaAPIError: [222] ")
        assert said.endswith("update the driver")

    def test_a_missing_module(self, problem) -> None:
        said = problem(self.failing(ImportError("No module named 'cuda.core'")), package="cupy-cuda12x")
        assert said.startswith("a library of the fused kernels' compiler is missing (ImportError: ")
        assert said.endswith("pip install --force-reinstall 'xpnet[cuda12]'")


class TestLeftovers:
    """A folder ``cupy`` without a module in it, as uninstalling leaves it where it was written into."""

    def run(self, tmp_path, code) -> list[str]:
        if importlib.util.find_spec("cupy"):
            pytest.skip("CuPy is installed, and comes before a folder without modules")
        (tmp_path / "cupy" / "_core").mkdir(parents=True)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
        command = [sys.executable, "-c", f"import numpy, xpnet\n{code}"]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()

    def test_a_folder_left_by_an_uninstalled_cupy_is_named(self, tmp_path) -> None:
        said = self.run(tmp_path, "print(xpnet.cuda_problem(), xpnet.backend('auto').name, sep='\\n')")
        assert said == [f"{tmp_path / 'cupy'} is what an uninstalled CuPy left behind: delete that folder", "cpu"]

    def test_the_backend_that_auto_chose_works(self, tmp_path) -> None:
        assert self.run(tmp_path, "print(xpnet.backend('auto').asarray([1.0, 2.0]))") == ["[1. 2.]"]
