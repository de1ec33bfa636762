"""How long does the fused softmax cross-entropy take, compared with a copy of its logits and with PyTorch?

    python bench/softmax_cross_entropy.py --json bench/results/softmax_cross_entropy_cpu.json
    python bench/softmax_cross_entropy.py --device cuda --json bench/results/softmax_cross_entropy_cuda.json

What is timed is the mean loss and its gradient with respect to the logits. "xpnet" writes the gradient to a given
array, "xpnet_fresh" to a new one in each call, "xpnet_in_place" over the logits; "xpnet_forward" computes the loss
alone. The limit copies the logits, with as many threads. Liger-Kernel also overwrites the logits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import timing
from timing import Contender

SAMPLE_ROWS = [0, 1, 2, 3, -4, -3, -2, -1]  # whose gradient is compared with float64
DRAWN_ROWS = 256  # the others repeat them, with labels of their own: drawing gigabytes would take longer than the rest


@dataclass(frozen=True)
class Case:
    """A batch of random logits."""

    rows: int
    classes: int
    dtype: str = "float32"

    def __str__(self) -> str:
        return f"{self.rows}x{self.classes} {self.dtype}"

    def drawn(self) -> tuple[np.ndarray, np.ndarray]:
        """The first rows of logits, which the others repeat, and all labels."""
        rng = np.random.default_rng(0)
        logits = rng.standard_normal((min(self.rows, DRAWN_ROWS), self.classes), np.float32)
        if self.dtype == "bfloat16":
            logits = from_bfloat16(to_bfloat16(logits))
        return logits, rng.integers(0, self.classes, self.rows)

    def check(self, loss: float, gradient: np.ndarray | None) -> dict[str, float]:
        """Compare the mean loss, and some rows of the gradient times the number of rows, with float64."""
        drawn, labels = self.drawn()
        row = np.arange(self.rows) % len(drawn)
        z = drawn.astype(np.float64)
        maximum = z.max(axis=1)
        log_sum_exp = np.log(np.exp(z - maximum[:, None]).sum(axis=1)) + maximum
        exact = (log_sum_exp[row] - z[row, labels]).mean()
        bound = 5e-6 if self.dtype == "float32" else 1e-2
        errors = {"loss_error": (abs(loss - exact), bound)}
        if gradient is not None:
            p = np.exp(z[row[SAMPLE_ROWS]] - log_sum_exp[row[SAMPLE_ROWS], None])
            p[np.arange(len(p)), labels[SAMPLE_ROWS]] -= 1
            errors["gradient_error"] = (np.abs(self.rows * gradient.astype(np.float64) - p).max(), bound)
        return timing.within(**errors)


def to_bfloat16(array: np.ndarray) -> np.ndarray:
    """The bits of the nearest bfloat16 numbers, ties to even."""
    bits = array.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def from_bfloat16(bits: np.ndarray) -> np.ndarray:
    """The numbers of such bits, in float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def xpnet(case: Case, device: str, output: str = "given") -> Contender:
    """This project's kernel."""
    logits, labels = case.drawn()
    if device == "cuda":
        import cupy as xp
        from xpnet_kernels.cuda import softmax_cross_entropy

        logits = to_bfloat16(logits) if case.dtype == "bfloat16" else logits
        run: Callable[..., None] = partial(softmax_cross_entropy, stream=xp.cuda.get_current_stream().ptr)
        memory: dict[str, Any] = {
            "synchronize": xp.cuda.get_current_stream().synchronize,
            "peak_memory": xp.get_default_memory_pool().total_bytes,
        }
    else:
        import numpy as xp
        from xpnet_kernels.cpu import softmax_cross_entropy as run

        memory = {}
    logits, labels = xp.tile(xp.asarray(logits), (-(-case.rows // len(logits)), 1))[: case.rows], xp.asarray(labels)
    summary, losses = xp.zeros(4), xp.zeros(case.rows, np.float32)
    gradient = {"given": xp.full_like(logits, 1), "in_place": logits}.get(output)
    few = logits[:2].copy()
    run(few, labels[:2], summary=summary, losses=losses[:2], gradient=few, in_place=True)  # compiled before it is timed

    def into_given() -> None:
        run(logits, labels, summary=summary, losses=losses, gradient=gradient)

    def into_fresh() -> None:
        nonlocal gradient
        gradient = xp.empty_like(logits)
        run(logits, labels, summary=summary, losses=losses, gradient=gradient)

    def in_place() -> None:
        run(logits, labels, summary=summary, losses=losses, gradient=logits, in_place=True)

    call = {"fresh": into_fresh, "in_place": in_place}.get(output, into_given)

    def check() -> dict[str, float]:
        sample = None if gradient is None else to_numpy(gradient[SAMPLE_ROWS])
        return case.check(float(summary[0]), sample)

    def to_numpy(array: Any) -> np.ndarray:
        array = array.get() if device == "cuda" else array
        return from_bfloat16(array) if case.dtype == "bfloat16" else array

    return Contender(call, check, **memory)


def limit(case: Case, device: str) -> Contender:
    """A copy of the logits."""
    if device == "cuda":
        import cupy

        item = {"float32": np.float32, "bfloat16": np.uint16}[case.dtype]
        source, target = cupy.ones((2, case.rows, case.classes), item)
        return Contender(lambda: cupy.copyto(target, source), synchronize=cupy.cuda.get_current_stream().synchronize)
    from xpnet_kernels.cpu.threads.pool import over_rows

    source, target = np.ones((2, case.rows, case.classes), np.float32)
    return Contender(lambda: over_rows(lambda i, j: np.copyto(target[i:j], source[i:j]), case.rows, case.classes))


def torch(case: Case, device: str, flavour: str = "eager") -> Contender:
    """PyTorch's function, run eagerly or compiled, or Liger-Kernel's."""
    import torch

    torch.set_num_threads(timing.threads())
    cross_entropy: Callable[..., Any] = torch.nn.functional.cross_entropy
    if flavour == "compiled":
        cross_entropy = torch.compile(cross_entropy)
    elif flavour == "liger":
        from liger_kernel.transformers import LigerCrossEntropyLoss

        cross_entropy = LigerCrossEntropyLoss()
    drawn, labels = (torch.from_numpy(array).to(device) for array in case.drawn())
    logits = drawn.to(getattr(torch, case.dtype)).repeat(-(-case.rows // len(drawn)), 1)[: case.rows].requires_grad_()
    few = logits[:2].detach().clone().requires_grad_()
    cross_entropy(few, labels[:2]).backward()
    loss = None

    def call() -> None:
        nonlocal loss
        logits.grad = None
        loss = cross_entropy(logits, labels)
        loss.backward()

    def check() -> dict[str, float]:
        return case.check(loss.item(), logits.grad[SAMPLE_ROWS].float().cpu().numpy())

    if device == "cuda":
        return Contender(call, check, torch.cuda.synchronize, torch.cuda.max_memory_allocated)
    return Contender(call, check)


BOTH = {
    "limit": limit,
    "xpnet": xpnet,
    "xpnet_in_place": partial(xpnet, output="in_place"),
    "xpnet_fresh": partial(xpnet, output="fresh"),
    "xpnet_forward": partial(xpnet, output="none"),
    "torch": torch,
}
BENCHMARK = timing.Benchmark(
    cases={
        "cpu": [Case(100, 10), Case(4096, 1000), Case(2048, 32000), Case(512, 128256)],
        "cuda": [
            Case(rows, classes, dtype)  # the most telling first, since there may be no time for all
            for rows, classes in (
                (4096, 1000), (8192, 32000), (8192, 128256), (32768, 4096), (100, 10), (32768, 1024), (32768, 16384),
            )
            for dtype in ("float32", "bfloat16")
        ],
    },
    contenders={
        "cpu": BOTH,
        "cuda": BOTH | {"torch_compile": partial(torch, flavour="compiled"), "liger": partial(torch, flavour="liger")},
    },
)  # fmt: skip

if __name__ == "__main__":
    timing.main(BENCHMARK)
