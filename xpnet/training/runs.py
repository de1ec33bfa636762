"""A recipe, trained from beginning to end in a folder of its own; and resumed."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from xpnet import checkpoint
from xpnet.backends import Backend
from xpnet.configuration import Recipe, build, recipe_from_table
from xpnet.data import SAMPLERS, Dataset, steps_per_epoch
from xpnet.errors import ConfigurationError, FileFormatError, ShapeError, positive_integer
from xpnet.layers import Sequential
from xpnet.training.callbacks import Callback
from xpnet.training.run_folder import RunFolder, create_run_folder, finite_or_null
from xpnet.training.snapshots import model_from
from xpnet.training.trainer import Trainer

Summary = dict[str, Any]


def train(
    recipe: Recipe,
    dataset: Dataset,
    backend: Backend,
    *,
    seed: int = 0,
    out: str | Path | None = None,
    stop_after_epoch: int | None = None,
    callbacks: Iterable[Callback] = (),
) -> Summary:
    """Train a recipe from the start; a stop (:meth:`Trainer.stop`) or a crash leaves what ``resume`` goes on with.

    Args:
        recipe: what to do.
        dataset: what ``recipe.data`` names, loaded.
        backend: where.
        seed: of initial weights and of the order of samples.
        out: the run's folder, new or empty; None: the next free one under ``runs``.
        stop_after_epoch: stop early there, to be resumed.
        callbacks: who watches.

    Returns:
        What the command line prints: recipe, data, device, epochs, steps, train_loss, test_loss, test_accuracy,
        best_test_accuracy, seconds, samples_per_second, run_dir, diagnoses. Numbers that are not finite are None.

    >>> import tempfile, xpnet
    >>> recipe = xpnet.load_recipe("digits").with_options(epochs=1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = train(recipe, xpnet.data.load("digits"), xpnet.backend("cpu-reference"), out=Path(folder))
    >>> run["steps"], run["test_accuracy"] > 0.5
    (45, True)
    """
    require_trainable(recipe)
    model = recipe.build_model()
    _require_fit(model, dataset, recipe)
    if stop_after_epoch is not None:
        positive_integer("stop_after_epoch", stop_after_epoch)
    seed = operator.index(seed)
    model.initialize(backend, seed)
    path = create_run_folder(None if out is None else Path(out), recipe.name)
    with RunFolder(path, _metadata(recipe, dataset)) as folder:
        folder.require_new()
        return _fit(recipe, dataset, model, folder, seed, stop_after_epoch, callbacks)


def resume(
    folder: str | Path,
    backend: Backend,
    load_data: Callable[[str], Dataset],
    *,
    data: str | None = None,
    epochs: int | None = None,
    checkpoint_every: int | None = None,
    on_nonfinite: str | None = None,
    stop_after_epoch: int | None = None,
    callbacks: Iterable[Callback] = (),
) -> Summary:
    """Go on with a run from its last checkpoint, by the run's own configuration.

    Args:
        folder: the run's.
        backend: where; may be another than before.
        load_data: called with the recipe's data name, returns the data set.
        data: where the same data is now, if no longer where the recipe says.
        epochs: train up to this many in all. An evaluation that was due only because the run ended there stays in
            the history.
        checkpoint_every: steps between checkpoints from now on.
        on_nonfinite: what becomes from now on of steps that are not finite: "stop" or "skip".
        stop_after_epoch: stop early there.
        callbacks: who watches.

    Returns:
        As ``train``.
    """
    run = RunFolder(Path(folder), {})
    run.require_saved()
    with run:
        saved = checkpoint.load(run.last)
        recipe = recipe_of(saved.metadata, str(run.last))
        recipe = recipe.with_options(
            data=data, epochs=epochs, checkpoint_every=checkpoint_every, on_nonfinite=on_nonfinite
        )
        dataset = load_data(recipe.data)
        if saved.metadata.get("fingerprint") != dataset.fingerprint:
            raise ConfigurationError(
                f"{recipe.data} is not what the run in {folder} was trained on: name the same data, with --data-dir "
                "or, where its file has moved, with --data"
            )
        run.metadata = _metadata(recipe, dataset)
        model = model_from(saved, backend, str(run.last))
        return _fit(recipe, dataset, model, run, saved.metadata.get("seed", 0), stop_after_epoch, callbacks, saved)


def _metadata(recipe: Recipe, dataset: Dataset) -> dict[str, Any]:
    return {"recipe": recipe.to_table(), "fingerprint": dataset.fingerprint}


def recipe_of(metadata: dict[str, Any], origin: str) -> Recipe:
    """The recipe that a checkpoint's metadata carries."""
    if "recipe" not in metadata:
        raise FileFormatError(f"{origin} does not say by which recipe it was trained")
    return recipe_from_table(metadata["recipe"])


def _fit(
    recipe: Recipe,
    dataset: Dataset,
    model: Sequential,
    folder: RunFolder,
    seed: int,
    stop_after_epoch: int | None,
    callbacks: Iterable[Callback],
    saved: Any = None,
) -> Summary:
    loss, optimizer = build("loss", recipe.loss or {}), build("optimizer", recipe.optimizer or {})
    trainer = Trainer(
        model, loss, optimizer, seed=seed, callbacks=[*callbacks, folder], on_nonfinite=recipe.on_nonfinite
    )
    if saved is not None:
        folder.restore(trainer, saved)
        _require_more(trainer, recipe, dataset, folder, stop_after_epoch)
    pixel_range = dataset.pixel_range if recipe.scale else 1.0
    with folder.naming_last():
        trainer.fit(
            dataset.train._replace(pixel_range=pixel_range),
            validation=dataset.test._replace(pixel_range=pixel_range),
            epochs=recipe.epochs,
            steps=recipe.steps,
            batch_size=recipe.batch_size,
            sampler=SAMPLERS[recipe.sampler](),
            evaluate_every=recipe.evaluate_every,
            evaluate_train=recipe.evaluate_train,
            checkpoint_every=recipe.checkpoint_every,
            stop_after_epoch=stop_after_epoch,
        )
    return _summarize(trainer, recipe, dataset, folder)


def _summarize(trainer: Trainer, recipe: Recipe, dataset: Dataset, folder: RunFolder) -> Summary:
    evaluations = [record for record in trainer.history if record["event"] == "evaluation"]
    final = evaluations[-1] if evaluations else {}
    summary = {
        "recipe": recipe.name,
        "data": dataset.name,
        "device": trainer.backend.name,
        "epochs": trainer.step // steps_per_epoch(len(dataset.x_train), recipe.batch_size),
        "steps": trainer.step,
        "train_loss": final.get("train_loss"),
        "test_loss": final.get("test_loss"),
        "test_accuracy": final.get("test_accuracy"),
        "best_test_accuracy": trainer.best_accuracy,
        "seconds": round(trainer.training_seconds, 3),
        "samples_per_second": round(trainer.samples_seen / trainer.training_seconds, 1),
        "run_dir": str(folder.path),
        "diagnoses": [record["message"] for record in trainer.history if record["event"] == "diagnosis"],
    }
    return finite_or_null(summary)


def require_trainable(recipe: Recipe) -> None:
    """Raise ConfigurationError, pointing to ``evaluate``, for a recipe that only infers."""
    if recipe.weights is not None:
        raise ConfigurationError(
            f"the recipe {recipe.name} has ready weights and is not trained: run 'xpnet evaluate {recipe.weights}' "
            "(a file of the book; name its path)"
        )


def _require_fit(model: Sequential, dataset: Dataset, recipe: Recipe) -> None:
    try:
        outputs = model.output_shape(dataset.sample_shape)
    except ShapeError as error:
        raise ShapeError(
            f"the recipe {recipe.name} does not fit the data set {dataset.name}, whose samples have the shape "
            f"{dataset.sample_shape}: {error}"
        ) from None
    if outputs != (dataset.classes,):
        raise ShapeError(
            f"the recipe {recipe.name} gives {outputs[0]} outputs, but {dataset.name} has {dataset.classes} classes"
        )


def _require_more(
    trainer: Trainer, recipe: Recipe, dataset: Dataset, folder: RunFolder, stop_after_epoch: int | None
) -> None:
    per_epoch = steps_per_epoch(len(dataset.x_train), recipe.batch_size)
    total = recipe.steps or recipe.epochs * per_epoch  # type: ignore[operator]
    done = trainer.step // per_epoch
    if trainer.step >= total:
        raise ConfigurationError(
            f"the run in {folder.path} is complete ({done} epochs, {trainer.step} steps): to train on, give --epochs "
            f"with more than {done}"
        )
    if stop_after_epoch is not None and trainer.step >= stop_after_epoch * per_epoch:
        raise ConfigurationError(
            f"the run in {folder.path} already has {done} epochs: --stop-after-epoch must be more than {done}"
        )
