"""xpnet.training.device_steps: the numbers are copied to the device only when it does not have them."""

from __future__ import annotations

from xpnet.training.device_steps import DeviceSteps


def test_they_are_advanced_and_not_copied(strict) -> None:
    steps = DeviceSteps(strict)
    for step in (5, 6, 7):
        assert [int(part[0]) for part in steps.of_parts(step, 2)] == [step, 2**32 + step]
        steps.vector[...] = steps.vector + 1
        steps.advanced_from(step)
    vector = steps.vector
    vector[...] = vector + 10  # what nobody does: nothing is copied while one step follows the other
    assert int(steps.of_parts(8, 1)[0][0]) == 18
    assert steps.vector is vector


def test_another_step_or_more_parts_are_copied(strict) -> None:
    steps = DeviceSteps(strict)
    steps.of_parts(0, 1)
    for step, parts in ((5, 1), (5, 1), (0, 1), (3, 4), (9, 2)):  # resumed, repeated after an error, begun again, …
        found = steps.of_parts(step, parts)
        assert [int(part[0]) for part in found][:parts] == [step + part * 2**32 for part in range(parts)]
    assert int(steps.vector.shape[0]) == 4


def test_a_step_that_did_not_end_leaves_nothing_to_rely_on(strict) -> None:
    steps = DeviceSteps(strict)
    steps.of_parts(0, 1)
    steps.vector[...] = steps.vector + 1
    steps.advanced_from(0)
    steps.of_parts(1, 1)  # and an error before the device advanced them
    assert int(steps.of_parts(2, 1)[0][0]) == 2


def test_there_are_none_where_execution_is_synchronous(cpu) -> None:
    steps = DeviceSteps(cpu)
    assert steps.of_parts(3, 2) is None
    assert steps.vector is None
