"""A stand-in for nvmath's binding of cuBLASLt: it reads its arguments as NVIDIA's documentation says, on host memory.

https://docs.nvidia.com/cuda/cublas/#using-the-cublaslt-api. Matrices are column-major; products are taken in float64.
"""

from __future__ import annotations

import ctypes
from enum import IntEnum

import numpy as np

HANDLE = 11
WORKSPACE = 4096  # bytes that this library's algorithms need
KINDS = {0: np.float32, 1: np.float64, 2: np.float16, 14: np.uint16}  # cudaDataType_t; uint16 is bfloat16
INVALID_VALUE, NOT_SUPPORTED = 7, 15

MatmulDescAttribute = IntEnum("MatmulDescAttribute", {"TRANSA": 3, "TRANSB": 4, "EPILOGUE": 7, "BIAS_POINTER": 8})
MatmulPreferenceAttribute = IntEnum(
    "MatmulPreferenceAttribute",
    {
        "MAX_WORKSPACE_BYTES": 1, "REDUCTION_SCHEME_MASK": 3, "MIN_ALIGNMENT_A_BYTES": 5, "MIN_ALIGNMENT_B_BYTES": 6,
        "MIN_ALIGNMENT_C_BYTES": 7, "MIN_ALIGNMENT_D_BYTES": 8,
    },
)  # fmt: skip
_ATTRIBUTES = {  # the C type of each
    MatmulDescAttribute.TRANSA: ctypes.c_int32, MatmulDescAttribute.TRANSB: ctypes.c_int32,
    MatmulDescAttribute.EPILOGUE: ctypes.c_uint32, MatmulDescAttribute.BIAS_POINTER: ctypes.c_uint64,
}  # fmt: skip
_PREFERENCES = {
    attribute: ctypes.c_uint64 if attribute is MatmulPreferenceAttribute.MAX_WORKSPACE_BYTES else ctypes.c_uint32
    for attribute in MatmulPreferenceAttribute
}
DEFAULT, BIAS, RELU_BIAS, BGRADA = 1, 4, 6, 256


class cuBLASLtError(Exception):  # noqa: N801 (nvmath's name)
    """An error of the library."""

    def __init__(self, status):
        super().__init__(f"status {status}")
        self.status = status


