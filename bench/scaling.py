"""How does the time of a training step, relative to its matrix products, depend on batch size, width and depth?

    python bench/scaling.py --json bench/results/scaling_cpu.json --plot bench/results/scaling_cpu.png

Each case is an SGD step of the trainer on a network with ReLUs, and its limit, as in bench/train_step.py. One of batch
size, width and depth (hidden layers) varies; the others are 128, 512 and 2.
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
    """A network with equal hidden layers; ``varied`` names the number that varies, ``value`` is its value."""

    varied: str = "batch"
    value: int = 0
    size: int = 0

    def __str__(self) -> str:
        return f"{self.varied} {self.value}"

    @property
    def batch_size(self) -> int:
        return self.size


def case(varied: str, value: int) -> Case:
    """The usual network, with one number changed."""
    numbers = USUAL | {varied: value}
    net = "-".join(map(str, (784, *[numbers["width"]] * numbers["depth"], 10)))
    return Case(net, "sgd", varied, value, numbers["batch"])


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Plot the ratio to the limit, a line for each number that varies."""
    from matplotlib.figure import Figure

    lines: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        varied, value = row["case"].split()
        if "ratio_to_limit" in row:
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
    figure.axes[0].set_ylabel("step time / time of its products")
    figure.savefig(path, dpi=120)


VALUES = {"batch": BATCHES, "width": WIDTHS, "depth": DEPTHS}
CASES = [case(varied, value) for varied, values in VALUES.items() for value in values]
CONTENDERS = {"limit": train_step.limit, "xpnet": train_step.xpnet}
BENCHMARK = timing.Benchmark(
    cases={"cpu": CASES, "cuda": CASES},
    contenders={"cpu": CONTENDERS, "cuda": CONTENDERS},
    facts=train_step.BENCHMARK.facts,
)

if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--plot", type=Path)
    options, others = parser.parse_known_args()
    measured = timing.run(BENCHMARK, others)
    if options.plot is not None:
        plot(measured, options.plot)
