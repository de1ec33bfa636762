"""A run's outcome: what the command line prints."""

from __future__ import annotations

from typing import Any

from xpnet.configuration import Recipe
from xpnet.data import Dataset, Samples, steps_per_epoch
from xpnet.training.evaluation import evaluate
from xpnet.training.run_folder import RunFolder
from xpnet.training.snapshots import load_model
from xpnet.training.trainer import Trainer

Summary = dict[str, Any]


def summarize(trainer: Trainer, recipe: Recipe, dataset: Dataset, samples: int, folder: RunFolder) -> Summary:
    """The figures of a run as far as it went, see :func:`xpnet.train`; ``samples`` are those it trained on."""
    evaluations = [record for record in trainer.history if record["event"] == "evaluation"]
    final = evaluations[-1] if evaluations else {}
    chosen_by_test = recipe.validation_fraction is None
    validation = () if chosen_by_test else ("validation_loss", "validation_accuracy", "best_validation_accuracy")
    return {
        "recipe": recipe.name,
        "data": dataset.name,
        "device": trainer.backend.name,
        "epochs": trainer.step // steps_per_epoch(samples, recipe.batch_size),
        "steps": trainer.step,
        "train_loss": final.get("train_loss"),
        **{name: final.get(name) for name in validation},
        "test_loss": final.get("test_loss"),
        "test_accuracy": final.get("test_accuracy"),
        "best_test_accuracy": trainer.best_accuracy if chosen_by_test else None,
        "seconds": round(trainer.training_seconds, 3),
        "samples_per_second": round(trainer.samples_seen / trainer.training_seconds, 1),
        "run_dir": str(folder.path),
        "diagnoses": [record["message"] for record in trainer.history if record["event"] == "diagnosis"],
    }


def evaluate_best(trainer: Trainer, samples: Samples, folder: RunFolder) -> Summary:
    """Evaluate the run's best checkpoint on samples that nothing was chosen by, and tell the folder."""
    outcome = evaluate(load_model(folder.best, trainer.backend), samples, trainer.loss)
    figures = {"test_loss": outcome.loss, "test_accuracy": outcome.accuracy}
    folder.add({"event": "test", "step": trainer.best_step, **figures})
    return {**figures, "best_test_accuracy": outcome.accuracy}
