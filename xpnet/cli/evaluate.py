"""``xpnet evaluate``: loss and accuracy of a trained network."""

from __future__ import annotations

import argparse
import time
from typing import Any

from xpnet.cli.arguments import add_data_dir, add_device, add_model_file, model_file, say
from xpnet.cli.plugins import add_plugin

NAME = "evaluate"
HELP = "Measure the loss and accuracy of a checkpoint, a run's best checkpoint, or a book's pickle on a test set."
EXAMPLE = "xpnet evaluate runs/torch-mlp-1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    add_model_file(parser)
    parser.add_argument("--data", metavar="NAME|FILE", help="default: the data set it was trained on, else mnist")
    add_data_dir(parser)
    parser.add_argument("--batch-size", type=int, default=1000, metavar="N", help="samples at a time; default 1000")
    add_device(parser)
    add_plugin(parser)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Evaluate, and return the metrics."""
    import xpnet
    from xpnet import format_1, training
    from xpnet.layers.preprocessing import fit_preprocessing
    from xpnet.registry import build

    backend = xpnet.backend(options.device)
    path = model_file(options.file)
    model, metadata = training.load_model_and_metadata(path, backend)
    recipe = training.recipe_of(metadata, str(path)) if "recipe" in metadata else None
    name = options.data if options.data is not None else recipe.data if recipe else "mnist"
    dataset = xpnet.data.load(name, data_dir=options.data_dir)
    if recipe is None and metadata.get("upgraded_from") == 1:  # format 1 scaled the pixels outside the model
        rescale = xpnet.Rescale(format_1.pixel_range(dataset))
        model = xpnet.Sequential(rescale, model).initialize(backend, dtype=model.dtype)
    fit_preprocessing(model, dataset.x_train)  # a model of imported weights, or of format 1, may not be fitted yet
    say(f"device: {backend.name}   file: {path}   data: {dataset.name}")
    began = time.perf_counter()
    loss = build("loss", recipe.loss) if recipe and recipe.loss else xpnet.SoftmaxCrossEntropy()
    outcome = xpnet.evaluate(model, dataset.test, loss, batch_size=options.batch_size)
    metrics = {"accuracy": outcome.accuracy, "loss": outcome.loss, "samples": outcome.samples}
    return training.finite_or_null(
        {**metrics, "device": backend.name, "seconds": round(time.perf_counter() - began, 3)}
    )


def render(result: dict[str, Any]) -> str:
    """The metrics, for people."""
    loss = "not finite" if result["loss"] is None else f"{result['loss']:.4f}"
    accuracy = "not defined" if result["accuracy"] is None else f"{result['accuracy']:.4f}"  # by this loss
    return f"accuracy {accuracy}   loss {loss}   ({result['samples']} samples, {result['seconds']} s)"
