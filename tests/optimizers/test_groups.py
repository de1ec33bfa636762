"""xpnet.optimizers.groups: names, patterns, and the segments of the flat vector."""

from __future__ import annotations

import itertools

import pytest

from xpnet.optimizers.groups import Group, factor_of, matches, segments
from xpnet.parameters import NamedVector

SHAPES = {"0.W": (5, 20), "0.b": (20,), "1.W": (20, 3), "1.b": (3,)}


SUBSETS = [set(chosen) for count in range(5) for chosen in itertools.combinations(SHAPES, count)]


@pytest.mark.parametrize("frozen", SUBSETS)
@pytest.mark.parametrize("differing", ["", "0.W", "1"])
def test_the_segments_hold_each_parameter_once(cpu, frozen, differing) -> None:
    parameters = NamedVector(cpu, SHAPES, "float32")

    def group_of(name, shape):
        assert shape == SHAPES[name]
        return None if name in frozen else Group(0.5 if differing and name.startswith(differing) else 1.0)

    found = segments(parameters, group_of)
    for segment in found:
        parameters.vector[segment.place] += segment.group.learning_rate_factor
    for name, view in parameters.items():
        group = group_of(name, SHAPES[name])
        assert (view == (0.0 if group is None else group.learning_rate_factor)).all()
    for one, next_one in itertools.pairwise(found):
        assert one.place.stop <= next_one.place.start
        assert one.place.stop < next_one.place.start or one.group != next_one.group  # else they would be one segment


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("*", "0.W 0.b 1.W 1.b"), ("*.b", "0.b 1.b"), ("0.*", "0.W 0.b"), ("[1-9].W", "1.W"), ("0.w", ""), ("b", "")],
)
def test_the_names_that_a_pattern_matches(pattern, expected) -> None:
    assert [name for name in SHAPES if matches(name, [pattern])] == expected.split()


def test_the_order_of_a_table_changes_no_bit() -> None:
    table = {"*": 0.1, "0.*": 0.7, "*.W": 1.3, "1.*": 5.0}
    products = {factor_of("0.W", dict(order)) for order in itertools.permutations(table.items())}
    assert len(products) == 1
    assert products.pop() == pytest.approx(0.1 * 0.7 * 1.3)
    assert factor_of("0.W", {}) == 1.0
