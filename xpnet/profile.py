"""Profiling a training step: time by layer and operation, compared with the peak rates of the machine."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from xpnet.backends import Backend
from xpnet.configuration import Recipe
from xpnet.context import Context
from xpnet.data import SAMPLERS, Batches, Dataset
from xpnet.errors import positive_integer
from xpnet.layers import Flatten, Layer, Reshape, Sequential
from xpnet.layers.preprocessing import fit_preprocessing
from xpnet.layers.tree import walk
from xpnet.registry import build
from xpnet.training import Trainer, batches_for
from xpnet.training.hooks import hooked
from xpnet.training.runs import require_trainable

_WARM_UP = 20  # steps in which kernels are compiled and memory is allocated
_PEAK_SIZE, _PEAK_BYTES, _PEAK_REPEATS = 2048, 2**26, 5


@dataclass(frozen=True)
class Part:
    """One operation of a layer, or of another part of a training step.

    Attributes:
        name: the layer's name and class, or "data", "loss", "optimizer".
        operation: "forward", "backward", "batch", "update".
        seconds: its median time in a step.
        work: floating-point operations of matrix products, or bytes that must be read and written.
        unit: "FLOP" or "B".
    """

    name: str
    operation: str
    seconds: float
    work: int
    unit: str


@dataclass(frozen=True)
class Profile:
    """The profile of a training step.

    Attributes:
        recipe, device: their names.
        batch_size: rows in a step.
        seconds: the median time of a step without timers inside.
        rest: the median time that a step with timers spends outside the parts.
        parts: in the order of a step.
        peaks: rates by unit, measured in the same process after the steps: a large matrix product in FLOP/s, and a copy
            of 64 MiB, counted as read and written, in B/s. Data that stay in a cache may exceed the latter.
        memory: the peak memory of the device in bytes; None if unknown.
    """

    recipe: str
    device: str
    batch_size: int
    seconds: float
    rest: float
    parts: list[Part]
    peaks: dict[str, float]
    memory: int | None

    def to_table(self) -> dict[str, Any]:
        """The profile as a dictionary for JSON."""
        return asdict(self)


def profile_step(recipe: Recipe, dataset: Dataset, backend: Backend, *, steps: int = 200, seed: int = 0) -> Profile:
    """Time training steps: first as a whole, then with a timer around each part.

    On CUDA, times come from events on the stream, and each part has an NVTX range.

    Args:
        recipe: what to train.
        dataset: the data set that ``recipe.data`` names, loaded.
        backend: the backend to train on.
        steps: the number of steps in each of the two measurements.
        seed: of the initial weights and of the order of the samples.

    >>> import xpnet
    >>> digits = xpnet.data.load("digits")
    >>> profile = profile_step(xpnet.load_recipe("digits"), digits, xpnet.backend("cpu-reference"), steps=3)
    >>> [(part.name, part.operation, part.work) for part in profile.parts][:2]
    [('data', 'batch', 10240), ('1 Linear', 'forward', 2097152)]
    """
    require_trainable(recipe)
    positive_integer("steps", steps)
    model = recipe.build_model().initialize(backend, seed)
    loss, optimizer = build("loss", recipe.loss or {}), build("optimizer", recipe.optimizer or {})
    trainer = Trainer(model, loss, optimizer, seed=seed)
    optimizer.set_total_steps(recipe.total_steps(len(dataset.x_train)), step=0)
    fit_preprocessing(model, dataset.x_train)
    batches = batches_for(
        model,
        dataset.train,
        loss,
        batch_size=recipe.batch_size,
        sampler=SAMPLERS[recipe.sampler](),
        seed=seed,
        drop_last=True,
    )

    def step() -> None:
        trainer.train_step(batches, context)

    with backend.on_device(), backend.ignoring_overflow():
        context = Context(backend, training=True, seed=seed, reuse=True)
        for _ in range(_WARM_UP):
            step()
        whole = _Clock(backend)
        for _ in range(steps):
            whole.time("step", "", step)
        clock = _Clock(backend)
        with _watched(clock, trainer, batches):
            for _ in range(steps):
                clock.time("step", "", step)
    memory, rows = backend.peak_memory(), batches.batch_size
    works = _work_of_parts(trainer, batches, rows)
    times = clock.seconds()
    known = {key: seconds for key, seconds in times.items() if key in works}
    rest = [total - sum(inside) for total, *inside in zip(times["step", ""], *known.values(), strict=True)]
    parts = [Part(*key, statistics.median(seconds), *works[key]) for key, seconds in known.items()]
    seconds = statistics.median(whole.seconds()["step", ""])
    with backend.on_device():
        peaks = _peaks(backend, model.dtype)
    return Profile(recipe.name, backend.name, rows, seconds, statistics.median(rest), parts, peaks, memory)


class _Clock:
    """A timer by (name, operation). Times are read at the end, so that measuring does not wait for the device."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.marks: dict[tuple[str, str], list[tuple[Any, Any]]] = {}

    def time(self, name: str, operation: str, call: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        """Call a function, and record when it begins and ends."""
        with self.backend.annotate(f"{name} {operation}"):
            began = self.backend.mark()
            result = call(*arguments, **keywords)
            self.marks.setdefault((name, operation), []).append((began, self.backend.mark()))
        return result

    def seconds(self) -> dict[tuple[str, str], list[float]]:
        """The duration of every call."""
        self.backend.synchronize()
        between = self.backend.seconds_between
        return {key: [between(*pair) for pair in pairs] for key, pairs in self.marks.items()}


def _watched(clock: _Clock, trainer: Trainer, batches: Batches) -> AbstractContextManager[None]:
    """Time every part of the trainer's steps."""
    methods: list[tuple[Any, str, str, str]] = [(batches, "gather", "data", "batch")]
    for name, layer in _leaves(trainer.model):
        methods += [(layer, "forward", name, "forward"), (layer, "backward", name, "backward")]
    name, first = _first_with_parameters(trainer.model)
    if type(first).backward_parameters is not Layer.backward_parameters:  # otherwise it calls backward, which is timed
        methods.append((first, "backward_parameters", name, "backward"))
    methods += [(trainer.loss, "forward", "loss", "forward"), (trainer.optimizer, "update", "optimizer", "update")]
    return hooked((owner, method, partial(clock.time, part, does)) for owner, method, part, does in methods)


def _leaves(model: Layer) -> Iterator[tuple[str, Layer]]:
    """The layers other than Sequential. A layer's time includes that of its children."""
    walked = walk(model, into=lambda layer: isinstance(layer, Sequential))
    return (
        (f"{name} {type(layer).__name__}".strip(), layer) for name, layer in walked if not isinstance(layer, Sequential)
    )


def _first_with_parameters(model: Layer) -> tuple[str, Layer]:
    return next(((name, layer) for name, layer in _leaves(model) if layer.parameters), next(_leaves(model)))


def _work_of_parts(trainer: Trainer, batches: Batches, rows: int) -> dict[tuple[str, str], tuple[int, str]]:
    """(work, unit) by (name, operation)."""
    xp, parameters = trainer.backend.xp, trainer.model.vectors.parameters
    itemsize, shape = _itemsize(xp, parameters.vector.dtype), tuple(batches.x.shape[1:])
    works = {("data", "batch"): (rows * math.prod(shape) * (_itemsize(xp, batches.x.dtype) + itemsize), "B")}
    first = _first_with_parameters(trainer.model)[1]
    for name, layer in _leaves(trainer.model):
        product, inputs, shape = rows * layer.flops(shape), math.prod(shape), layer.output_shape(shape)
        outputs = math.prod(shape)
        if product:
            works[name, "forward"] = product, "FLOP"
            works[name, "backward"] = product if layer is first else 2 * product, "FLOP"
        elif not isinstance(layer, (Flatten, Reshape)) and layer is not batches.rescale:  # these move no data
            works[name, "forward"] = rows * (inputs + outputs) * itemsize, "B"
            works[name, "backward"] = rows * (inputs + 2 * outputs) * itemsize, "B"
    works["loss", "forward"] = 2 * rows * math.prod(shape) * itemsize, "B"
    floats = 3 + 2 * len(trainer.optimizer.slots)  # values and state read and written, gradients read
    count = sum(math.prod(shape) for shape in parameters.shapes.values())
    works["optimizer", "update"] = floats * count * itemsize, "B"
    return works


def _itemsize(xp: Any, dtype: Any) -> int:
    information = xp.iinfo if xp.isdtype(dtype, "integral") else xp.finfo
    return int(information(dtype).bits) // 8


def _peaks(backend: Backend, dtype: str) -> dict[str, float]:
    xp = backend.xp
    a = xp.ones((_PEAK_SIZE, _PEAK_SIZE), dtype=getattr(xp, dtype), device=backend.device)
    source = xp.ones((_PEAK_BYTES // 4,), dtype=xp.float32, device=backend.device)
    target = xp.zeros_like(source)

    def copy() -> None:
        target[...] = source

    def best(call: Callable[[], Any]) -> float:
        clock = _Clock(backend)
        for repeat in range(_PEAK_REPEATS):
            clock.time(str(repeat), "", call)
        return min(seconds for (seconds,) in clock.seconds().values())

    return {"FLOP": 2 * _PEAK_SIZE**3 / best(lambda: backend.matmul(a, a)), "B": 2 * _PEAK_BYTES / best(copy)}
