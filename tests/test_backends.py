"""xpnet.backends: bringing arrays here, refusing foreign ones, choosing kernels, and telling why CUDA is unusable."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import subprocess
import sys
from types import SimpleNamespace

import array_api_strict
import numpy as np
import pytest

import xpnet
from xpnet.backends import ALIGNMENT, NAMES, _CudaKernels, _device_problem, _kernel_problem


class TestByName:
    @pytest.mark.parametrize("name", ["cpu", "cpu-reference", "float64"])
    def test_the_cpus(self, name) -> None:
        backend = xpnet.backend(name)
        assert (backend.name, backend.reads_are_free) == (name, True)
        assert backend.dtype == ("float64" if name == "float64" else "float32")
        assert (backend.kernels is not None) == (name == "cpu")

    def test_unknown(self) -> None:
        with pytest.raises(xpnet.ConfigurationError, match=f"unknown device 'gpu'.* are {', '.join(NAMES)}"):
            xpnet.backend("gpu")

    @pytest.mark.parametrize("text", ["0", "-1", "two", "1.5"])
    def test_a_number_of_threads_that_is_none(self, monkeypatch, text) -> None:
        monkeypatch.setenv("XPNET_NUM_THREADS", text)
        with pytest.raises(
            xpnet.ConfigurationError, match=f"XPNET_NUM_THREADS must be a whole number .*, not '{text}'"
        ):
            xpnet.backend("cpu")
        assert xpnet.backend("cpu-reference").kernels is None

    def test_cuda_where_it_is_unusable_is_an_error_with_the_reason(self, monkeypatch) -> None:
        monkeypatch.setattr("xpnet.backends.cuda_problem", lambda: "the reason: the cure")
        with pytest.raises(xpnet.BackendError, match="device 'cuda' cannot be used: the reason: the cure"):
            xpnet.backend("cuda")

    def test_auto_is_the_cpu_where_cuda_is_unusable(self, monkeypatch) -> None:
        monkeypatch.setattr("xpnet.backends.cuda_problem", lambda: "a reason")
        assert xpnet.backend("auto").name == xpnet.backend().name == "cpu"

    def test_cuda_lives_on_the_current_device_and_stream(self, monkeypatch) -> None:
        waited = []
        stream = SimpleNamespace(synchronize=lambda: waited.append("stream"), record=lambda: "event")
        cuda = SimpleNamespace(
            Device=lambda: "GPU 0", get_current_stream=lambda: stream, get_elapsed_time=lambda began, ended: 1500.0
        )
        pool = SimpleNamespace(total_bytes=lambda: 7)
        cupy = SimpleNamespace(cuda=cuda, asnumpy=np.asarray, get_default_memory_pool=lambda: pool)
        monkeypatch.setattr("xpnet.backends.cuda_problem", lambda: None)
        monkeypatch.setitem(sys.modules, "cupy", cupy)
        monkeypatch.setitem(sys.modules, "array_api_compat.cupy", SimpleNamespace())
        for name in ("auto", "cuda"):
            backend = xpnet.backend(name)
            assert (backend.name, backend.device, backend.reads_are_free) == ("cuda", "GPU 0", False)
        backend.synchronize()
        assert waited == ["stream"]
        assert (backend.mark(), backend.seconds_between("began", "ended"), backend.peak_memory()) == ("event", 1.5, 7)

    def test_equal_by_name(self) -> None:
        names = ["cpu", "cpu-reference", "float64"]
        assert [[xpnet.backend(a) == xpnet.backend(b) for a in names] for b in names] == np.eye(3, dtype=bool).tolist()
        assert len({xpnet.backend(name) for name in [*names, *names]}) == 3

    def test_it_is_frozen(self, cpu) -> None:
        with pytest.raises(dataclasses.FrozenInstanceError):
            cpu.name = "other"


class TestArrays:
    @pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int64", "float32", "float64"])
    def test_an_array_of_numbers_keeps_its_type_and_values(self, backend, dtype) -> None:
        host = np.array([[0, 1], [1, 0], [1, 1]], dtype)
        array = backend.asarray(host)
        backend.require(array)
        assert array.dtype == getattr(backend.xp, dtype)
        assert backend.to_numpy(array).dtype == host.dtype
        np.testing.assert_array_equal(backend.to_numpy(array), host)

    @pytest.mark.parametrize("value", [3, 2.5, True, [1, 2, 3], [[0.5], [1.5]], np.float32(0.5), np.arange(4)[::2]])
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_a_type_asked_for(self, backend, value, dtype) -> None:
        array = backend.asarray(value, dtype)
        assert array.dtype == getattr(backend.xp, dtype)
        np.testing.assert_array_equal(backend.to_numpy(array), np.asarray(value, dtype))
        again = backend.asarray(array, "float64")
        assert again.dtype == backend.xp.float64
        np.testing.assert_array_equal(backend.to_numpy(again), np.asarray(value, dtype))

    def test_an_array_that_is_here_stays_as_it_is(self, cpu, strict) -> None:
        for backend in (cpu, strict):
            array = backend.asarray([1.0, 2.0], "float32")
            assert backend.asarray(array) is array
            assert backend.asarray(array, "float32") is array

    def test_another_shape_of_the_same_memory(self, backend) -> None:
        array = backend.aligned_zeros(6, "float64")
        backend.reshape(array, (2, 3))[1, 0] = 7.0
        assert backend.to_numpy(array).tolist() == [0, 0, 0, 7, 0, 0]

    def test_fortran_order_and_other_byte_orders(self, backend) -> None:
        fortran = np.asfortranarray(np.arange(6.0).reshape(2, 3))
        np.testing.assert_array_equal(backend.to_numpy(backend.asarray(fortran)), fortran)
        for dtype in (">f4", ">i2", "<u4"):
            array = backend.to_numpy(backend.asarray(np.array([1, 2, 300]).astype(dtype)))
            assert array.dtype.isnative
            assert array.tolist() == [1, 2, 300]

    @pytest.mark.parametrize("value", [np.array(["a"]), np.array([None]), np.array([1j]), None, "text"], ids=repr)
    def test_what_is_no_number(self, backend, value) -> None:
        with pytest.raises(xpnet.DTypeError, match="expected numbers, got an array of"):
            backend.asarray(value)

    def test_to_numpy_shares_memory_on_the_cpu(self, cpu) -> None:
        array = cpu.asarray([1.0, 2.0])
        assert np.shares_memory(cpu.to_numpy(array), array)

    def test_ownership(self, backend, strict) -> None:
        own = backend.asarray([1.0])
        assert backend.owns(own)
        backend.require(own)
        backend.synchronize()
        host = array_api_strict.asarray([1.0])  # on the other device of the same library
        for foreign in (host, [1.0], 1.0, None):
            assert not backend.owns(foreign)

    def test_a_foreign_array_names_both_sides_and_the_mending_call(self, cpu, strict) -> None:
        mend = r"copy it to the host with its own backend's to_numpy, then call model\.backend\.asarray"
        there = strict.asarray([1.0])
        for refuse in (cpu.require, cpu.asarray):
            with pytest.raises(
                xpnet.BackendError, match=rf"got a array_api_strict\.Array on .*device1.* backend 'cpu': {mend}"
            ):
                refuse(there)
        for refuse in (strict.require, strict.asarray):
            with pytest.raises(xpnet.BackendError, match=rf"array_api_strict\.Array on .*CPU_DEVICE.*'strict': {mend}"):
                refuse(array_api_strict.asarray([1.0]))

    @pytest.mark.parametrize(("value", "name"), [(np.zeros(2), "numpy.ndarray on cpu"), ([1.0], "builtins.list")])
    def test_a_host_array_is_mended_by_asarray(self, strict, value, name) -> None:
        message = f"got a {name}, but this model lives on backend 'strict': call model.backend.asarray"
        with pytest.raises(xpnet.BackendError, match=message):
            strict.require(value)
        strict.require(strict.asarray(value))


class TestMemory:
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("count", [0, 1, 7, 1000])
    def test_aligned_zeros(self, backend, count, dtype) -> None:
        array = backend.aligned_zeros(count, dtype)
        backend.require(array)
        assert (tuple(array.shape), array.dtype) == ((count,), getattr(backend.xp, dtype))
        assert not backend.to_numpy(array).any()
        array[...] = 3.0
        assert backend.to_numpy(array).sum() == 3.0 * count

    def test_their_address(self, cpu) -> None:
        arrays = [cpu.aligned_zeros(count, "float32") for count in range(1, 40)]
        assert {array.ctypes.data % ALIGNMENT for array in arrays} == {0}
        assert all(array.flags.c_contiguous and array.flags.writeable for array in arrays)

    @pytest.mark.parametrize("name", ["cpu", "cpu-reference", "float64"])
    def test_ignoring_overflow(self, name) -> None:
        with xpnet.backend(name).ignoring_overflow():  # a warning would be an error here
            huge = np.array([1e308]) * 10.0
            assert np.isnan(huge - huge)


class TestKernels:
    @pytest.fixture
    def fused(self, cpu):
        return dataclasses.replace(cpu, kernels=SimpleNamespace(square=np.square))

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_served(self, fused, dtype) -> None:
        array = np.ones((3, 4), dtype)
        assert fused.kernel("square", array) is np.square
        assert fused.kernel("square", array, array[1], array[1:]) is np.square
        array.flags.writeable = False
        assert fused.kernel("square", array) is np.square

    @pytest.mark.parametrize(
        "array", [np.ones(3, np.float16), np.ones(3, int), np.ones((3, 4)).T, np.ones(4)[::2], np.ones(3, ">f4")]
    )
    def test_not_served(self, fused, array) -> None:
        assert fused.kernel("square", np.ones(3), array) is None

    def test_there_is_none_of_that_name(self, fused, cpu) -> None:
        assert fused.kernel("cube", np.ones(3)) is None
        assert cpu.kernel("no such kernel", np.ones(3)) is None

    def test_a_backend_without_any(self, strict, reference) -> None:
        for backend in (strict, reference):
            assert backend.kernel("softmax_cross_entropy", backend.asarray([[1.0]])) is None

    def test_the_cpu_has_them(self, cpu) -> None:
        for name in ("softmax_cross_entropy", "take_rows", "sgd_update", "momentum_update", "adam_update"):
            assert callable(cpu.kernel(name, np.ones((1, 1), np.float32)))

    def test_on_cuda_each_is_launched_on_the_current_stream(self, monkeypatch) -> None:
        import xpnet_kernels.cuda

        launches, stream = [], SimpleNamespace(ptr=41)
        cupy = SimpleNamespace(cuda=SimpleNamespace(get_current_stream=lambda: stream))
        kernels = _CudaKernels(cupy)
        monkeypatch.setattr(
            xpnet_kernels.cuda, "sgd_update", lambda *args, **keywords: launches.append((args, keywords)), raising=False
        )
        kernels.sgd_update("values", finite=None)
        stream.ptr = 42
        kernels.sgd_update("values")
        assert launches == [(("values",), {"stream": 41, "finite": None}), (("values",), {"stream": 42})]
        assert getattr(kernels, "no_such_kernel", None) is None


class TestRange:
    def test_inside(self, backend) -> None:
        backend.require_in_range(backend.asarray([0, 9, 5]), 10, "label")
        backend.require_in_range(backend.asarray(np.zeros(0, np.int64)), 10, "label")

    def test_the_first_offender_is_named_where_reads_are_free(self, backend) -> None:
        indices = backend.asarray(np.array([3, 10, 255], np.uint8))
        if not backend.reads_are_free:
            backend.require_in_range(indices, 10, "label")  # would wait for the device: says nothing
            return
        with pytest.raises(xpnet.errors.OutOfRangeError, match="label 10 at row 1 is outside 0 to 9"):
            backend.require_in_range(indices, 10, "label")
        with pytest.raises(IndexError, match="row index -1 at row 0 is outside 0 to 299"):
            backend.require_in_range(backend.asarray([-1, 300]), 300, "row index")
        backend.require_in_range(indices, 300, "label")  # more classes than a byte counts


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
    def test_none(self) -> None:
        assert _device_problem(fake_cupy(), "cupy") is None
        assert _device_problem(fake_cupy(driver=13010, runtime=12090), "cupy") is None  # newer than needed
        assert _device_problem(fake_cupy(driver=13000, runtime=13010), "cupy") is None  # minor versions are compatible

    @pytest.mark.parametrize("case", DEVICE_PROBLEMS)
    def test_each_comes_with_its_cure_in_one_line(self, case) -> None:
        cupy, reason, cure = DEVICE_PROBLEMS[case]
        problem = _device_problem(cupy, "cupy-cuda12x")
        assert reason in problem
        assert cure in problem
        assert "\n" not in problem


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
            monkeypatch.setattr("xpnet.backends._kernel_problem", lambda cupy, package: None)

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

    def test_a_package_built_upon_cupy_is_no_second_wheel(self, install) -> None:
        install(["cupy-cuda13x", "cupy-xarray"], fake_cupy())
        assert xpnet.cuda_problem() is None

    def test_installed_and_broken(self, install) -> None:
        install(["cupy-cuda13x"], None)
        problem = xpnet.cuda_problem()
        assert problem.startswith("CuPy is installed but cannot be imported (")
        assert problem.endswith("reinstall it")

    def test_the_cure_names_the_wheel_that_is_installed(self, install) -> None:
        install(["cupy-cuda12x"], fake_cupy(kernel=raised("RuntimeError", "CuPy failed to load libnvrtc.so.12")))
        assert xpnet.cuda_problem().endswith("pip install 'cupy-cuda12x[ctk]'")

    def test_the_devices_own_problem_is_passed_on(self, install) -> None:
        install(["cupy-cuda13x"], fake_cupy(driver=0))
        assert "no NVIDIA driver was found" in xpnet.cuda_problem()

    def test_none(self, install) -> None:
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
            monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if installed else None)
            monkeypatch.setattr(xpnet_kernels.cuda, "sgd_update", kernel, raising=False)
            return _kernel_problem(cupy, package)

        return problem

    @staticmethod
    def right(values, gradients, settings, *, stream) -> None:
        assert stream == 3
        values -= settings[0] * gradients

    def test_none(self, problem) -> None:
        assert problem(self.right) is None

    def test_not_installed_is_none(self, problem) -> None:
        assert problem(None, installed=False) is None

    def test_wrong_numbers(self, problem) -> None:
        assert "gave wrong numbers" in problem(lambda *arguments, **keywords: None)

    @pytest.mark.parametrize(("package", "extra"), [("cupy-cuda12x", "cuda12"), ("cupy-cuda13x", "cuda13")])
    def test_the_cure_fits_the_wheel(self, problem, package, extra) -> None:
        def broken(*arguments, **keywords) -> None:
            raise RuntimeError("libNVVM cannot be found")

        said = problem(broken, package=package)
        assert said.startswith("the fused kernels do not run (RuntimeError: libNVVM cannot be found): ")
        assert f"'xpnet[{extra}]'" in said


class TestLeftovers:
    """A folder ``cupy`` without a module in it, as uninstalling leaves it where it was written into."""

    def run(self, tmp_path, code) -> list[str]:
        if importlib.util.find_spec("cupy"):
            pytest.skip("CuPy is installed, and comes before a folder without modules")
        (tmp_path / "cupy" / "_core").mkdir(parents=True)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
        command = [sys.executable, "-c", f"import numpy, xpnet\n{code}"]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()

    def test_it_is_a_reason(self, tmp_path) -> None:
        said = self.run(tmp_path, "print(xpnet.cuda_problem(), xpnet.backend('auto').name, sep='\\n')")
        assert said == [f"{tmp_path / 'cupy'} is what an uninstalled CuPy left behind: delete that folder", "cpu"]

    def test_the_backend_that_auto_chose_works(self, tmp_path) -> None:
        assert self.run(tmp_path, "print(xpnet.backend('auto').asarray([1.0, 2.0]))") == ["[1. 2.]"]
