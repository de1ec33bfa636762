"""Do the recipes reproduce the published figures? Trains each with several seeds, on the real data.

    python bench/reference_systems.py --json bench/results/reference_systems.json

MNIST, Fashion-MNIST and the book's weights must be in the folder that XPNET_DATA_DIR names.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import xpnet
from xpnet import training

PUBLISHED = {
    "book-pretrained": "accuracy 0.9352",
    "keras-sigmoid": "test accuracy 0.9692, loss 0.1068",
    "book-two-layer": "raw pixels: 0.1136; pixels / 255 (re-run): 0.961 to 0.965",
    "book-two-layer-raw": "test accuracy 0.1136",
    "torch-mlp": "0.9621 (re-run: 0.976 to 0.980)",
    "naive-dense": "accuracy 0.82, last losses 0.67 0.70 0.59 0.66 0.75",
    "digits": "none",
    "mnist-conv": "none",
    "mnist-best": "none",
    "fashion": "none",
}
COLUMNS = ("test_accuracy", "best_test_accuracy", "test_loss", "seconds", "diagnoses")


def train_once(name: str, seed: int, device: str) -> dict[str, object]:
    """One row: the figures of a run, and the batch losses of its first and last epoch."""
    recipe = xpnet.load_recipe(name)
    if not recipe.validate_on_test:  # the published figures are of training on the whole training set
        recipe = recipe.with_options(validation_fraction=0.0)
    with tempfile.TemporaryDirectory() as folder:
        dataset = xpnet.data.load(recipe.data)
        began = time.process_time()
        figures = training.train(recipe, dataset, xpnet.backend(device), seed=seed, out=Path(folder))
        cpu_seconds = round(time.process_time() - began, 1)
        lines = (Path(folder) / "metrics.jsonl").read_text().splitlines()
    batches = [record for record in map(json.loads, lines) if record["event"] == "batch"]
    losses = {
        f"{which}_epoch_losses": [round(b["loss"], 2) for b in batches if b["epoch"] == batches[place]["epoch"]][:6]
        for which, place in (("first", 0), ("last", -1))
    }
    return {
        "case": name,
        "seed": seed,
        **{column: figures.get(column) for column in COLUMNS},
        "cpu_seconds": cpu_seconds,
        **losses,
    }


def evaluate_book(device: str, data_dir: Path) -> list[dict[str, object]]:
    """The pretrained network, one image at a time and in batches of 100."""
    model = training.load_model(data_dir / "weights" / "sample_weight.pkl", xpnet.backend(device))
    mnist = xpnet.data.load("mnist")
    outcomes = {size: xpnet.evaluate(model, mnist.test, batch_size=size) for size in (1, 100)}
    return [{"case": f"book-pretrained batch {n}", "test_accuracy": o.accuracy} for n, o in outcomes.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", default=",".join(name for name in PUBLISHED if name != "book-pretrained"))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    data_dir = os.environ.get("XPNET_DATA_DIR")
    if data_dir and (Path(data_dir) / "weights").is_dir():
        rows += evaluate_book(options.device, Path(data_dir))
    else:
        print("book-pretrained: skipped, XPNET_DATA_DIR names no folder with weights/sample_weight.pkl")
    for name in options.recipes.split(","):
        rows += [train_once(name, int(seed), options.device) for seed in options.seeds.split(",")]
        for row in rows[-len(options.seeds.split(",")) :]:
            print({key: value for key, value in row.items() if key != "diagnoses"}, flush=True)
    if options.json:
        machine = {"python": platform.python_version(), "numpy": np.__version__, "machine": platform.machine()}
        machine["blas_threads"] = os.environ.get("OPENBLAS_NUM_THREADS", "default")
        command = f"python bench/reference_systems.py {' '.join(sys.argv[1:])}"
        result = {"command": command, "device": options.device, **machine, "published": PUBLISHED, "rows": rows}
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
