"""How cuBLASLt is called: by a stand-in for it, and, where nvmath-python is installed, by its real binding."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from tests.kernels.cuda import cublaslt_stand_in as stand_in
from tests.kernels.cuda.cublaslt_stand_in import BGRADA, BIAS, DEFAULT, rounded, widened

MISSING = importlib.util.find_spec("numba_cuda") is None and "XPNET_REQUIRE_CUDA_COMPILE" not in os.environ

pytestmark = pytest.mark.skipif(MISSING, reason="needs numba-cuda")

DTYPES = [np.float32, np.float64, np.float16, np.uint16]
STREAM = 5


def forget():
    """Drop what is kept from one call to the next."""
    from xpnet_kernels.cuda import cublaslt, prepared

    for function in (prepared._kept, cublaslt.plan, cublaslt._handle, cublaslt._workspace):
        function.cache_clear()


@pytest.fixture
def library(monkeypatch):
    from xpnet_kernels.cuda import cublaslt

    forget()
    library = stand_in.Library()
    bindings = ModuleType("nvmath.bindings")
    bindings.cublasLt = library
    monkeypatch.setitem(sys.modules, "nvmath", ModuleType("nvmath"))
    monkeypatch.setitem(sys.modules, "nvmath.bindings", bindings)
    monkeypatch.setattr(cublaslt, "available", lambda: True)
    blocks = []

    def allocate(size):
        blocks.append(ctypes.create_string_buffer(size + 256))
        address = ctypes.addressof(blocks[-1])
        return 0, address + -address % 256

    monkeypatch.setattr("cuda.bindings.driver.cuMemAlloc", allocate)
    monkeypatch.setattr("cuda.bindings.driver.cuCtxGetDevice", lambda: (0, 0))
    yield library
    forget()
    assert not library.objects  # everything that was made has been destroyed


@pytest.fixture
def launches(monkeypatch):
    """The kernels that would be launched besides."""
    from xpnet_kernels.cuda import launch

    names = []
    monkeypatch.setattr(
        launch,
        "compiled",
        lambda kernel, signature: SimpleNamespace(launch=lambda *_: names.append(kernel.__name__)),
    )
    return names


class Host:
    """A NumPy array that says it is on a GPU."""

    def __init__(self, array):
        self.__cuda_array_interface__ = dict(array.__array_interface__, version=3)


def whole_numbers(random, shape, dtype, apart=0):
    """Small ones; rows are ``apart`` elements further from each other than they need be."""
    *rows, columns = shape
    return rounded(random.integers(-4, 5, (*rows, columns + apart)), np.dtype(dtype))[..., :columns]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("flip_a", [False, True])
@pytest.mark.parametrize("flip_b", [False, True])
@pytest.mark.parametrize("add", [False, True])
@pytest.mark.parametrize("apart", [0, 3])
def test_products(library, dtype, flip_a, flip_b, add, apart):
    from xpnet_kernels.cuda.arrays import REALS, array, memory
    from xpnet_kernels.cuda.matrix_products import product
    from xpnet_kernels.cuda.prepared import queue

    random = np.random.default_rng(0)
    a = whole_numbers(random, (5, 4) if flip_a else (4, 5), dtype, apart)
    b = whole_numbers(random, (6, 5) if flip_b else (5, 6), dtype, apart)
    out = whole_numbers(random, (4, 6), dtype, apart)
    left, right = widened(a), widened(b)
    expected = (left.T if flip_a else left) @ (right.T if flip_b else right) + (widened(out) if add else 0)
    matrices = [array(name, memory(Host(value)), REALS) for name, value in (("a", a), ("b", b), ("out", out))]
    queue(product(*matrices, flip_a=flip_a, flip_b=flip_b, add=add), STREAM)
    assert (widened(out) == expected).all()
    assert [made[:2] for made in library.products] == [(DEFAULT, STREAM)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("apart", [0, 3])
def test_linear_is_one_kernel(library, launches, dtype, apart):
    from xpnet_kernels.cuda import linear

    random = np.random.default_rng(1)
    x, W = whole_numbers(random, (7, 5), dtype, apart), whole_numbers(random, (5, 3), dtype, apart)
    b, out = whole_numbers(random, (3,), dtype), whole_numbers(random, (7, 3), dtype, apart)
    linear(Host(x), Host(W), Host(b), None, Host(out), stream=STREAM)
    assert (widened(out) == widened(x) @ widened(W) + widened(b)).all()
    assert [made[:2] for made in library.products] == [(BIAS, STREAM)]
    assert not launches


def test_relu_is_left_to_a_kernel_that_keeps_nan(library, launches):
    from xpnet_kernels.cuda import linear

    x, W, b, out = (np.full(shape, np.nan, np.float32) for shape in ((7, 5), (5, 3), (3,), (7, 3)))
    out[...] = 9
    linear(Host(x), Host(W), Host(b), "relu", Host(out), stream=STREAM)
    assert np.isnan(out).all()
    assert launches == ["forward"]


@pytest.mark.parametrize(
    ("dtype", "sums"), [(np.float32, np.float32), (np.float64, np.float64), (np.uint16, np.float32)]
)
def test_linear_backward_sums_the_bias_with_the_weights(library, launches, dtype, sums):
    from xpnet_kernels.cuda import linear_backward

    random = np.random.default_rng(2)
    dy, x, W = (whole_numbers(random, shape, dtype) for shape in ((7, 3), (7, 5), (5, 3)))
    dW, db, dx = np.full((5, 3), 9, sums), np.full(3, 9, sums), rounded(np.full((7, 5), 9), np.dtype(dtype))
    linear_backward(Host(dy), Host(x), None, Host(W), None, Host(dW), Host(db), None, Host(dx), stream=STREAM)
    assert (dW == widened(x).T @ widened(dy)).all()
    assert (db == widened(dy).sum(axis=0)).all()
    assert (widened(dx) == widened(dy) @ widened(W).T).all()
    assert [made[:2] for made in library.products] == [(BGRADA, STREAM), (DEFAULT, STREAM)]
    assert not launches


def test_what_an_epilogue_cannot_do_is_done_by_kernels(library, launches):
    """Other activations, a bias of another type, batches of one row, and epilogues that the library lacks."""
    from xpnet_kernels.cuda import linear, linear_backward

    random = np.random.default_rng(3)
    dy, x, W, b = (whole_numbers(random, shape, np.float32) for shape in ((7, 3), (7, 5), (5, 3), (3,)))
    dW, dz, out = np.zeros((5, 3), np.float32), np.zeros((7, 3), np.float32), np.zeros((7, 3), np.float32)
    on_gpu = [Host(array) for array in (dy, x, W, b, dW, dz, out)]
    dy_, x_, W_, b_, dW_, dz_, out_ = on_gpu
    linear(x_, W_, b_, "tanh", out_, stream=STREAM)
    assert launches == ["forward"]
    linear_backward(dy_, x_, out_, W_, "relu", dW_, b_, dz_, stream=STREAM)
    assert launches == ["forward", "backward"]
    half = [Host(np.zeros(shape, np.uint16)) for shape in ((7, 3), (7, 5), (5, 3))]
    linear_backward(half[0], half[1], None, half[2], None, half[2], b_, None, stream=STREAM)
    assert launches == ["forward", "backward", "backward"]
    launches.pop()
    linear_backward(Host(dy[:1]), Host(x[:1]), None, W_, None, dW_, b_, None, stream=STREAM)
    assert launches == ["forward", "backward", "backward"]
    assert {made[0] for made in library.products} == {DEFAULT}
    library.unsupported = {BIAS, BGRADA}
    out[...] = 0
    linear(x_, W_, b_, None, out_, stream=STREAM)
    linear_backward(dy_, x_, None, W_, None, dW_, b_, None, stream=STREAM)
    assert launches == ["forward", "backward", "backward", "forward", "backward"]
    assert (out == x @ W).all()
    assert {made[0] for made in library.products} == {DEFAULT}


def test_a_product_that_cublaslt_lacks_is_cublas_s(library):
    from xpnet_kernels.cuda.arrays import REALS, array, memory
    from xpnet_kernels.cuda.matrix_products import Product, product

    library.unsupported = {DEFAULT}
    a = Host(np.ones((2, 2), np.float32))
    (planned,) = product(*(array(name, memory(a), REALS) for name in "abc"))
    assert isinstance(planned, Product)


def test_an_algorithm_is_searched_once_for_each_problem_and_alignment(library, launches):
    from xpnet_kernels.cuda import linear

    memory = np.zeros(4096, np.float32)
    first = -(memory.ctypes.data // 4) % 64  # the first aligned element
    W, b = Host(memory[first + 512 :][:15].reshape(5, 3)), Host(memory[first + 576 :][:3])

    def call(offset, rows=7):
        x = memory[first + offset :][: 5 * rows].reshape(rows, 5)
        linear(Host(x), W, b, None, Host(memory[first + 640 :][: 3 * rows].reshape(rows, 3)), stream=STREAM)

    call(0)
    call(64)  # other memory, as well aligned
    assert len(library.searches) == 1
    call(1)
    call(65)
    assert len(library.searches) == 2
    call(0, rows=6)
    assert len(library.searches) == 3
    assert [search[4] for search in library.searches] == [[256] * 4, [256, 4, 256, 256], [256] * 4]
    assert len(library.products) == 5


def test_each_stream_has_a_workspace_of_its_own(library):
    from xpnet_kernels.cuda import linear

    x, W, b, out = (Host(np.ones(shape, np.float32)) for shape in ((2, 2), (2, 2), (2,), (2, 2)))
    for stream in (STREAM, 6, STREAM):
        linear(x, W, b, None, out, stream=stream)
    (_, _, one), (_, _, other), (_, _, again) = library.products
    assert one == again != other


def test_no_memory_for_a_workspace(library, monkeypatch):
    from xpnet_kernels.cuda import linear

    monkeypatch.setattr("cuda.bindings.driver.cuMemAlloc", lambda size: (900, 0))
    x, W, b, out = (Host(np.ones(shape, np.float32)) for shape in ((2, 2), (2, 2), (2,), (2, 2)))
    with pytest.raises(MemoryError, match=r"no 32 MiB .* CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED.* run the same step"):
        linear(x, W, b, None, out, stream=STREAM)


@pytest.mark.cuda_compile  # where nvmath-python is installed
def test_the_real_binding_has_what_is_called():
    """Names, the order of arguments, values and sizes; nvmath's binding is imported without a GPU."""
    if importlib.util.find_spec("nvmath") is None and "XPNET_REQUIRE_CUDA_COMPILE" not in os.environ:
        pytest.skip("needs the extra cuda-compile (nvmath-python)")
    from nvmath.bindings import cublas, cublasLt
    from xpnet_kernels.cuda.cublaslt import _FULL_SUMS, _HEURISTIC_RESULT, Epilogue

    for name in ("matmul", "matmul_algo_get_heuristic", "matrix_layout_create", "matmul_desc_create",
                 "matmul_desc_set_attribute", "matmul_preference_create", "matmul_preference_set_attribute",
                 "matmul_desc_destroy", "matrix_layout_destroy", "matmul_preference_destroy", "create"):  # fmt: skip
        declared = re.search(rf"{name}\((.*?)\)", getattr(cublasLt, name).__doc__).group(1)
        ours = getattr(stand_in.Library, name).__code__
        count = len([argument for argument in declared.split(",") if argument])
        assert count == ours.co_argcount - 1, name
        if count > 4:  # where we could mix them up
            assert re.findall(r"(\w+)(?:,|$)", declared) == list(ours.co_varnames[1 : ours.co_argcount])
    for ours in (stand_in.MatmulDescAttribute, stand_in.MatmulPreferenceAttribute):
        real = getattr(cublasLt, ours.__name__)
        assert all(real[member.name] == member.value for member in ours)
    attribute, preference = cublasLt.MatmulDescAttribute, cublasLt.MatmulPreferenceAttribute
    sizes = {
        attribute.TRANSA: np.int32, attribute.TRANSB: np.int32, attribute.EPILOGUE: np.uint32,
        attribute.BIAS_POINTER: np.int64,
    }  # fmt: skip
    assert all(cublasLt.get_matmul_desc_attribute_dtype(member) is kind for member, kind in sizes.items())
    assert cublasLt.get_matmul_preference_attribute_dtype(preference.MAX_WORKSPACE_BYTES) is np.uint64
    assert cublasLt.get_matmul_preference_attribute_dtype(preference.REDUCTION_SCHEME_MASK) is np.uint32
    assert cublasLt.get_matmul_preference_attribute_dtype(preference.MIN_ALIGNMENT_A_BYTES) is np.uint32
    assert cublasLt.matmul_heuristic_result_dtype.itemsize == _HEURISTIC_RESULT.itemsize
    assert (
        cublasLt.matmul_heuristic_result_dtype.fields["workspace_size"][1] == _HEURISTIC_RESULT.fields["workspace"][1]
    )
    assert cublasLt.matmul_heuristic_result_dtype.fields["state"][1] == _HEURISTIC_RESULT.fields["state"][1]
    assert cublasLt.ReductionScheme.COMPUTE_TYPE == _FULL_SUMS
    assert [cublasLt.Epilogue[name] for name in ("DEFAULT", "BIAS", "BGRADA")] == list(Epilogue)
    kinds = cublas.ComputeType
    assert (kinds.COMPUTE_32F, kinds.COMPUTE_64F, kinds.COMPUTE_32F_FAST_TF32) == (68, 70, 77)
