"""Matrix products by cuBLASLt, with the work on a bias in the same kernel; through nvmath-python, if installed.

The library's functions are those of https://docs.nvidia.com/cuda/cublas/#using-the-cublaslt-api. Unlike CuPy's products
these can be captured in a graph, once the same product has run on that stream.
"""

from __future__ import annotations

import importlib.util
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import cache, lru_cache
from typing import Any

import numpy as np

from .numba_cuda import cuda

_WORKSPACE = 32 * 2**20  # bytes, as NVIDIA recommends for Hopper
_ALIGNMENT = 256  # bytes; the library asks for no more
_FULL_SUMS = 2  # CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE: parts of a sum are not rounded to the type of the result
_NOT_SUPPORTED = 15  # CUBLAS_STATUS_NOT_SUPPORTED
_HEURISTIC_RESULT = np.dtype(
    [("algorithm", "<u8", 8), ("workspace", "<u8"), ("state", "<i4"), ("waves", "<f4"), ("reserved", "<i4", 4)]
)  # cublasLtMatmulHeuristicResult_t


class Epilogue(IntEnum):
    """What a product does besides, with a vector: values of cublasLtEpilogue_t for the matrices as cuBLAS sees them.

    The library's ReLU is not among them: it makes NaN 0, and so hides that a network has diverged, see
    https://forums.developer.nvidia.com/t/329783.
    """

    NOTHING = 1
    ADD_BIAS = 4  # out = a b + vector
    SUM_ROWS_OF_B = 256  # vector = Σ_rows b, where a is transposed


@dataclass(frozen=True)
class Problem:
    """Everything on which the choice of an algorithm depends; matrices are column-major, D = op(A) op(B) + β C, C = D.

    Attributes:
        device: the GPU's number.
        compute, scale: cublasComputeType_t, and the cudaDataType_t of α and β.
        kinds: the cudaDataType_t of A, B and D.
        shapes: rows and columns of A, B and D in memory.
        leading: elements between columns.
        flips: whether A and B are transposed.
        alignments: of A, B, D and the epilogue's vector in bytes; 0: there is no vector.
    """

    device: int
    compute: int
    scale: int
    kinds: tuple[int, int, int]
    shapes: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    leading: tuple[int, int, int]
    flips: tuple[int, int]
    epilogue: Epilogue
    alignments: tuple[int, int, int, int]


@cache
def available() -> bool:
    """Whether nvmath-python is installed. Tests replace this function."""
    return importlib.util.find_spec("nvmath") is not None


def current_device() -> int:
    """The number of the current GPU; this thread gets a context if it has none."""
    from cuda.bindings import driver

    status, device = driver.cuCtxGetDevice()
    if status:
        cuda.current_context()
        status, device = driver.cuCtxGetDevice()
    return int(device)


def alignment(address: int) -> int:
    """The largest power of two that divides the address, up to the most that the library asks for; 0 for a null."""
    return min(address & -address, _ALIGNMENT)


