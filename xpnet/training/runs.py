"""Runs: training a recipe in a folder, and resuming."""

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
from xpnet.training.data_splits import DataSplits
from xpnet.training.early_stopping import EarlyStopping
from xpnet.training.initial_weights import ReportUnmatched, load_weights
from xpnet.training.run_folder import RunFolder, create_run_folder, finite_or_null
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
        seed: of the initial weights, the order of samples and the validation split.
        out: the run's folder, new or empty; None: the next free one under ``runs``.
        weights: a checkpoint to start from, see :func:`~xpnet.training.load_weights`. Names that only the model or only
            the file has are reported as a diagnosis.
        stop_after_epoch: stop after this epoch; ``resume`` continues.
        callbacks: called before the run's own callbacks.

    Returns:
        What the command line prints: recipe, data, device, epochs, steps, train_loss, validation_loss,
        validation_accuracy, best_validation_accuracy, test_loss, test_accuracy, seconds, samples_per_second, run_dir,
        diagnoses. Numbers that are not finite are None.

        The test metrics are None until the run is complete; then ``best.safetensors`` is measured, once. Without
        validation (``validation_fraction=0``) it is ``last.safetensors``, and there are no validation metrics. Under
        ``validate_on_test`` the metrics of the evaluations are called test_loss, test_accuracy and best_test_accuracy.
        With early stopping, there is stopped_early, too.

    Raises:
        BackendError: the backend does not compute in the recipe's precision.
        ConfigurationError: the recipe is for inference only, or cannot be trained on these data.
        ShapeError: the network does not fit the data.
        RunFolderError: the folder is not empty, or cannot be written.
        NonFiniteError: a step was not finite; the last good checkpoint stays.

    >>> import tempfile, xpnet
    >>> recipe = xpnet.load_recipe("digits").with_options(epochs=1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = train(recipe, xpnet.data.load("digits"), xpnet.backend("cpu-reference"), out=Path(folder))
    >>> run["steps"], run["test_accuracy"] > 0.5
    (45, True)
    """
    require_trainable(recipe)
    backend = backend.at_precision(recipe.precision)
    model = recipe.build_model()
    _require_matching_shapes(model, dataset, recipe)
    if stop_after_epoch is not None:
        positive_integer("stop_after_epoch", stop_after_epoch)
    seed = operator.index(seed)
    splits = DataSplits.of(recipe, dataset, seed)
    if "tensorboard" in (recipe.logs or []):
        require_tensorboard()
    model.initialize(backend, seed)
    if weights is not None:
        callbacks = [*callbacks, ReportUnmatched(load_weights(model, weights), weights)]
    callbacks = [*callbacks, *recipe.build_callbacks()]
    path = create_run_folder(None if out is None else Path(out), recipe.name)
    with RunFolder(path, _metadata(recipe, dataset)) as folder:
        folder.require_new()
        return _fit(recipe, dataset, splits, model, folder, seed, stop_after_epoch, callbacks)


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
        folder: the run's folder.
        backend: the device; it may be another than before.
        load_data: called with the recipe's data name, returns the data set.
        data: the new name or path of the same data, if it has moved.
        stop_after_epoch: stop after this epoch.
        callbacks: called before the run's own callbacks.
        **options: training options that change from now on; docs/training-options.md marks those that can. More epochs
            or steps are refused under a learning-rate schedule that depends on their number. The evaluation at the
            former end stays in the history, where schedules and early stopping count it. A new log gets the whole
            history.

    Returns:
        As ``train``.

    Raises:
        MissingFileError: the folder holds no run.
        FileFormatError: its checkpoint, or its metrics, are damaged.
        ConfigurationError: other data than before, an option that is not resumable or has a wrong value, or no steps
            left.
        RunFolderError: another process uses the folder, or it cannot be written.

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
        if data is not None:  # not by with_options, which would switch validate_on_test off
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
        splits = DataSplits.of(recipe, dataset, seed)
        callbacks = [*callbacks, *recipe.build_callbacks()]
        return _fit(recipe, dataset, splits, model, run, seed, stop_after_epoch, callbacks, saved)


def _metadata(recipe: Recipe, dataset: Dataset) -> dict[str, Any]:
    return {"recipe": recipe.to_table(), "fingerprint": dataset.fingerprint}


def recipe_of(metadata: dict[str, Any], origin: str) -> Recipe:
    """The recipe in a checkpoint's metadata.

    Raises:
        FileFormatError: there is none.
        ConfigurationError: the recipe is invalid.

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
    splits: DataSplits,
    model: Sequential,
    folder: RunFolder,
    seed: int,
    stop_after_epoch: int | None,
    callbacks: Iterable[Callback],
    saved: Any = None,
) -> Summary:
    loss, optimizer = build("loss", recipe.loss or {}), build("optimizer", recipe.optimizer or {})
    early = None if recipe.patience is None else EarlyStopping(**recipe.arguments_of("EarlyStopping"))
    callbacks = [*callbacks, *([early] if early else []), folder, *_logs(recipe, folder)]
    trainer = Trainer(model, loss, optimizer, seed=seed, callbacks=callbacks, **recipe.arguments_of("Trainer"))
    total = recipe.total_steps(len(splits.train.x))

    def is_complete() -> bool:
        return trainer.step >= total or (early is not None and early.is_over)

    if saved is not None:
        folder.restore(trainer, saved)
        if early is not None:
            early.look_back(trainer.history)
    if is_complete() and splits.test is not None and not folder.has_test_record():
        folder.cut_metrics()  # the process ended after the last checkpoint, before the test set was measured
    else:
        if saved is not None:
            _require_steps_left(trainer, early, recipe, len(splits.train.x), folder, stop_after_epoch)
        options = {**recipe.arguments_of("fit"), "sampler": SAMPLERS[recipe.sampler]()}
        with folder.naming_last_checkpoint():
            trainer.fit(splits.train, validation=splits.validation, stop_after_epoch=stop_after_epoch, **options)
    summary = summarize(trainer, recipe, dataset, len(splits.train.x), folder)
    if early is not None:
        summary["stopped_early"] = early.is_over
    if is_complete() and splits.test is not None:
        summary |= measure_test(trainer, splits.test, folder)
    return finite_or_null(summary)


