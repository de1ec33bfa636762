"""Softmax cross-entropy in the simulator against its equations in float64. Run by test_simulator.py.

In the simulator a warp is 4 threads, a block 16, and a tile of a row 128 columns.
"""

from __future__ import annotations

import numpy as np
import pytest
from xpnet_kernels.cuda import softmax_cross_entropy


@pytest.fixture
def random():
    return np.random.default_rng(0)


def outputs(logits, accumulator=np.float32):
    """Arrays for everything the kernel writes, full of nonsense."""
    rows = len(logits)
    return {
        "summary": np.full(4, 7.0),
        "losses": np.full(rows, 7, accumulator),
        "gradient": np.full_like(logits, 7),
        "log_sum_exp": np.full(rows, 7, accumulator),
        "predictions": np.full(rows, 7),
    }


def check(written, expected, row_weight=1.0, scale=1.0):
    """The issue's bounds on the errors in float32."""
    assert written["losses"] == pytest.approx(expected.losses, rel=1e-6, abs=1e-6)
    assert written["log_sum_exp"] == pytest.approx(expected.log_sum_exp, rel=1e-6, abs=1e-6)
    assert written["summary"] == pytest.approx(expected.summary, rel=2e-7, abs=2e-7)
    assert written["predictions"].tolist() == expected.predictions.tolist()
    assert np.abs(written["gradient"] - expected.gradient).max() <= 2e-7 * row_weight * scale


@pytest.mark.parametrize(
    ("rows", "columns"),
    [(1, 1), (3, 10), (30, 3), (2, 33), (1, 64), (3, 130), (2, 301)],
    ids=["one class", "one block", "two blocks", "one warp", "two warps", "two tiles", "three tiles, unaligned"],
)
def test_class_indices_over_blocks_warps_and_tiles(random, equations, rows, columns):
    logits = random.normal(scale=4, size=(rows, columns)).astype(np.float32)
    labels = random.integers(0, columns, rows)
    written = outputs(logits)
    softmax_cross_entropy(logits, labels, **written)
    check(written, equations(logits, labels), scale=1 / rows)


def test_options(random, equations, options):
    logits = random.normal(scale=2, size=(5, 13)).astype(np.float32)
    labels = np.array([12, 3, 0, 7, 3], np.int32)
    written = outputs(logits)
    softmax_cross_entropy(logits, labels, **written, **options)
    check(written, equations(logits, labels, **options), row_weight=6.0)


def test_probabilities(random, equations, options):
    if "ignore_index" in options:
        pytest.skip("goes with class indices")
    logits = random.normal(scale=2, size=(5, 13)).astype(np.float32)
    targets = random.dirichlet(np.ones(13), 5).astype(np.float32)
    targets[1] = np.eye(13)[4]
    written = outputs(logits)
    softmax_cross_entropy(logits, targets, **written, **options)
    check(written, equations(logits, targets, **options), row_weight=6.0)


def test_plain_probabilities(random, equations):
    logits = random.normal(scale=2, size=(3, 150)).astype(np.float32)
    targets = random.dirichlet(np.ones(150), 3).astype(np.float32)
    written = outputs(logits)
    softmax_cross_entropy(logits, targets, **written)
    check(written, equations(logits, targets))
    with pytest.raises(ValueError, match="ignore_index goes with integer labels"):
        softmax_cross_entropy(logits, targets, **written, ignore_index=3)
    with pytest.raises(ValueError, match="ignore_index must be a number of 64 bits"):
        softmax_cross_entropy(logits, np.zeros(3, np.int64), **written, ignore_index=2**70)
    nothing = np.empty((3, 0), np.float32)
    with pytest.raises(ValueError, match=r"logits of shape \(3, 0\) have no class"):
        softmax_cross_entropy(nothing, nothing, **(outputs(nothing) | {"gradient": None}))


def test_element_types(random, equations, element, as_float64):
    logits = element.cast(random.normal(scale=2, size=(3, 37)))
    labels = np.array([0, 36, 17], np.uint8)
    written = outputs(logits, element.accumulator)
    softmax_cross_entropy(logits, labels, **written)
    expected = equations(as_float64(logits), labels)
    tolerance = 1e-14 if element.accumulator is np.float64 else 1e-6
    assert written["losses"] == pytest.approx(expected.losses, rel=tolerance, abs=tolerance)
    rounding = np.abs(expected.gradient) * element.epsilon  # to the element type; and before it, in the other one:
    assert (np.abs(as_float64(written["gradient"]) - expected.gradient) <= rounding + tolerance).all()


