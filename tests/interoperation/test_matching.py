"""The order of another library's layers, by name."""

from __future__ import annotations

import numpy as np
import pytest

from xpnet import LayerNorm, Sequential
from xpnet.backends import Backend
from xpnet.errors import ConfigurationError
from xpnet.interoperation.layouts import Tensor, places
from xpnet.interoperation.matching import ForeignWeights, Stored, group_by_layer, match
from xpnet.interoperation.pytorch_modules import LAYOUT


@pytest.mark.parametrize(
    "names",
    [
        ["0", "2", "10"],
        ["dense", "dense_1", "dense_2", "dense_10"],
        ["layers/conv2d", "layers/conv2d_1", "layers/dense"],
        ["block1.conv2", "block1.conv10", "block2.conv1"],
        ["0", "1.0", "1.3", "2", "10.0"],
        ["conv.a", "conv0.a", "conv1.a"],
        ["a", "a0", "a00", "a1", f"a{'9' * 5000}", f"a1{'0' * 5000}"],
    ],
)
def test_natural_order(names: list[str]) -> None:
    stored = [Stored(f"{name}.weight", np.zeros(1), "float32") for name in reversed(names)]
    assert list(group_by_layer(stored, ".")) == names


@pytest.mark.parametrize(
    ("one", "other", "numbered"),
    [
        ("0", "1.0", True),
        ("1.0", "1.3", True),
        ("block1.conv1", "block2.shortcut", True),
        ("layers/dense", "layers/dense_1", True),
        ("block1/norm", "block2/shortcut", True),
        ("block1.conv1", "block1.shortcut", False),
        ("conv1", "block1.conv1", False),
        ("features.0", "classifier.0", False),
        ("block", "block.norm", False),
    ],
)
def test_which_names_imply_an_order(cpu: Backend, one: str, other: str, numbered: bool) -> None:
    model = Sequential(LayerNorm(2), LayerNorm(2)).initialize(cpu)
    groups = {name: {own: Stored(own, np.zeros(2), "float32") for own in ("weight", "bias")} for name in (one, other)}
    weights = ForeignWeights("PyTorch", LAYOUT, groups)
    if numbered:
        assert match(places(model), weights, "a file") == [groups[one], groups[other]]
    else:
        with pytest.raises(ConfigurationError, match="the file does not keep their order"):
            match(places(model), weights, "a file")


def test_a_name_without_a_layer() -> None:
    assert list(group_by_layer([Stored("scale", np.zeros(1), "float32")], ".")) == [""]


@pytest.mark.parametrize("axes", [(), (1, 0, 2, 3), (3, 2, 0, 1), (1, 2, 3, 0)])
def test_axes_are_permuted_there_and_back(axes: tuple[int, ...]) -> None:
    ours = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    tensor = Tensor("W", "weight", axes)
    theirs = tensor.to_theirs(ours)
    assert theirs.shape == tensor.their_shape(ours.shape)
    assert theirs.flags.c_contiguous
    np.testing.assert_array_equal(tensor.to_ours(theirs), ours)
