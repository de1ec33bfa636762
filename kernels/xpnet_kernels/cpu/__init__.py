"""The kernels for NumPy arrays; the contract is ``kernels/README.md``. Numba is imported at the first use of a kernel.

The kernel ``gather`` is in the module ``_gather``, and so on. Without the underscore, importing the module would hide
the function of the same name.
"""

from __future__ import annotations

import importlib
from typing import Any

__all__ = [
    "adam_update",
    "bias_activation",
    "bias_activation_backward",
    "check_finite",
    "dropout",
    "gather",
    "linear",
    "linear_backward",
    "linear_softmax_cross_entropy",
    "momentum_update",
    "sgd_update",
    "softmax_cross_entropy",
]

end_step = None  # on CUDA alone; a caller that looks for it in each step finds this sooner than nothing


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}._{name}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