class Library:
    """The functions of the binding, the objects that they made, and the products that were queued."""

    MatmulDescAttribute, MatmulPreferenceAttribute = MatmulDescAttribute, MatmulPreferenceAttribute
    cuBLASLtError = cuBLASLtError  # noqa: N815

    def __init__(self, unsupported=()):
        self.unsupported = set(unsupported)  # epilogues
        self.objects, self.made, self.searches, self.products = {}, 0, [], []

    def create(self):
        return HANDLE

    def _make(self, kind, **content):
        self.made += 1
        self.objects[self.made] = {"what": kind, **content}
        return self.made

    def _get(self, pointer, kind):
        found = self.objects.get(pointer)
        if found is None or found["what"] != kind:
            raise cuBLASLtError(INVALID_VALUE)
        return found

    def matmul_desc_create(self, compute_type, scale_type):
        assert (compute_type, scale_type) in ((68, 0), (70, 1), (77, 0))
        return self._make("product", compute=compute_type, **dict.fromkeys(("TRANSA", "TRANSB", "BIAS_POINTER"), 0))

    def matmul_preference_create(self):
        return self._make("preference", **{f"MIN_ALIGNMENT_{matrix}_BYTES": 256 for matrix in "ABCD"})

    def matrix_layout_create(self, type, rows, cols, ld):
        if ld < rows or min(rows, cols) < 1:
            raise cuBLASLtError(INVALID_VALUE)
        return self._make("layout", dtype=np.dtype(KINDS[type]), rows=rows, columns=cols, leading=ld)

    def _destroy(self, pointer, kind):
        self._get(pointer, kind)
        del self.objects[pointer]

    def matmul_desc_destroy(self, pointer):
        self._destroy(pointer, "product")

    def matmul_preference_destroy(self, pointer):
        self._destroy(pointer, "preference")

    def matrix_layout_destroy(self, pointer):
        self._destroy(pointer, "layout")

    def _set(self, target, types, attribute, address, size):
        kind = types[attribute]
        if size != ctypes.sizeof(kind):
            raise cuBLASLtError(INVALID_VALUE)
        target[attribute.name] = kind.from_address(address).value

    def matmul_desc_set_attribute(self, pointer, attribute, address, size):
        self._set(self._get(pointer, "product"), _ATTRIBUTES, attribute, address, size)

    def matmul_preference_set_attribute(self, pointer, attribute, address, size):
        self._set(self._get(pointer, "preference"), _PREFERENCES, attribute, address, size)

    def _problem(self, description, *layouts):
        product = self._get(description, "product")
        a, b, c, d = (self._get(layout, "layout") for layout in layouts)
        m, k = (a["columns"], a["rows"]) if product["TRANSA"] else (a["rows"], a["columns"])
        depth, n = (b["columns"], b["rows"]) if product["TRANSB"] else (b["rows"], b["columns"])
        if depth != k or (d["rows"], d["columns"]) != (m, n) or c != d or a["dtype"] != b["dtype"]:
            raise cuBLASLtError(INVALID_VALUE)
        if a["dtype"] != d["dtype"] and not (a["dtype"].itemsize == 2 and d["dtype"] == np.float32):
            raise cuBLASLtError(NOT_SUPPORTED)
        if product["EPILOGUE"] in self.unsupported or (product["EPILOGUE"] == BGRADA and product["TRANSA"]):
            raise cuBLASLtError(NOT_SUPPORTED)
        if product["EPILOGUE"] != DEFAULT and not product["BIAS_POINTER"]:
            raise cuBLASLtError(INVALID_VALUE)
        return product, a, b, d

    def matmul_algo_get_heuristic(
        self, light_handle, operation_desc, adesc, bdesc, cdesc, ddesc, preference, requested_algo_count,
        heuristic_results_array, return_algo_count,
    ):  # fmt: skip
        assert (light_handle, requested_algo_count) == (HANDLE, 1)
        product, a, b, d = self._problem(operation_desc, adesc, bdesc, cdesc, ddesc)
        wishes = self._get(preference, "preference")
        assert wishes["MAX_WORKSPACE_BYTES"] >= WORKSPACE
        assert wishes["REDUCTION_SCHEME_MASK"] == 2  # sums in the compute type alone
        self.searches.append(
            (a, b, d, {**product, "BIAS_POINTER": 0}, [wishes[f"MIN_ALIGNMENT_{matrix}_BYTES"] for matrix in "ABCD"])
        )
        algorithm = (ctypes.c_uint64 * 12).from_address(heuristic_results_array)
        algorithm[0], algorithm[8] = len(self.searches), WORKSPACE
        ctypes.c_int32.from_address(return_algo_count).value = 1

    def matmul(
        self, light_handle, compute_desc, alpha, a, adesc, b, bdesc, beta, c, cdesc, d, ddesc, algo, workspace,
        workspace_size_in_bytes, stream,
    ):  # fmt: skip
        assert light_handle == HANDLE
        assert (c, cdesc) == (d, ddesc)
        product, layout_a, layout_b, layout_d = self._problem(compute_desc, adesc, bdesc, cdesc, ddesc)
        found = self.searches[ctypes.c_uint64.from_address(algo).value - 1]
        assert found[:4] == (layout_a, layout_b, layout_d, {**product, "BIAS_POINTER": 0})  # the algorithm is for this
        assert all(address % promised == 0 for address, promised in zip((a, b, c, d), found[4], strict=True))
        assert workspace % 256 == 0
        assert workspace_size_in_bytes >= WORKSPACE
        ctypes.memset(workspace, 255, workspace_size_in_bytes)
        scalar = ctypes.c_double if product["compute"] == 70 else ctypes.c_float
        one, keep = (scalar.from_address(place).value for place in (alpha, beta))
        left, right = widened(_matrix(a, layout_a)), widened(_matrix(b, layout_b))
        out = _matrix(d, layout_d)
        left, right = left.T if product["TRANSA"] else left, right.T if product["TRANSB"] else right
        result = one * left @ right + (keep * widened(out) if keep else 0)
        epilogue = product["EPILOGUE"]
        if epilogue != DEFAULT:
            vector = _matrix(product["BIAS_POINTER"], {**layout_d, "columns": 1})
            if epilogue == BGRADA:
                vector[...] = rounded(left.sum(axis=1, keepdims=True), vector.dtype)
            else:
                result = result + widened(vector)
                if epilogue == RELU_BIAS:
                    result = np.where(result > 0, result, 0)  # of NaN too
        out[...] = rounded(result, out.dtype)
        self.products.append((epilogue, stream, workspace))


def _matrix(address, layout):
    item = layout["dtype"].itemsize
    size = ((layout["columns"] - 1) * layout["leading"] + layout["rows"]) * item
    buffer = (ctypes.c_byte * size).from_address(address)
    strides = (item, layout["leading"] * item)
    return np.ndarray((layout["rows"], layout["columns"]), layout["dtype"], buffer, strides=strides)


def widened(matrix):
    """The values in float64; uint16 holds bfloat16."""
    if matrix.dtype == np.uint16:
        return (matrix.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return matrix.astype(np.float64)


def rounded(values, dtype):
    """The nearest values of this type, to even; uint16 holds bfloat16."""
    if dtype == np.uint16:
        bits = np.asarray(values, np.float32).view(np.uint32).astype(np.uint64)
        return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
    return np.asarray(values).astype(dtype)