def _logs(recipe: Recipe, folder: RunFolder) -> list[Callback]:
    """The logs that the recipe asks for, besides metrics.jsonl."""
    logs: list[Callback] = []
    if "csv" in (recipe.logs or []):
        logs.append(CSVLog(folder.table))
    if "tensorboard" in (recipe.logs or []):
        logs.append(TensorBoardLog(folder.path / "tensorboard"))
    return logs


def require_trainable(recipe: Recipe) -> None:
    """Raise ConfigurationError for a recipe of inference only."""
    if recipe.weights is not None:
        raise ConfigurationError(
            f"the recipe {recipe.name} has ready weights and is not trained: run 'xpnet evaluate {recipe.weights}' "
            "with the path of that file, which comes with the book"
        )


def _require_matching_shapes(model: Sequential, dataset: Dataset, recipe: Recipe) -> None:
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


def _require_steps_left(
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
            f"the run in {folder.path} is complete ({done} epochs, {trainer.step} steps): to continue, give --epochs "
            f"with more than {done}"
        )
    if early is not None and early.is_over:
        raise ConfigurationError(
            f"the run in {folder.path} is complete: it stopped early, after {early.waited} evaluations "
            f"without improvement: to continue, give --patience with more than {early.waited}"
        )
    if stop_after_epoch is not None and trainer.step >= stop_after_epoch * per_epoch:
        raise ConfigurationError(
            f"the run in {folder.path} already has {done} epochs: --stop-after-epoch must be more than {done}"
        )
    trainer.optimizer.set_total_steps(total, trainer.step)
