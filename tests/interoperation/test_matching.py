"""The order of foreign names."""

from __future__ import annotations

import numpy as np
import pytest

from xpnet.interoperation.layouts import Tensor
from xpnet.interoperation.matching import Stored, group_by_layer


@pytest.mark.parametrize(
    "names",
    [
        ["0", "2", "10"],
        ["dense", "dense_1", "dense_2", "dense_10"],
        ["layers/conv2d", "layers/conv2d_1", "layers/dense"],
        ["block1.conv2", "block1.conv10", "block2.conv1"],
        ["a", "a0", "a00", "a1", f"a{'9' * 5000}", f"a1{'0' * 5000}"],
    ],
)
def test_natural_order(names: list[str]) -> None:
    stored = [Stored(f"{name}.weight", np.zeros(1), "float32") for name in reversed(names)]
    assert list(group_by_layer(stored, ".")) == names


def test_a_name_without_a_layer() -> None:
    assert list(group_by_layer([Stored("scale", np.zeros(1), "float32")], ".")) == [""]


@pytest.mark.parametrize("axes", [(), (1, 0, 2, 3), (3, 2, 0, 1), (1, 2, 3, 0)])
def test_there_and_back(axes: tuple[int, ...]) -> None:
    ours = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    tensor = Tensor("W", "weight", axes)
    theirs = tensor.to_theirs(ours)
    assert theirs.shape == tensor.their_shape(ours.shape)
    assert theirs.flags.c_contiguous
    np.testing.assert_array_equal(tensor.to_ours(theirs), ours)
