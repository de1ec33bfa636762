"""Runs: a recipe trained in a folder of its own, and resumed."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from xpnet import checkpoint, format_1
from xpnet.backends import Backend
from xpnet.configuration import Recipe, recipe_from_table
from xpnet.data import SAMPLERS, Dataset, steps_per_epoch
from xpnet.errors import ConfigurationError, FileFormatError, ShapeError, one_of, positive_integer
from xpnet.layers import Sequential
from xpnet.registry import build
from xpnet.training.callbacks import Callback
from xpnet.training.csv_log import CSVLog
from xpnet.training.early_stopping import EarlyStopping
from xpnet.training.initial_weights import ReportUnmatched, load_weights
from xpnet.training.run_folder import RunFolder, create_run_folder, finite_or_null
from xpnet.training.run_sets import RunSets
from xpnet.training.snapshots import model_from
from xpnet.training.summary import Summary, measure_test, summarize
from xpnet.training.tensorboard_log import TensorBoardLog, require_tensorboard
from xpnet.training.trainer import Trainer


def train(
    recipe: Recipe,
    dataset: Dataset,
    backend: Backend,
    *,
    seed: int = 0,
    out: str | Path | None = None,
    weights: str | Path | None = None,
    stop_after_epoch: int | None = None,
    callbacks: Iterable[Callback] = (),
) -> Summary:
    """Train a recipe from the start; after a stop (:meth:`Trainer.stop`) or a crash, ``resume`` continues the run.

    Args:
        recipe: what to train, and how.
        dataset: what ``recipe.data`` names, loaded.
        backend: the device.
        seed: of initial weights, of the order of samples, and of the part that is set aside for validation.
        out: the run's folder, new or empty; None: the next free one under ``runs``.
        weights: a checkpoint to start from, see :func:`~xpnet.training.load_weights`. Names that only the model or only
            the file has are told as a diagnosis.
        stop_after_epoch: stop early there, to be resumed.
        callbacks: called at the moments of the run, before the run's own.

    Returns:
        What the command line prints: recipe, data, device, epochs, steps, train_loss, validation_loss,
        validation_accuracy, best_validation_accuracy, test_loss, test_accuracy, seconds, samples_per_second, run_dir,
        diagnoses. Numbers that are not finite are None.

        The figures of the test set are those of ``best.safetensors``, measured once, when the run is complete, and None
        before. Without validation (a fraction of 0) they are those of ``last.safetensors``, and there are no
        validation figures. Under ``validate_on_test`` the figures of the evaluations are called test_loss,
        test_accuracy and best_test_accuracy instead. With early stopping, also stopped_early.

    Raises:
        ConfigurationError: the recipe is not to be trained, or cannot be with these data.
        ShapeError: the network does not fit the data.
        RunFolderError: the folder is not empty, or the disk refuses.
        NonFiniteError: a step was not finite; the last good checkpoint stays.

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
    sets = RunSets.of(recipe, dataset, seed)
    if "tensorboard" in (recipe.logs or []):
        require_tensorboard()
    model.initialize(backend, seed)
    if weights is not None:
        callbacks = [*callbacks, ReportUnmatched(load_weights(model, weights), weights)]
    callbacks = [*callbacks, *recipe.build_callbacks()]
    path = create_run_folder(None if out is None else Path(out), recipe.name)
    with RunFolder(path, _metadata(recipe, dataset)) as folder:
        folder.require_new()
        return _fit(recipe, dataset, sets, model, folder, seed, stop_after_epoch, callbacks)


def resume(
    folder: str | Path,
    backend: Backend,
    load_data: Callable[[str], Dataset],
    *,
    data: str | None = None,
    stop_after_epoch: int | None = None,
    callbacks: Iterable[Callback] = (),
    **options: Any,
) -> Summary:
    """Continue a run from its last checkpoint, with the run's own configuration.

    Args:
        folder: the run's.
        backend: the device; it may be another than before.
        load_data: called with the recipe's data name, returns the data set.
        data: where the same data is now, if no longer where the recipe says.
        stop_after_epoch: stop early there.
        callbacks: called at the moments of the run, before the run's own.
        **options: training options that change from now on: those that docs/training-options.md marks as resumable.
            More epochs or steps are refused under a learning-rate schedule that depends on their number; an evaluation
            that was due only because the run ended there stays in the history, and what a schedule saw of it counts.
            Early stopping goes by the whole history, and a new log has the whole of it.

    Returns:
        As ``train``.

    Raises:
        MissingFileError: the folder holds no run.
        FileFormatError: its checkpoint, or its metrics, are damaged.
        ConfigurationError: other data than before, an option that is not resumable or has a wrong value, or nothing
            left to do.
        RunFolderError: another process is in the folder, or the disk refuses.

    >>> import tempfile, xpnet
    >>> recipe, cpu = xpnet.load_recipe("digits").with_options(epochs=2), xpnet.backend("cpu-reference")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     begun = train(recipe, xpnet.data.load("digits"), cpu, out=folder, stop_after_epoch=1)
    ...     run = resume(folder, cpu, xpnet.data.load)
    >>> begun["steps"], run["steps"]
    (45, 90)
    """
    run = RunFolder(Path(folder), {})
    run.require_saved()
    with run:
        saved = checkpoint.load(run.last)
        recipe = recipe_of(saved.metadata, str(run.last))
        resumable = [name for name, option in recipe.options().items() if option.resumable]
        recipe = recipe.with_options(
            **{one_of("option of resume", name, resumable): value for name, value in options.items()}
        )
        if data is not None:  # the same data in another place, so what chooses the best stays
            recipe = replace(recipe, data=data)
        dataset = load_data(recipe.data)
        if saved.metadata.get("fingerprint") not in (dataset.fingerprint, format_1.fingerprint(dataset)):
            raise ConfigurationError(
                f"{recipe.data} is not what the run in {folder} was trained on: name the same data, with --data-dir "
                "or, where its file has moved, with --data"
            )
        run.metadata = _metadata(recipe, dataset)
        model = model_from(saved, backend, str(run.last))
        seed = saved.metadata.get("seed", 0)
        sets = RunSets.of(recipe, dataset, seed)
        callbacks = [*callbacks, *recipe.build_callbacks()]
        return _fit(recipe, dataset, sets, model, run, seed, stop_after_epoch, callbacks, saved)


