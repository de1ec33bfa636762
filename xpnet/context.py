"""The context of a pass through a model: mode, random stream, memory."""

from __future__ import annotations

import copy
from typing import Any

from xpnet.backends import Array, Backend


class Context:
    """The context of one pass through a model, or of the successive passes of a training run.

    Args:
        backend: where the pass runs.
        training: whether layers run in training mode and save what their backward pass needs.
        seed: the run's seed, for layers that draw random numbers.
        reuse: whether ``empty`` returns the same memory at every step, as in a training run. If not, every result is a
            new array, which later passes do not overwrite.

    Raises:
        BackendError: the backend is one of several GPUs, and another one is the current device: compute under
            ``with backend.on_device():``, as :class:`~xpnet.Trainer` and ``predict`` do.

    Attributes:
        step: the step that random numbers are drawn for; set by the trainer.
        device_step: the same number on the device, (1,) int64, which fused kernels read instead, so that a captured
            step can be replayed; None: there is none.
        part: the number of the micro-batch within its batch; set by the trainer.
        prescaled: the :class:`~xpnet.layers.Rescale` that was applied while the input was gathered; None: none was.

    >>> import xpnet
    >>> layer = xpnet.Linear(2, 1).initialize(xpnet.backend("cpu-reference"))
    >>> context = Context(layer.backend, training=True)
    >>> y = layer.forward(layer.backend.asarray([[3.0, 4.0]], "float32"), context)
    >>> dx, dW = layer.backward(layer.backend.xp.ones_like(y), context), layer.gradients["W"]
    >>> dx.shape, dW.tolist()
    ((1, 2), [[3.0], [4.0]])
    """

    def __init__(self, backend: Backend, training: bool = False, seed: int = 0, reuse: bool = False) -> None:
        backend.require_on_device()
        self.backend = backend
        self.training = training
        self.seed = seed
        self.step = 0
        self.device_step: Array | None = None
        self.part = 0
        self.reuse = reuse
        self.prescaled: Any = None
        self._buffers: dict[tuple[int, str], Array] = {}  # by id: a dataclass may not be hashable

    def in_float32(self) -> Context:
        """This context, with its memory, for layers that compute in float32 within a pass in bfloat16.

        >>> import xpnet
        >>> context = Context(xpnet.backend("cpu-reference").at_precision("bf16"), seed=3)
        >>> context.in_float32().backend.precision, context.in_float32().seed
        ('float32', 3)
        """
        wide = copy.copy(self)
        wide.backend = self.backend.in_float32
        return wide

    def empty(self, owner: Any, name: str, shape: tuple[int, ...], dtype: Any) -> Array | None:
        """Uninitialised memory for the result ``name`` of ``owner``; None where a new array must be allocated.

        A batch smaller than the previous one gets the first rows of the same memory.
        """
        if not self.reuse:
            return None
        buffer = self._buffers.get((id(owner), name))
        if buffer is not None and buffer.dtype == dtype:
            if buffer.shape == shape:
                return buffer
            if buffer.shape[1:] == shape[1:] and buffer.shape[0] > shape[0]:
                return buffer[: shape[0], ...]
        buffer = self.backend.xp.empty(shape, dtype=dtype, device=self.backend.device)
        self._buffers[id(owner), name] = buffer
        return buffer
