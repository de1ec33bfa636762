"""How long do the fused optimizer updates take, compared with a copy of as many bytes and with PyTorch?

    python bench/optimizers.py --json bench/results/optimizers_cpu.json
    python bench/optimizers.py --device cuda --json bench/results/optimizers_cuda.json

All vectors are float32. The limit copies as many bytes as the step must read and write, with as many threads: seven
floats a parameter for Adam, five for momentum, three for SGD. PyTorch's optimizers are its fused ones. In the case
"decayed", the gradients have been zero until the first moments are denormal numbers, as for pixels that are rarely lit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import timing
from timing import Contender

FLOATS_MOVED = {"adam": 7, "momentum": 5, "sgd": 3}
RATE, MOMENTUM, BETAS, EPSILON = 1e-3, 0.9, (0.9, 0.999), 1e-8


@dataclass(frozen=True)
class Case:
    """An optimizer and the length of its vectors."""

    optimizer: str
    parameters: int
    decayed: bool = False

    def __str__(self) -> str:
        return f"{self.optimizer} {self.parameters}" + (" decayed" * self.decayed)

    def vectors(self) -> tuple[np.ndarray, np.ndarray]:
        """Values and gradients."""
        rng = np.random.default_rng(0)
        values, gradients = rng.standard_normal((2, self.parameters), np.float32)
        return values, gradients * (not self.decayed)

    def check(self, values: np.ndarray) -> dict[str, float]:
        """Compare the values after one step, from moments of zero, with the equation in float64."""
        start, g = (vector.astype(np.float64) for vector in self.vectors())
        step = g / (np.abs(g) + EPSILON) if self.optimizer == "adam" else g
        return timing.within(error=(float(np.abs(values - (start - RATE * step)).max()), 1e-6))


def xpnet(case: Case, device: str) -> Contender:
    """This project's kernels."""
    if device == "cuda":
        import cupy as xp
        from xpnet_kernels import cuda as kernels

        stream = xp.cuda.get_current_stream()
        options: dict[str, Any] = {"stream": stream.ptr}
        measured: dict[str, Any] = {"synchronize": stream.synchronize}
    else:
        import numpy as xp
        from xpnet_kernels import cpu as kernels

        options, measured = {}, {}
    values, gradients = (xp.asarray(vector) for vector in case.vectors())
    moments = [xp.full_like(values, 0) for _ in range(FLOATS_MOVED[case.optimizer] // 2 - 1)]
    hyperparameters = {
        "adam": (RATE, *BETAS, EPSILON, 1 - BETAS[0], 1 - BETAS[1], 0.0),
        "momentum": (RATE, MOMENTUM, 0.0),
        "sgd": (RATE,),
    }[case.optimizer]
    on_device = xp.asarray(np.array(hyperparameters))
    update = getattr(kernels, f"{case.optimizer}_update")

    few = slice(0, 0)
    update(values[few], gradients[few], *(moment[few] for moment in moments), on_device, **options)  # compiles it

    def call() -> None:
        update(values, gradients, *moments, on_device, **options)

    def check() -> dict[str, float]:
        error = case.check(values if device == "cpu" else values.get())
        if case.decayed:
            for moment in moments:
                moment[...] = 1e-39
        return error

    return Contender(call, check, **measured)


def limit(case: Case, device: str) -> Contender:
    """A copy of half as many bytes, each of which is read and written."""
    size = FLOATS_MOVED[case.optimizer] * case.parameters // 2
    if device == "cuda":
        import cupy

        source, target = cupy.ones((2, size), np.float32)
        return Contender(lambda: cupy.copyto(target, source), synchronize=cupy.cuda.get_current_stream().synchronize)
    from xpnet_kernels.cpu.threads.pool import over_rows

    source, target = np.ones((2, size), np.float32)
    return Contender(lambda: over_rows(lambda i, j: np.copyto(target[i:j], source[i:j]), size, 1))


def torch(case: Case, device: str) -> Contender:
    """PyTorch's fused optimizers."""
    import torch

    torch.set_num_threads(timing.threads())
    values, gradients = (torch.from_numpy(vector).to(device) for vector in case.vectors())
    values.requires_grad_().grad = gradients
    optimizer: torch.optim.Optimizer
    if case.optimizer == "adam":
        optimizer = torch.optim.Adam([values], RATE, BETAS, EPSILON, fused=True)
    else:
        momentum = MOMENTUM if case.optimizer == "momentum" else 0.0
        optimizer = torch.optim.SGD([values], RATE, momentum, fused=True)

    def check() -> dict[str, float]:
        error = case.check(values.detach().cpu().numpy())
        if case.decayed:
            for moment in ("exp_avg", "exp_avg_sq"):
                optimizer.state[values][moment].fill_(1e-39)
        return error

    return Contender(optimizer.step, check, torch.cuda.synchronize if device == "cuda" else lambda: None)


CASES = [
    *(Case("adam", parameters) for parameters in (40_000, 650_000, 4_000_000)),
    Case("adam", 4_000_000, decayed=True),
    *(Case(name, parameters) for name in ("momentum", "sgd") for parameters in (40_000, 650_000, 4_000_000)),
]
CONTENDERS = {"limit": limit, "xpnet": xpnet, "torch": torch}
BENCHMARK = timing.Benchmark(
    cases={"cpu": CASES, "cuda": [*CASES, Case("adam", 100_000_000)]},
    contenders={"cpu": CONTENDERS, "cuda": CONTENDERS},
)

if __name__ == "__main__":
    timing.main(BENCHMARK)
