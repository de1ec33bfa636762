"""The product for processors whose floating-point flags mean nothing after NumPy's product."""

from __future__ import annotations

import platform

import numpy as np
import pytest
from xpnet_kernels.cpu.gemm import numpy_product
from xpnet_kernels.cpu.gemm.numpy_product import _checked_matmul

A, B = np.array([[1.0, 2.0], [3.0, 4.0]], "f"), np.array([[5.0, 6.0, 7.0], [8.0, 9.0, 10.0]], "f")
PRODUCT = [[21.0, 24.0, 27.0], [47.0, 54.0, 61.0]]
INF, HUGE = np.float32(np.inf), np.float32(3e38)


@pytest.fixture(params=["true flags", "all flags"])
def flags(request, monkeypatch):
    """NumPy's product as it is; and as after the streaming mode, with all flags set."""
    if request.param == "all flags":
        product = np.matmul

        def matmul(A, B, out=None):
            for a, b in ((1.0, 0.0), (0.0, 0.0), (1e300, 1e-300)):  # a zero divisor, an invalid value, an overflow
                np.divide(a, b)
            with np.errstate(all="ignore"):
                return product(A, B, out=out)

        monkeypatch.setattr(np, "matmul", matmul)


@pytest.mark.usefixtures("flags")
class TestCheckedProduct:
    def test_a_finite_product_gives_no_warning(self):
        assert _checked_matmul(A, B).tolist() == PRODUCT

    def test_into_an_output(self):
        out = np.empty((2, 3), "f")
        assert _checked_matmul(A, B, out=out) is out
        assert out.tolist() == PRODUCT

    def test_an_overflow_warns(self):
        with pytest.warns(RuntimeWarning, match="overflow"):
            product = _checked_matmul(np.array([[1.0, 1.0], [1.0, HUGE]], "f"), np.array([[1.0], [HUGE]], "f"))
        assert product.tolist() == [[HUGE], [INF]]

    def test_an_overflow_of_the_sum_alone_warns(self):
        with pytest.warns(RuntimeWarning, match="overflow"):
            _checked_matmul(np.array([[HUGE, HUGE]]), np.ones((2, 1), "f"))

    def test_infinity_times_zero_warns(self):
        with pytest.warns(RuntimeWarning, match="invalid value"):
            product = _checked_matmul(np.array([[INF, 1.0]], "f"), np.array([[0.0], [1.0]], "f"))
        assert np.isnan(product).all()

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_what_was_not_finite_before_gives_no_warning(self, value):
        product = _checked_matmul(np.array([[value, 1.0]], "f"), np.ones((2, 1), "f"))
        np.testing.assert_array_equal(product, [[value]])

    def test_the_callers_error_state_holds(self):
        overflows = np.array([[HUGE]]), np.array([[HUGE]])
        with np.errstate(over="ignore"):
            assert _checked_matmul(*overflows).tolist() == [[INF]]
        with np.errstate(over="raise"), pytest.raises(FloatingPointError, match="overflow"):
            _checked_matmul(*overflows)

    def test_empty_matrices(self):
        assert _checked_matmul(np.empty((0, 3)), np.empty((3, 2))).shape == (0, 2)
        assert _checked_matmul(np.empty((1, 0)), np.empty((0, 2))).tolist() == [[0.0, 0.0]]


def test_the_check_is_for_arm64_alone():
    is_arm = platform.machine().lower() in ("aarch64", "arm64")
    assert numpy_product.matmul is (_checked_matmul if is_arm else np.matmul)
