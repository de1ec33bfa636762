"""How does a training step's time grow with the batch, the width and the depth, over the time of its products?

    python bench/scaling.py --json bench/results/scaling_cpu.json --plot bench/results/scaling_cpu.png

Each case is the trainer's own SGD step on a network with ReLUs, as in bench/train_step.py; one of batch, width and
depth (hidden layers) varies, and the others stay at 128, 512 and 2. The limit is that of bench/train_step.py.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timing
import train_step

BATCHES = (32, 128, 512, 2048, 8192)
WIDTHS = (50, 128, 512, 1024, 2048, 4096)
DEPTHS = (2, 3, 4, 6, 8)
USUAL = {"batch": 128, "width": 512, "depth": 2}


@dataclass(frozen=True)
class Case(train_step.Case):
    """A network of equal hidden layers; ``varied`` and ``value`` say which of the three is not as usual."""

    varied: str = "batch"
    value: int = 0
    size: int = 0

    def __str__(self) -> str:
        return f"{self.varied} {self.value}"

    @property
    def batch_size(self) -> int:
        return self.size


def case(varied: str, value: int) -> Case:
    """The usual network but for one number."""
    numbers = USUAL | {varied: value}
    net = "-".join(map(str, (784, *[numbers["width"]] * numbers["depth"], 10)))
    return Case(net, "sgd", varied, value, numbers["batch"])


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Time over the limit, a line for each of the three."""
    from matplotlib.figure import Figure

    lines: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        varied, value = row["case"].split()
        lines.setdefault(varied, []).append((int(value), row["ratio_to_limit"]))
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    for axes, (varied, points) in zip(
        figure.subplots(1, len(lines), sharey=True, squeeze=False)[0], lines.items(), strict=True
    ):
        axes.plot(*zip(*points, strict=True), marker="o")
        axes.axhline(1, color="grey", linewidth=0.8)
        axes.set(xscale="log", xlabel=varied, xticks=[x for x, _ in points], xticklabels=[x for x, _ in points])
        axes.minorticks_off()
    figure.axes[0].set_ylim(bottom=0)
    figure.axes[0].set_ylabel("step time over that of its products")
    figure.savefig(path, dpi=120)


VALUES = {"batch": BATCHES, "width": WIDTHS, "depth": DEPTHS}
CASES = [case(varied, value) for varied, values in VALUES.items() for value in values]
CONTENDERS = {"limit": train_step.limit, "xpnet": train_step.xpnet}
BENCHMARK = timing.Benchmark(cases={"cpu": CASES, "cuda": CASES}, contenders={"cpu": CONTENDERS, "cuda": CONTENDERS})

if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--plot", type=Path)
    options, others = parser.parse_known_args()
    measured = timing.run(BENCHMARK, others)
    if options.plot is not None:
        plot(measured, options.plot)
