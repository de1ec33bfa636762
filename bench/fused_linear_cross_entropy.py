"""How much time and memory do the last layer and its loss take, if the logits are computed in chunks?

    python bench/fused_linear_cross_entropy.py --json bench/results/fused_linear_cross_entropy_cpu.json
    python bench/fused_linear_cross_entropy.py --device cuda --json bench/results/fused_linear_cross_entropy_cuda.json

What is timed is the mean loss of x W + b and its gradients with respect to x, W and b. "materialised" is this project's
softmax cross-entropy on all logits, in a given array. The limit is the three matrix products alone. "extra_mib" is the
peak memory of a call, without its inputs and outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import timing
from softmax_cross_entropy import to_bfloat16
from timing import Contender

SAMPLE = 16  # columns of dW, first and last rows of dx, that are compared with float64
ROWS = [*range(SAMPLE), *range(-SAMPLE, 0)]
DRAWN_ROWS = 256  # of x; the others repeat them, with labels of their own, or the check would take minutes
DRAWN_WEIGHTS = 2**24  # the others repeat them too
COLUMNS = 4096  # of W that are converted to float64 at a time


@dataclass(frozen=True)
class Case:
    """A last layer."""

    rows: int
    inputs: int
    classes: int
    dtype: str = "float32"

    def __str__(self) -> str:
        return f"{self.rows}x{self.inputs} to {self.classes} {self.dtype}"

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """x, W, b and the labels."""
        rng = np.random.default_rng(0)
        x = np.resize(
            rng.standard_normal((min(self.rows, DRAWN_ROWS), self.inputs), np.float32), (self.rows, self.inputs)
        )
        drawn = rng.standard_normal(min(self.inputs * self.classes, DRAWN_WEIGHTS), np.float32)
        W = np.resize(drawn / np.float32(self.inputs**0.5), (self.inputs, self.classes))
        b = rng.standard_normal(self.classes, np.float32)
        return x, W, b, rng.integers(0, self.classes, self.rows)

    def check(self, loss: float, dx: np.ndarray, dW: np.ndarray, db: np.ndarray) -> dict[str, float]:
        """Compare the loss, some rows of dx, some columns of dW and of db with float64, relative to the largest."""
        x, W, b, labels = self.arrays()
        x, some = x.astype(np.float64), np.arange(SAMPLE)
        drawn, row = x[:DRAWN_ROWS], np.arange(self.rows) % min(self.rows, DRAWN_ROWS)
        parts = [slice(first, first + COLUMNS) for first in range(0, self.classes, COLUMNS)]
        z = np.concatenate([drawn @ W[:, part].astype(np.float64) for part in parts], axis=1) + b
        maximum = z.max(axis=1)
        log_sum_exp = np.log(np.exp(z - maximum[:, None]).sum(axis=1)) + maximum
        mean = (log_sum_exp[row] - z[row, labels]).mean()
        p = np.exp(z[row[ROWS]] - log_sum_exp[row[ROWS], None])
        p[np.arange(len(ROWS)), labels[ROWS]] -= 1
        exact_dx = sum(p[:, part] @ W[:, part].T.astype(np.float64) for part in parts) / self.rows
        p = np.exp(z[:, some] - log_sum_exp[:, None])[row] - (labels[:, None] == some)
        exact_dW, exact_db = x.T @ p / self.rows, p.sum(axis=0) / self.rows
        bound = 1e-5 if self.dtype == "float32" else 5e-2
        pairs = {"dx_error": (dx, exact_dx), "dW_error": (dW, exact_dW), "db_error": (db, exact_db)}
        errors = {name: (float(abs(a - e).max() / abs(e).max()), bound) for name, (a, e) in pairs.items()}
        return timing.within(loss_error=(float(abs(loss - mean) / mean), bound), **errors)


def xpnet(case: Case, device: str) -> Contender:
    """This project's fused layer."""
    x, W, b, labels = case.arrays()
    if device == "cuda":
        import cupy as xp
        from xpnet_kernels.cuda import linear_softmax_cross_entropy

        if case.dtype == "bfloat16":
            x, W, b = to_bfloat16(x), to_bfloat16(W), to_bfloat16(b)
        stream = xp.cuda.get_current_stream()
        run: Any = partial(linear_softmax_cross_entropy, stream=stream.ptr)
        measured: dict[str, Any] = {
            "synchronize": stream.synchronize,
            "peak_memory": xp.get_default_memory_pool().total_bytes,
        }
    else:
        import numpy as xp
        from xpnet_kernels.cpu import linear_softmax_cross_entropy as run

        measured = {}
    x, W, b, labels = (xp.asarray(array) for array in (x, W, b, labels))
    dx, dW, db = xp.full_like(x, 1), xp.full_like(W, 1), xp.full_like(b, 1)
    summary, losses = xp.zeros(4), xp.zeros(case.rows, np.float32)

    def call(rows: int = case.rows) -> None:
        part = slice(0, rows)
        run(x[part], W, b, labels[part], summary=summary, losses=losses[part], dx=dx[part], dW=dW, db=db)

    def check() -> dict[str, float]:
        return case.check(float(summary[0]), to_numpy(dx[ROWS]), to_numpy(dW[:, :SAMPLE]), to_numpy(db[:SAMPLE]))

    def to_numpy(array: Any) -> np.ndarray:
        array = array.get() if device == "cuda" else array
        return (array.astype(np.uint32) << 16).view(np.float32) if case.dtype == "bfloat16" else array

    call(rows=2)  # compiled, and the matrix products' own buffers made, before memory is measured
    return Contender(call, check, **measured)


