"""The softmax cross-entropy in float64, equation by equation, to compare the kernels with; teams of threads."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from xpnet_kernels.cpu.threads.scheduler import AWAKE, LINE_WORDS, member_index, state_size
from xpnet_kernels.cpu.threads.team import Team


@dataclass
class Expected:
    """What the contract's equations give."""

    loss: float
    weights: float
    correct: int
    losses: np.ndarray
    gradient: np.ndarray
    log_sum_exp: np.ndarray
    predictions: np.ndarray
    leverage: np.ndarray  # how far an error of the log-sum-exp can move a row's loss or gradient: 1 without options
    scale: np.ndarray  # the factor of each row's gradient


def cross_entropy(
    logits: np.ndarray,
    labels: np.ndarray,
    *,
    reduction: str = "mean",
    upstream: float | np.ndarray | None = None,
    label_smoothing: float = 0.0,
    class_weights: np.ndarray | None = None,
    row_weights: np.ndarray | None = None,
    z_loss: float = 0.0,
    ignore_index: int | None = None,
) -> Expected:
    """The equations of kernels/README.md, a row at a time."""
    rows, classes = logits.shape
    dense = labels.ndim == 2
    w = np.ones(classes) if class_weights is None else class_weights.astype(np.float64)
    r = np.ones(rows) if row_weights is None else row_weights.astype(np.float64)
    losses, weights, leverage, log_sum_exp = (np.zeros(rows) for _ in range(4))
    gradient, counts, correct = np.zeros((rows, classes)), np.ones(rows, bool), 0
    for i in range(rows):
        z = logits[i].astype(np.float64)
        top = z.max() if np.isfinite(z.max()) else 0.0
        with np.errstate(divide="ignore", invalid="ignore"):
            log_total = np.log(np.exp(z - top).sum())
        log_sum_exp[i] = L = top + log_total
        if r[i] == 0 or (not dense and labels[i] == ignore_index):
            counts[i] = False
            continue
        target = labels[i].astype(np.float64) if dense else (np.arange(classes) == labels[i]).astype(np.float64)
        wq = w * ((1 - label_smoothing) * target + label_smoothing / classes)
        present = wq != 0
        loss = (wq[present] * ((top - z[present]) + log_total)).sum()
        slope, leverage[i] = wq.sum(), r[i] * wq.sum()
        if z_loss:
            loss, slope, leverage[i] = (
                loss + z_loss * L**2,
                slope + 2 * z_loss * L,
                leverage[i] + r[i] * 2 * z_loss * max(1, abs(L)),
            )
        losses[i] = r[i] * loss
        weights[i] = r[i] if dense else r[i] * w[labels[i]]
        gradient[i] = r[i] * (slope * np.exp((z - top) - log_total) - wq)
        correct += int(np.argmax(z) == np.argmax(target))
    total = weights.sum()
    loss, scale = losses.sum(), np.ones(rows)
    if reduction == "mean":
        loss = loss / total if total else math.nan
        scale = np.where(counts, 1 / total, 0) if total else np.zeros(rows)
    if upstream is not None:
        scale = scale * upstream
    predictions = np.argmax(logits, axis=1) if classes else np.zeros(rows)
    return Expected(loss, total, correct, losses, gradient * scale[:, None], log_sum_exp, predictions, leverage, scale)


def read_only(array: np.ndarray) -> np.ndarray:
    """The same array, which may not be written."""
    view = array.view()
    view.flags.writeable = False
    return view


def unaligned(array: np.ndarray) -> np.ndarray:
    """A copy that begins at an odd address."""
    memory = np.zeros(array.nbytes + 1, np.uint8)
    copy = memory[1:].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def rows_apart(array: np.ndarray) -> np.ndarray:
    """A copy with other numbers between its rows."""
    if array.ndim == 1:
        return array.copy()
    wide = np.full((array.shape[0], array.shape[1] + 3), 7, array.dtype)
    wide[:, 2:-1] = array
    return wide[:, 2:-1]


def rows_reversed(array: np.ndarray) -> np.ndarray:
    """A copy whose rows lie in memory last to first."""
    if array.ndim == 1:
        return array.copy()
    return np.ascontiguousarray(array[::-1])[::-1]


@pytest.fixture(params=[np.copy, read_only, unaligned, rows_apart, rows_reversed], ids=lambda place: place.__name__)
def place(request: pytest.FixtureRequest) -> Callable[[np.ndarray], np.ndarray]:
    """Each way in which an array may lie in memory: a function that returns its argument so."""
    return request.param


@pytest.fixture(scope="session")
def expected() -> Callable[..., Expected]:
    """The softmax cross-entropy in float64."""
    return cross_entropy


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], bool]:
    """Wait until something holds; false if it does not within half a minute."""

    def wait(condition: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if condition():
                return True
            time.sleep(0.0002)
        return False

    return wait


@pytest.fixture
def team_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Team]:
    """Make a team of its own with this many members."""

    def make(members: int) -> Team:
        monkeypatch.setenv("XPNET_NUM_THREADS", str(members))
        return Team()

    return make


@pytest.fixture
def awake() -> Callable[[Team], list[bool]]:
    """Which workers of a team are awake."""

    def look(team: Team) -> list[bool]:
        members = (team.state.size - state_size(0)) // LINE_WORDS
        return [bool(team.state[member_index(member, AWAKE)]) for member in range(1, members)]

    return look


@pytest.fixture
def is_up(awake: Callable[[Team], list[bool]]) -> Callable[[Team], bool]:
    """Wake a team; whether all of its workers are awake."""

    def wake(team: Team) -> bool:
        team.wake()
        return all(awake(team))

    return wake
