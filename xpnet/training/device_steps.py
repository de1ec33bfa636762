"""The number of the step on the device, so that a step does the same work each time and can be replayed."""

from __future__ import annotations

from xpnet.backends import Array, Backend

# Between the steps of a batch's parts, for random numbers: the upper half of 64 bits, which no run's steps reach.
PART = 2**32


class DeviceSteps:
    """The steps of a batch's parts, step + 2³² part, on the device; :func:`xpnet.ops.end_step` advances them.

    Args:
        backend: where they live. Where execution is synchronous there are none: kernels are given the number itself.

    Attributes:
        vector: (P,) int64, of as many parts as any batch had; None before the first step, and where there are none.

    >>> from xpnet.backends import backend
    >>> steps = DeviceSteps(backend("cpu"))
    >>> steps.of_parts(7, 2) is steps.vector is None
    True
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.vector: Array | None = None
        self._parts: list[Array] = []
        self._present: int | None = None  # the step that is in the vector; None: it is not known

    def of_parts(self, step: int, parts: int) -> list[Array] | None:
        """The step of each part, (1,) int64, copied to the device unless the vector was advanced to it; or None."""
        if self._backend.synchronous:
            return None
        if parts > len(self._parts):
            self.vector = vector = self._backend.aligned_zeros(parts, "int64")
            self._parts, self._present = [vector[part : part + 1] for part in range(parts)], None
        if self.vector is not None and step != self._present:
            numbers = [step + part * PART for part in range(len(self._parts))]
            self.vector[...] = self._backend.asarray(numbers, "int64")
        self._present = None  # until the step has ended, which it may not
        return self._parts

    def advanced_from(self, step: int) -> None:
        """Note that the step has ended, with the vector advanced."""
        self._present = step + 1
