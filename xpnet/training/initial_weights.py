"""Starting a run from given weights: those of a checkpoint that the model has by the same names."""

from __future__ import annotations

from pathlib import Path

from xpnet import checkpoint
from xpnet.errors import ConfigurationError, DTypeError, ShapeError
from xpnet.layers import Layer
from xpnet.layers.state import Unmatched
from xpnet.training.callbacks import Callback
from xpnet.training.trainer import Trainer


def load_weights(model: Layer, path: str | Path) -> Unmatched:
    """Copy a checkpoint's parameters and buffers into a model, by name.

    Args:
        model: initialised; nothing of it changes where an error is raised.
        path: a .safetensors file of xpnet.

    Returns:
        The names that were ``missing`` in the file, whose initial values stay, and those ``left_over``, which the model
        lacks.

    Raises:
        MissingFileError: there is no such file.
        FileFormatError: it is no checkpoint of xpnet.
        ConfigurationError: no name is in both.
        ShapeError, DTypeError: a tensor has another shape than the model's, or holds no floating-point numbers.

    >>> import tempfile, xpnet
    >>> cpu = xpnet.backend("cpu-reference")
    >>> small = xpnet.Sequential(xpnet.Linear(2, 3)).initialize(cpu, seed=1)
    >>> large = xpnet.Sequential(xpnet.Linear(2, 3), xpnet.Linear(3, 4)).initialize(cpu)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     xpnet.save_model(small, f"{folder}/model.safetensors")
    ...     load_weights(large, f"{folder}/model.safetensors")
    Unmatched(missing=['1.W', '1.b'], left_over=[])
    """
    saved = checkpoint.load(path).tensors
    state = {
        name.removeprefix(kind): tensor
        for kind in ("parameters/", "buffers/")
        for name, tensor in saved.items()
        if name.startswith(kind)
    }
    try:
        unmatched = model.load_state_dict(state, strict=False)
    except (ShapeError, DTypeError) as error:
        raise type(error)(
            f"{path}: {error}; to leave weights out, save a model without them, or use model.load_state_dict in Python"
        ) from None
    if len(unmatched.left_over) == len(state):
        raise ConfigurationError(
            f"{path} has none of the model's names: it holds {_listed([*state]) or 'no weights'}; the model needs "
            f"{_listed(unmatched.missing)}"
        )
    return unmatched


class ReportUnmatched(Callback):
    """Reports, when a run begins, the names that the model and the file of initial weights do not share.

    Args:
        unmatched: as ``load_weights`` returns it.
        path: of the file.
    """

    def __init__(self, unmatched: Unmatched, path: str | Path) -> None:
        self.unmatched, self.path = unmatched, path

    @property
    def message(self) -> str | None:
        """A sentence; None where all names are shared."""
        parts = []
        if self.unmatched.missing:
            parts.append(f"{self.path} lacks {_listed(self.unmatched.missing)}, which keep their initial values")
        if self.unmatched.left_over:
            parts.append(f"the model lacks {_listed(self.unmatched.left_over)} of {self.path}")
        return "; ".join(parts) or None

    def on_fit_begin(self, trainer: Trainer) -> None:
        """As a diagnosis, which is printed, and kept in the run's records."""
        trainer.diagnose("initial weights", self.message)


def _listed(names: list[str], most: int = 20) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
