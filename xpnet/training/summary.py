"""The summary of a run, which the command line prints."""

from __future__ import annotations

from typing import Any

from xpnet.configuration import Recipe
from xpnet.data import Dataset, Samples, steps_per_epoch
from xpnet.training.callbacks import Record
from xpnet.training.evaluation import evaluate
from xpnet.training.run_folder import RunFolder
from xpnet.training.snapshots import load_model
from xpnet.training.trainer import Trainer

Summary = dict[str, Any]


def summarize(trainer: Trainer, recipe: Recipe, dataset: Dataset, samples: int, folder: RunFolder) -> Summary:
    """The metrics of a run so far, see :func:`xpnet.train`; ``samples`` is the size of its training set."""
    evaluations = [record for record in trainer.history if record["event"] == "evaluation"]
    final = evaluations[-1] if evaluations else {}
    return {
        "recipe": recipe.name,
        "data": dataset.name,
        "device": trainer.backend.name,
        "epochs": trainer.step // steps_per_epoch(samples, recipe.batch_size),
        "steps": trainer.step,
        "train_loss": final.get("train_loss"),
        **_metrics(recipe, final, trainer.best_accuracy),
        "seconds": round(trainer.training_seconds, 3),
        "samples_per_second": round(trainer.samples_seen / trainer.training_seconds, 1),
        "run_dir": str(folder.path),
        "diagnoses": [record["message"] for record in trainer.history if record["event"] == "diagnosis"],
    }


def _metrics(recipe: Recipe, final: Record, best_accuracy: float | None) -> Summary:
    """The metrics before the test set is measured; under ``validate_on_test`` they are called those of the test set."""
    validation = {name: final.get(f"validation_{name}") for name in ("loss", "accuracy")}
    if recipe.validate_on_test:
        metrics = {f"test_{name}": value for name, value in validation.items()}
        return {**metrics, "best_test_accuracy": best_accuracy}
    unmeasured: Summary = {"test_loss": None, "test_accuracy": None}
    if recipe.validation_fraction == 0.0:
        return unmeasured
    metrics = {f"validation_{name}": value for name, value in validation.items()}
    return {**metrics, "best_validation_accuracy": best_accuracy, **unmeasured}


def measure_test(trainer: Trainer, samples: Samples, folder: RunFolder) -> Summary:
    """Evaluate the best checkpoint, or the last one without validation, on the test set, and record it."""
    chosen = trainer.best_step is not None
    outcome = evaluate(load_model(folder.best if chosen else folder.last, trainer.backend), samples, trainer.loss)
    metrics = {"test_loss": outcome.loss, "test_accuracy": outcome.accuracy}
    folder.add({"event": "test", "step": trainer.best_step if chosen else trainer.step, **metrics})
    return metrics