class Plan:
    """The library's objects for a problem, and its algorithm."""

    def __init__(self, problem: Problem) -> None:
        from nvmath.bindings import cublasLt

        self.problem = problem
        self.handle = _handle(problem.device)
        self.layouts = [
            _owned(self, cublasLt.matrix_layout_create(kind, *shape, leading), cublasLt.matrix_layout_destroy)
            for kind, shape, leading in zip(problem.kinds, problem.shapes, problem.leading, strict=True)
        ]
        self._result = np.zeros(1, _HEURISTIC_RESULT)
        self.algorithm = self._result.ctypes.data  # the structure's first member
        self.found = self._find()
        self.workspace = int(self._result["workspace"][0])

    def describe(self, owner: Any, vector: int) -> int:
        """A new description of the product, with the address of the epilogue's vector; ``owner`` keeps it alive."""
        from nvmath.bindings import cublasLt

        attribute = cublasLt.MatmulDescAttribute
        problem = self.problem
        description = _owned(
            owner, cublasLt.matmul_desc_create(problem.compute, problem.scale), cublasLt.matmul_desc_destroy
        )
        values = [
            (attribute.TRANSA, np.int32(problem.flips[0])),
            (attribute.TRANSB, np.int32(problem.flips[1])),
            (attribute.EPILOGUE, np.uint32(problem.epilogue)),
        ]
        if vector:
            values.append((attribute.BIAS_POINTER, np.uint64(vector)))
        _set(cublasLt.matmul_desc_set_attribute, description, values)
        return description

    def _find(self) -> bool:
        """Ask the library for its first choice of an algorithm."""
        from nvmath.bindings import cublasLt

        attribute = cublasLt.MatmulPreferenceAttribute
        a, b, d, vector = self.problem.alignments
        preference = cublasLt.matmul_preference_create()
        count = np.zeros(1, np.int32)
        try:
            values = [
                (attribute.MAX_WORKSPACE_BYTES, np.uint64(_WORKSPACE)),
                (attribute.REDUCTION_SCHEME_MASK, np.uint32(_FULL_SUMS)),
                (attribute.MIN_ALIGNMENT_A_BYTES, np.uint32(a)),
                (attribute.MIN_ALIGNMENT_B_BYTES, np.uint32(b)),
                (attribute.MIN_ALIGNMENT_C_BYTES, np.uint32(d)),
                (attribute.MIN_ALIGNMENT_D_BYTES, np.uint32(d)),
            ]
            _set(cublasLt.matmul_preference_set_attribute, preference, values)
            description = self.describe(self, vector)  # an address with the vector's alignment; it is not read
            layout_a, layout_b, layout_d = self.layouts
            cublasLt.matmul_algo_get_heuristic(
                self.handle, description, layout_a, layout_b, layout_d, layout_d, preference, 1,
                self._result.ctypes.data, count.ctypes.data,
            )  # fmt: skip
        except cublasLt.cuBLASLtError as error:
            if error.status != _NOT_SUPPORTED:
                raise
        finally:
            cublasLt.matmul_preference_destroy(preference)
        return count[0] == 1 and self._result["state"][0] == 0


@lru_cache(512)
def plan(problem: Problem) -> Plan:
    """The plan, made once: the library takes longer for its choice than a small product does."""
    return Plan(problem)


class LtProduct:
    """A product by cuBLASLt, at these addresses of A, B, D and the epilogue's vector."""

    def __init__(self, plan: Plan, addresses: tuple[int, int, int], vector: int, add: bool) -> None:
        self._plan = plan
        a, b, d = addresses
        layout_a, layout_b, layout_d = plan.layouts
        self._scalars = np.array([1, add], np.float64 if plan.problem.scale == 1 else np.float32)
        one, beta = (self._scalars[i:].ctypes.data for i in range(2))
        self._arguments = (
            plan.handle, plan.describe(self, vector), one, a, layout_a, b, layout_b, beta, d, layout_d, d, layout_d,
            plan.algorithm,
        )  # fmt: skip

    def queue(self, stream: int) -> None:
        """Queue the product on the stream."""
        from nvmath.bindings import cublasLt

        size = self._plan.workspace
        workspace = _workspace(self._plan.problem.device, stream) if size else 0
        cublasLt.matmul(*self._arguments, workspace, size, stream)


@cache
def _handle(device: int) -> int:
    """The library's handle for the current GPU, which has this number."""
    from nvmath.bindings import cublasLt

    return cublasLt.create()


@cache
def _workspace(device: int, stream: int) -> int:
    """The address of memory for the products on a stream, which follow each other."""
    from cuda.bindings import driver

    status, address = driver.cuMemAlloc(_WORKSPACE)
    if status:
        raise MemoryError(
            f"no {_WORKSPACE // 2**20} MiB for cuBLASLt's workspace: {driver.CUresult(status).name}. While a graph is "
            "captured none can be allocated: run the same step on that stream before"
        )
    return int(address)


def _owned(owner: Any, pointer: int, destroy: Callable[[int], None]) -> int:
    """The library's object at this address, which is destroyed after its owner."""
    weakref.finalize(owner, destroy, pointer).atexit = False
    return pointer


def _set(setter: Callable[[int, int, int, int], None], target: int, values: list[tuple[int, np.generic]]) -> None:
    for attribute, value in values:
        memory = np.array(value)
        setter(target, attribute, memory.ctypes.data, memory.nbytes)