def test_in_place_and_forward_only(random, equations):
    logits = random.normal(size=(2, 301)).astype(np.float32)
    labels = np.array([300, 5])
    expected = equations(logits, labels)
    written = outputs(logits) | {"gradient": None}
    softmax_cross_entropy(logits, labels, **written)
    assert written["losses"] == pytest.approx(expected.losses, rel=1e-6)
    written |= {"gradient": logits}
    softmax_cross_entropy(logits, labels, **written, in_place=True)
    check(written, expected)


def test_rows_apart_and_unaligned(random, equations):
    memory = random.normal(size=(4, 50)).astype(np.float32)
    logits = memory[:, 1:38]
    gradient = np.full((4, 60), 7, np.float32)
    written = outputs(logits) | {"gradient": gradient[:, 2:39]}
    softmax_cross_entropy(logits, np.array([0, 1, 36, 5]), **written)
    check(written, equations(logits, np.array([0, 1, 36, 5])))
    assert (gradient[:, :2] == 7).all()
    assert (gradient[:, 39:] == 7).all()


def test_bad_labels_touch_nothing_else(random, equations):
    logits = random.normal(size=(4, 10)).astype(np.float32)
    labels = np.array([2, 10, 5, -1])
    written = outputs(logits)
    softmax_cross_entropy(logits, labels, **written)
    assert np.isnan(written["losses"]).tolist() == [False, True, False, True]
    assert np.isnan(written["gradient"]).all(axis=1).tolist() == [False, True, False, True]
    assert np.isnan(written["summary"][0])
    assert written["summary"][3] == 1
    good = equations(logits[::2], labels[::2], reduction="sum")
    assert written["losses"][::2] == pytest.approx(good.losses, rel=1e-6)


def test_rows_that_are_not_finite(random, equations):
    logits = random.normal(size=(5, 10)).astype(np.float32)
    logits[0, :5] = -np.inf
    logits[1] = -np.inf
    logits[2, 4] = np.inf
    logits[3, [6, 8]] = np.nan
    labels = np.array([7, 0, 1, 2, 3])
    written = outputs(logits)
    softmax_cross_entropy(logits, labels, **written)
    assert np.isnan(written["losses"]).tolist() == [False, True, True, True, False]
    assert np.isnan(written["gradient"]).all(axis=1).tolist() == [False, True, True, True, False]
    assert written["predictions"].tolist() == [np.argmax(row) for row in logits]
    assert written["summary"][3] == -1
    assert written["losses"][0] == pytest.approx(equations(logits[:1], labels[:1]).losses[0], rel=1e-6)


def test_huge_and_equal_logits(equations):
    logits = np.array([[1e30, -1e30, 1e30], [3e38, 3e38, 3e38], [-3e38, -3e38, 0]], np.float32)
    labels = np.array([0, 2, 2])
    written = outputs(logits)
    softmax_cross_entropy(logits, labels, **written)
    assert written["losses"] == pytest.approx([np.log(2), np.log(3), 0], rel=1e-6)
    assert written["gradient"] * 3 == pytest.approx(
        np.array([[-0.5, 0, 0.5], [1 / 3, 1 / 3, -2 / 3], [0, 0, 0]]), abs=2e-7
    )


@pytest.mark.parametrize("shape", [(0, 10), (2, 0), (0, 0)])
def test_no_rows_or_no_classes(shape):
    logits = np.zeros(shape, np.float32)
    written = outputs(logits)
    softmax_cross_entropy(logits, np.zeros(shape[0], np.int64), **written)
    assert np.isnan(written["losses"]).all()
    assert np.isnan(written["summary"][0])
    assert written["summary"][1:].tolist() == [shape[0], 0, 0 if shape[0] else -1]


def test_wrong_arguments_say_what_is_wrong(random):
    logits = random.normal(size=(4, 10)).astype(np.float32)
    labels = np.zeros(4, np.int64)
    given = outputs(logits)
    with pytest.raises(TypeError, match=r"labels must be .*, not float64"):
        softmax_cross_entropy(logits, labels.astype(np.float64), **given)
    with pytest.raises(ValueError, match=r"losses must have the shape \(4,\), not \(3,\)"):
        softmax_cross_entropy(logits, labels, **given | {"losses": np.empty(3, np.float32)})
    with pytest.raises(ValueError, match="contiguous rows"):
        softmax_cross_entropy(logits[:, ::2], labels, **given | {"gradient": None})
    with pytest.raises(ValueError, match="in_place=True"):
        softmax_cross_entropy(logits, labels, **given | {"gradient": logits})
    with pytest.raises(ValueError, match="the choices are mean, sum, none"):
        softmax_cross_entropy(logits, labels, **given, reduction="average")
    with pytest.raises(TypeError, match="an array on the GPU"):
        softmax_cross_entropy([[1.0]], labels, **given)
    assert given["summary"].tolist() == [7, 7, 7, 7]