def _metadata(recipe: Recipe, dataset: Dataset) -> dict[str, Any]:
    return {"recipe": recipe.to_table(), "fingerprint": dataset.fingerprint}


def recipe_of(metadata: dict[str, Any], origin: str) -> Recipe:
    """The recipe that a checkpoint's metadata carries.

    Raises:
        FileFormatError: it carries none.
        ConfigurationError: the recipe cannot work.

    >>> import xpnet
    >>> recipe_of({"recipe": xpnet.load_recipe("digits").to_table()}, "last.safetensors").name
    'digits'
    """
    if "recipe" not in metadata:
        raise FileFormatError(f"{origin} does not say by which recipe it was trained")
    return recipe_from_table(metadata["recipe"])


def _fit(
    recipe: Recipe,
    dataset: Dataset,
    sets: RunSets,
    model: Sequential,
    folder: RunFolder,
    seed: int,
    stop_after_epoch: int | None,
    callbacks: Iterable[Callback],
    saved: Any = None,
) -> Summary:
    loss, optimizer = build("loss", recipe.loss or {}), build("optimizer", recipe.optimizer or {})
    early = None if recipe.patience is None else EarlyStopping(**recipe.arguments_of("EarlyStopping"))
    watchers = [*callbacks, *([early] if early else []), folder, *_logs(recipe, folder)]
    trainer = Trainer(model, loss, optimizer, seed=seed, callbacks=watchers, **recipe.arguments_of("Trainer"))
    total = recipe.total_steps(len(sets.train.x))

    def is_complete() -> bool:
        return trainer.step >= total or (early is not None and early.is_over)

    if saved is not None:
        folder.restore(trainer, saved)
        if early is not None:
            early.look_back(trainer.history)
    if is_complete() and sets.test is not None and not folder.is_tested():
        folder.cut_metrics()  # the process ended between the last checkpoint and the one look at the test set
    else:
        if saved is not None:
            _require_more(trainer, early, recipe, len(sets.train.x), folder, stop_after_epoch)
        with folder.naming_last():
            _follow(recipe, trainer, sets, stop_after_epoch)
    summary = summarize(trainer, recipe, dataset, len(sets.train.x), folder)
    if early is not None:
        summary["stopped_early"] = early.is_over
    if is_complete() and sets.test is not None:
        summary |= measure_test(trainer, sets.test, folder)
    return finite_or_null(summary)


def _follow(recipe: Recipe, trainer: Trainer, sets: RunSets, stop_after_epoch: int | None) -> None:
    """Train as the recipe says."""
    options = {**recipe.arguments_of("fit"), "sampler": SAMPLERS[recipe.sampler]()}
    trainer.fit(sets.train, validation=sets.validation, stop_after_epoch=stop_after_epoch, **options)


def _logs(recipe: Recipe, folder: RunFolder) -> list[Callback]:
    """The loggers that the recipe asks for, beside metrics.jsonl."""
    logs: list[Callback] = []
    if "csv" in (recipe.logs or []):
        logs.append(CSVLog(folder.table))
    if "tensorboard" in (recipe.logs or []):
        logs.append(TensorBoardLog(folder.path / "tensorboard"))
    return logs


def require_trainable(recipe: Recipe) -> None:
    """Raise ConfigurationError, pointing to ``evaluate``, for a recipe of inference only."""
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
        flatten = ": put a Flatten before its first Linear" if len(outputs) > 1 else ""
        raise ShapeError(
            f"the recipe {recipe.name} gives {outputs[0] if len(outputs) == 1 else outputs} outputs, but "
            f"{dataset.name} has {dataset.classes} classes{flatten}"
        )


def _require_more(
    trainer: Trainer,
    early: EarlyStopping | None,
    recipe: Recipe,
    samples: int,
    folder: RunFolder,
    stop_after_epoch: int | None,
) -> None:
    per_epoch = steps_per_epoch(samples, recipe.batch_size)
    total = recipe.total_steps(samples)
    done = trainer.step // per_epoch
    if trainer.step >= total:
        raise ConfigurationError(
            f"the run in {folder.path} is complete ({done} epochs, {trainer.step} steps): to train on, give --epochs "
            f"with more than {done}"
        )
    if early is not None and early.is_over:
        raise ConfigurationError(
            f"the run in {folder.path} is complete: it stopped early, after {early.waited} evaluations without a "
            f"better one: to train on, give --patience with more than {early.waited}"
        )
    if stop_after_epoch is not None and trainer.step >= stop_after_epoch * per_epoch:
        raise ConfigurationError(
            f"the run in {folder.path} already has {done} epochs: --stop-after-epoch must be more than {done}"
        )
    trainer.optimizer.set_total_steps(total, trainer.step)
