"""Two backends or more, held against each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from xpnet.backends import Backend
from xpnet.configuration import Recipe
from xpnet.data import SAMPLERS, Dataset, Sampler, Samples, Shuffled
from xpnet.errors import ConfigurationError, positive_integer
from xpnet.layers import Layer
from xpnet.layers.preprocessing import fit_preprocessing
from xpnet.losses import Loss, as_loss
from xpnet.optimizers import Optimizer
from xpnet.parity.isolation import taken_apart
from xpnet.parity.parts import Inference
from xpnet.parity.rounding import ROUNDOFF, erring_backend, rounding_bounds
from xpnet.parity.workbench import Quantity, Workbench
from xpnet.registry import build
from xpnet.training.batches import samples_for
from xpnet.training.reports import LAST_LOSS
from xpnet.training.runs import require_trainable

# Backends order their operations differently, and round constants to their own type. With this margin, λ in the bound
# of a sum is 8, and the probability of going beyond it 2 exp(-32) for each rounding.
MARGIN = 4.0


@dataclass(frozen=True)
class Row:
    """One kind of result of one layer, on one backend.

    Attributes:
        backend: the one that is held against the reference.
        layer: its place and kind, or "data", "loss", "optimizer".
        quantity: "batch", "forward", "input gradient", "gradient", "inference", "finite check" or "update".
        array: the one with the element that comes nearest to its bound, or goes farthest beyond it.
        step: in which that was, from 1.
        ulps: how far that element is from the reference's, in units in the last place of the array's largest number.
        bound: how far rounding can carry it, in the same unit.
        relative: ‖a - r‖ / ‖r‖ of the array a and the reference's r, in that step.

    >>> Row("cpu", "1 Linear", "forward", "y", step=1, ulps=0.5, bound=8.0, relative=1e-8).agrees
    True
    """

    backend: str
    layer: str
    quantity: str
    array: str
    step: int
    ulps: float
    bound: float
    relative: float

    @property
    def agrees(self) -> bool:
        """Whether the element is within its bound."""
        return self.ulps <= self.bound


@dataclass(frozen=True)
class Drift:
    """How far a backend that trained by itself has come from the reference after all steps.

    Attributes:
        backend: its name.
        parameters: ‖θ - θᵣ‖ / ‖θᵣ‖.
        loss: |L - Lᵣ|, of the last step.

    >>> Drift("cpu", parameters=1e-7, loss=0.0).backend
    'cpu'
    """

    backend: str
    parameters: float
    loss: float


@dataclass(frozen=True)
class Parity:
    """The outcome.

    Attributes:
        backends: by name, the reference first.
        steps: compared; the first step with a divergence was the last one.
        rows: in the order of the network.
        drift: of each backend but the first.

    >>> row = Row("cpu", "1 Linear", "forward", "y", step=1, ulps=9.0, bound=8.0, relative=1e-6)
    >>> parity = Parity(["float64", "cpu"], 1, [row], [Drift("cpu", parameters=1e-7, loss=0.0)])
    >>> parity.first_divergence == row, sorted(parity.to_table())
    (True, ['backends', 'drift', 'first_divergence', 'rows', 'steps'])
    """

    backends: list[str]
    steps: int
    rows: list[Row]
    drift: list[Drift]

    @property
    def first_divergence(self) -> Row | None:
        """The first row that is beyond its bound."""
        return next((row for row in self.rows if not row.agrees), None)

    def to_table(self) -> dict[str, Any]:
        """As numbers and text, for JSON."""
        first = self.first_divergence
        rows = [{**asdict(row), "agrees": row.agrees} for row in self.rows]
        return {**asdict(self), "rows": rows, "first_divergence": first and asdict(first)}


def compare(
    model: Layer,
    loss: Loss,
    optimizer: Optimizer,
    train: Samples | tuple[Any, ...],
    backends: Sequence[Backend],
    *,
    batch_size: int = 100,
    sampler: Sampler | None = None,
    steps: int = 10,
    total_steps: int | None = None,
    seed: int = 0,
) -> Parity:
    """Train the same model on several backends, and hold every layer's every result against the reference's.

    In each step of the first backend, every layer, the loss and the optimizer are computed again by themselves, on each
    backend, from the numbers that the first one had there: so what diverges is at fault itself, and no other layer
    before it. Each element may be as far from the reference's as rounding can carry it, which is worked out for that
    layer and those numbers (see :mod:`xpnet.parity.rounding`), times 4. Beside that each backend trains by itself, and
    ``drift`` tells how far it gets.

    Args:
        model: initialised; it stays as it is.
        loss, optimizer: as for a :class:`~xpnet.Trainer`; they stay as they are, too.
        train: samples.
        backends: at least two, of different names, the reference first; each computes in its own element type, from
            weights and inputs rounded to the narrowest of them.
        batch_size: rows in a step.
        sampler: the order; shuffled when None.
        steps: at most; the first step with a divergence is the last one.
        total_steps: of the run whose beginning this is, for learning rates that depend on it; None: ``steps``.
        seed: of the order of samples, and of layers that draw.

    Raises:
        ConfigurationError: fewer than two backends, or two of one name.

    >>> import xpnet
    >>> model = xpnet.Sequential(xpnet.Flatten(), xpnet.Linear(64, 8, "tanh"), xpnet.Linear(8, 10))
    >>> backends = [xpnet.backend("float64"), xpnet.backend("cpu-reference")]
    >>> _ = model.initialize(backends[0])
    >>> digits = xpnet.data.load("digits").train
    >>> parity = compare(model, xpnet.SoftmaxCrossEntropy(), xpnet.SGD(0.1), digits, backends, steps=2)
    >>> parity.first_divergence is None, parity.rows[2].layer, parity.rows[2].quantity
    (True, '1 Linear', 'forward')
    """
    names = [backend.name for backend in backends]
    if len(names) < 2 or len(set(names)) < len(names):
        raise ConfigurationError(f"parity needs at least two backends of different names, not {', '.join(names)!r}")
    positive_integer("steps", steps)
    model = model.to(model.require_backend())
    fit_preprocessing(model, samples_for(model, train, as_loss(loss)).x)
    narrowest = "float32" if any(backend.dtype == "float32" for backend in backends) else "float64"
    ground = (model, as_loss(loss), optimizer, Samples(*train), batch_size, sampler or Shuffled(), seed, narrowest)
    runs, benches = ([Workbench(backend, *ground) for backend in backends] for _ in range(2))
    erring = erring_backend()
    bounding = Workbench(erring, *ground, reuse=False)
    for bench in (*runs, *benches, bounding):
        bench.trainer.optimizer.set_total_steps(total_steps or steps, step=0)
    rows: dict[tuple[str, ...], Row] = {}
    for step in range(1, steps + 1):
        for part in taken_apart(runs[0]):
            if isinstance(part, Inference) and all(map(part.is_as_in_training, benches)):
                continue
            bounds = rounding_bounds(erring, partial(bounding.compute, part))
            expected, *others = (bench.compute(part) for bench in benches)
            for bench, found in zip(benches[1:], others, strict=True):
                units = MARGIN * (_roundoff(benches[0]) + _roundoff(bench)) / ROUNDOFF
                for quantity, array in found.items():
                    row = _row(bench, quantity, step, expected[quantity], array, units * bounds[quantity])
                    key = row.backend, row.layer, row.quantity
                    rows[key] = max(rows.get(key, row), row, key=_share)
        for run in runs[1:]:
            run.train()
        if not all(row.agrees for row in rows.values()):
            break
    return Parity(names, step, list(rows.values()), [_drift(runs[0], run) for run in runs[1:]])


def compare_recipe(
    recipe: Recipe,
    dataset: Dataset,
    backends: Sequence[Backend],
    *,
    steps: int = 10,
    seed: int = 0,
    model: Layer | None = None,
) -> Parity:
    """As ``compare``, for what a recipe trains: from the initial weights that the seed gives, or from a model's.

    >>> import xpnet
    >>> backends = [xpnet.backend(name) for name in ("float64", "cpu-reference", "cpu")]
    >>> parity = compare_recipe(xpnet.load_recipe("digits"), xpnet.data.load("digits"), backends, steps=1)
    >>> parity.first_divergence is None
    True
    """
    require_trainable(recipe)
    model = model or recipe.build_model().initialize(backends[0], seed)
    loss, optimizer = build("loss", recipe.loss or {}), build("optimizer", recipe.optimizer or {})
    sampler = SAMPLERS[recipe.sampler]()
    return compare(
        model,
        loss,
        optimizer,
        dataset.train,
        backends,
        batch_size=recipe.batch_size,
        sampler=sampler,
        steps=steps,
        total_steps=recipe.total_steps(len(dataset.x_train)),
        seed=seed,
    )


def _row(
    bench: Workbench, quantity: Quantity, step: int, expected: np.ndarray, array: np.ndarray, bound: np.ndarray
) -> Row:
    limits = np.finfo(bench.narrowest)
    expected, array = expected.astype(np.float64, copy=False), array.astype(np.float64, copy=False)
    bound = np.nan_to_num(bound, nan=0.0, posinf=np.inf) + limits.tiny  # what is smaller may be flushed to zero
    with np.errstate(invalid="ignore"):
        error = np.abs(array - expected)
        if not np.isfinite(error).all():
            same = (array == expected) | (np.isnan(array) & np.isnan(expected))
            error = np.where(same, 0.0, np.nan_to_num(error, nan=np.inf, posinf=np.inf))
        differs = error.any()
        length = np.linalg.norm(expected)
        relative = 0.0 if not differs else np.linalg.norm(error) / length if length else np.inf
    worst = np.unravel_index(np.argmax(error / bound if differs else bound), error.shape)
    largest = np.max(np.abs(expected), where=np.isfinite(expected), initial=limits.tiny)
    ulp = float(np.spacing(limits.dtype.type(largest)))
    ulps, limit = float(error[worst]) / ulp, float(bound[worst]) / ulp
    return Row(bench.backend.name, quantity.layer, quantity.kind, quantity.array, step, ulps, limit, float(relative))


def _share(row: Row) -> float:
    return row.ulps / row.bound


def _roundoff(bench: Workbench) -> float:
    return float(np.finfo(bench.model.dtype).eps) / 2


def _drift(reference: Workbench, run: Workbench) -> Drift:
    def state(bench: Workbench) -> tuple[np.ndarray, float]:
        views = bench.model.parameters.values()
        parameters = np.concatenate([bench.fetch(view).ravel() for view in views]) if views else np.zeros(0)
        return parameters, float(bench.fetch(bench.trainer.report)[LAST_LOSS])

    (expected, expected_loss), (found, found_loss) = state(reference), state(run)
    distance = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    return Drift(run.backend.name, float(distance), abs(found_loss - expected_loss))
