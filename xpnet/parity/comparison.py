"""Comparing backends: the results of every layer, the loss and the optimizer, within the bounds of rounding."""

from __future__ import annotations

import math
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
from xpnet.parity.parts import Inference, Pass
from xpnet.parity.perturbation import ROUNDOFF, perturbed_backend
from xpnet.parity.recording import record_step
from xpnet.parity.replica import Part, Quantity, Replica
from xpnet.parity.rounding import rounding_bounds
from xpnet.registry import build
from xpnet.training.batches import samples_for
from xpnet.training.reports import LAST_LOSS
from xpnet.training.runs import require_trainable

# Backends order their operations differently, and round constants to their own type. With this margin, λ in the bound
# of a sum is 8, and a rounding exceeds it with a probability of 2 exp(-32).
MARGIN = 4.0

_ROUNDOFF = {"tf32": 2.0**-11, "bf16": 2.0**-8}  # of results or factors, by precision
_LIMITS = {"float64": (2.0**-1022, 53), "float32": (2.0**-126, 24), "bfloat16": (2.0**-126, 8)}  # smallest, bits


@dataclass(frozen=True)
class Row:
    """The largest difference from the reference in one quantity of one layer, on one backend.

    Attributes:
        backend: the backend that is compared with the reference.
        layer: the layer's name and class, or "data", "loss", "optimizer".
        quantity: "batch", "forward", "input gradient", "gradient", "inference", "finite check" or "update".
        array: the array that contains the element with the largest difference, relative to its bound.
        step: the step of that difference, from 1.
        ulps: the difference, in units in the last place of the array's largest number.
        bound: the largest difference that rounding explains, in the same unit.
        relative: ‖a - r‖ / ‖r‖ for the array a and the reference's array r, in that step.

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
        """Whether the difference is within its bound."""
        return self.ulps <= self.bound


@dataclass(frozen=True)
class Drift:
    """The difference between a backend's own training and the reference's, after all steps.

    Attributes:
        backend: its name.
        parameters: ‖θ - θᵣ‖ / ‖θᵣ‖, for the parameters θ and the reference's θᵣ.
        loss: |L - Lᵣ|, for the losses of the last step.

    >>> Drift("cpu", parameters=1e-7, loss=0.0).backend
    'cpu'
    """

    backend: str
    parameters: float
    loss: float


@dataclass(frozen=True)
class Parity:
    """The result of a comparison.

    Attributes:
        backends: their names, the reference first.
        steps: the number of steps compared; the comparison ends with the first step that has a divergence.
        rows: one for each backend but the reference, layer and quantity, in the order of the network.
        drift: one for each backend but the reference.

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
        """The first row that exceeds its bound, or None."""
        return next((row for row in self.rows if not row.agrees), None)

    def to_table(self) -> dict[str, Any]:
        """The result as a dictionary for JSON."""
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
    """Train a model on the reference backend, and compare every result of each step on all backends.

    In each step, every layer, the loss and the optimizer are computed in isolation on each backend, from the inputs
    that they had in the reference's step: so a divergence names the layer that causes it, not one that follows. Each
    element may differ from the reference's by 4 times the rounding error that is possible in that layer with those
    inputs (see :mod:`xpnet.parity.rounding`). Each backend also trains on its own; ``drift`` says how far that gets
    from the reference.

    Args:
        model: initialised; it is not changed.
        loss, optimizer: as for a :class:`~xpnet.Trainer`; they are not changed.
        train: samples.
        backends: at least two with different names, the reference first; each computes in its own element type and
            precision, from weights and inputs rounded to the narrowest of these types.
        batch_size: rows in a step.
        sampler: order of the samples; shuffled when None.
        steps: the largest number of steps; the comparison ends with the first step that has a divergence.
        total_steps: the length of the whole run, for learning-rate schedules; None: ``steps``.
        seed: of the order of the samples, and of layers that draw random numbers.

    Raises:
        ConfigurationError: fewer than two backends, or two with the same name.

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
    if any(backend.activation_dtype is not None for backend in backends):
        narrowest = "bfloat16"
    setup = (model, as_loss(loss), optimizer, Samples(*train), batch_size, sampler or Shuffled(), seed, narrowest)
    trained, isolated = ([Replica(backend, *setup) for backend in backends] for _ in range(2))
    perturbed = perturbed_backend()
    bounding = Replica(perturbed, *setup, reuse=False)
    for replica in (*trained, *isolated, bounding):
        replica.trainer.optimizer.set_total_steps(total_steps or steps, step=0)
    rows: dict[tuple[str, ...], Row] = {}
    for step in range(1, steps + 1):
        for part in record_step(trained[0]):
            if isinstance(part, Inference) and all(map(part.equals_training, isolated)):
                continue
            bounds = rounding_bounds(perturbed, partial(bounding.compute, part))
            expected, *others = (replica.compute(part) for replica in isolated)
            for replica, found in zip(isolated[1:], others, strict=True):
                units = MARGIN * (_roundoff(isolated[0], part) + _roundoff(replica, part)) / ROUNDOFF
                for quantity, array in found.items():
                    row = _row(replica, quantity, step, expected[quantity], array, units * bounds[quantity])
                    key = row.backend, row.layer, row.quantity
                    rows[key] = max(rows.get(key, row), row, key=_fraction_of_bound)
        for replica in trained[1:]:
            replica.train_step()
        if not all(row.agrees for row in rows.values()):
            break
    return Parity(names, step, list(rows.values()), [_drift(trained[0], replica) for replica in trained[1:]])


def compare_recipe(
    recipe: Recipe,
    dataset: Dataset,
    backends: Sequence[Backend],
    *,
    steps: int = 10,
    seed: int = 0,
    model: Layer | None = None,
) -> Parity:
    """As :func:`compare`, for a recipe: from the initial weights of the seed, or from a given model's.

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
    replica: Replica, quantity: Quantity, step: int, expected: np.ndarray, array: np.ndarray, bound: np.ndarray
) -> Row:
    tiny, digits = _LIMITS[replica.narrowest]
    expected, array = expected.astype(np.float64, copy=False), array.astype(np.float64, copy=False)
    bound = np.nan_to_num(bound, nan=0.0, posinf=np.inf) + tiny  # smaller numbers may be flushed to zero
    with np.errstate(invalid="ignore"):
        error = np.abs(array - expected)
        if not np.isfinite(error).all():
            same = (array == expected) | (np.isnan(array) & np.isnan(expected))
            error = np.where(same, 0.0, np.nan_to_num(error, nan=np.inf, posinf=np.inf))
        differs = error.any()
        length = np.linalg.norm(expected)
        relative = 0.0 if not differs else np.linalg.norm(error) / length if length else np.inf
    worst = np.unravel_index(np.argmax(error / bound if differs else bound), error.shape)
    largest = np.max(np.abs(expected), where=np.isfinite(expected), initial=tiny)
    ulp = 2.0 ** (math.frexp(largest)[1] - digits)
    ulps, limit = float(error[worst]) / ulp, float(bound[worst]) / ulp
    return Row(replica.backend.name, quantity.layer, quantity.kind, quantity.array, step, ulps, limit, float(relative))


def _fraction_of_bound(row: Row) -> float:
    return row.ulps / row.bound


def _roundoff(replica: Replica, part: Part) -> float:
    """The largest relative error of a rounding: that of the backend's precision in a layer that computes in it."""
    own = float(np.finfo(replica.model.dtype).eps) / 2
    in_precision = isinstance(part, (Pass, Inference)) and replica.layers[part.layer].takes_bfloat16
    return _ROUNDOFF.get(replica.backend.precision, own) if in_precision else own


def _drift(reference: Replica, replica: Replica) -> Drift:
    def state(replica: Replica) -> tuple[np.ndarray, float]:
        views = replica.model.parameters.values()
        parameters = np.concatenate([replica.to_host(view).ravel() for view in views]) if views else np.zeros(0)
        return parameters, float(replica.to_host(replica.trainer.report)[LAST_LOSS])

    (expected, expected_loss), (found, found_loss) = state(reference), state(replica)
    distance = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    return Drift(replica.backend.name, float(distance), abs(found_loss - expected_loss))