def materialised(case: Case, device: str) -> Contender:
    """This project's softmax cross-entropy after and before NumPy's matrix products."""
    if device == "cuda":
        raise ImportError("on CUDA, PyTorch's is the layer that holds its logits")
    from xpnet_kernels.cpu import bias_activation, softmax_cross_entropy

    x, W, b, labels = case.arrays()
    dx, dW, db = np.full_like(x, 1), np.full_like(W, 1), np.full_like(b, 1)
    summary, losses, logits = np.zeros(4), np.zeros(case.rows, np.float32), None

    def call() -> None:
        nonlocal logits
        if logits is None:  # not before memory is measured
            logits = np.empty((case.rows, case.classes), np.float32)
        np.matmul(x, W, out=logits)
        bias_activation(logits, b, None, logits)
        softmax_cross_entropy(logits, labels, summary=summary, losses=losses, gradient=logits, in_place=True)
        np.matmul(logits, W.T, out=dx)
        np.matmul(x.T, logits, out=dW)
        np.sum(logits, axis=0, out=db)

    return Contender(call, lambda: case.check(float(summary[0]), dx[ROWS], dW[:, :SAMPLE], db[:SAMPLE]))


def limit(case: Case, device: str) -> Contender:
    """The three matrix products."""
    x, W, _, _ = case.arrays()
    if device == "cuda":
        import torch

        x, W = (torch.from_numpy(array).to(device, getattr(torch, case.dtype)) for array in (x, W))
        dz = torch.ones((case.rows, case.classes), dtype=x.dtype, device=device)

        def call() -> None:
            torch.matmul(x, W, out=dz)
            torch.matmul(dz, W.T)
            torch.matmul(x.T, dz)

        return Contender(call, synchronize=torch.cuda.synchronize)
    dz, dx, dW = np.empty((case.rows, case.classes), np.float32), np.empty_like(x), np.empty_like(W)

    def call() -> None:
        np.matmul(x, W, out=dz)
        np.matmul(dz, W.T, out=dx)
        np.matmul(x.T, dz, out=dW)

    return Contender(call)


def torch(case: Case, device: str, flavour: str = "eager") -> Contender:
    """PyTorch's two functions, run eagerly or compiled, or Liger-Kernel's fused one."""
    import torch

    torch.set_num_threads(timing.threads())
    dtype = getattr(torch, case.dtype)
    x, W, b, labels = (torch.from_numpy(array).to(device) for array in case.arrays())
    x, W, b = x.to(dtype).requires_grad_(), W.to(dtype).T.contiguous().requires_grad_(), b.to(dtype).requires_grad_()

    def layer(x: Any, W: Any, b: Any, labels: Any) -> Any:
        return torch.nn.functional.cross_entropy(torch.nn.functional.linear(x, W, b), labels)

    if flavour == "compiled":
        layer = torch.compile(layer)
    elif flavour == "liger":
        from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

        fused = LigerFusedLinearCrossEntropyLoss()

        def layer(x: Any, W: Any, b: Any, labels: Any) -> Any:
            return fused(W, x, labels, b)

    loss: Any = None

    def call(rows: int = case.rows) -> None:
        nonlocal loss
        x.grad = W.grad = b.grad = None
        loss = layer(x[:rows], W, b, labels[:rows])
        loss.backward()

    def check() -> dict[str, float]:
        gradients = (x.grad[ROWS], W.grad[:SAMPLE].T, b.grad[:SAMPLE])
        return case.check(loss.item(), *(gradient.float().cpu().numpy() for gradient in gradients))

    if device == "cuda":
        return Contender(call, check, torch.cuda.synchronize, torch.cuda.max_memory_allocated)
    call(rows=2)
    return Contender(call, check)


BENCHMARK = timing.Benchmark(
    cases={
        "cpu": [Case(2048, 512, 32000)],
        "cuda": [Case(8192, 4096, 32000, "bfloat16"), Case(8192, 4096, 128256, "bfloat16"), Case(4096, 1024, 32000)],
    },
    contenders={
        "cpu": {"limit": limit, "xpnet": xpnet, "materialised": materialised, "torch": torch},
        "cuda": {
            "limit": limit,
            "xpnet": xpnet,
            "torch": torch,
            "torch_compile": partial(torch, flavour="compiled"),
            "liger": partial(torch, flavour="liger"),
        },
    },
)

if __name__ == "__main__":
    timing.main(BENCHMARK)
