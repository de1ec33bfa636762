"""The kernels for NumPy arrays; the contract is ``kernels/README.md``. Numba is imported when the first one is used."""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "adam_update": "optimizers",
    "check_finite": "optimizers",
    "bias_activation": "activations",
    "bias_activation_backward": "activations",
    "dropout": "dropout_mask",
    "linear": "linear_layer",
    "linear_backward": "linear_layer",
    "linear_softmax_cross_entropy": "linear_cross_entropy",
    "momentum_update": "optimizers",
    "sgd_update": "optimizers",
    "softmax_cross_entropy": "cross_entropy",
    "gather": "gather_rows",
}

__all__ = sorted(_HOMES)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
