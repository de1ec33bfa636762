"""Training: the loop, what watches it, and the folder of a run."""

from xpnet import registry
from xpnet.training.batches import batches_for
from xpnet.training.callbacks import Callback
from xpnet.training.csv_log import CSVLog
from xpnet.training.early_stopping import EarlyStopping
from xpnet.training.evaluation import Evaluation, evaluate, evaluate_batches
from xpnet.training.initial_weights import load_weights
from xpnet.training.moving_average import MovingAverage
from xpnet.training.progress import Progress
from xpnet.training.run_folder import RunFolder, create_run_folder, finite_or_null
from xpnet.training.runs import recipe_of, resume, train
from xpnet.training.snapshots import load_model, load_model_and_metadata, model_from, save_model
from xpnet.training.step import TrainingStep
from xpnet.training.tensorboard_log import TensorBoardLog
from xpnet.training.trainer import Trainer

__all__ = [
    "CSVLog",
    "Callback",
    "EarlyStopping",
    "Evaluation",
    "MovingAverage",
    "Progress",
    "RunFolder",
    "TensorBoardLog",
    "Trainer",
    "TrainingStep",
    "batches_for",
    "create_run_folder",
    "evaluate",
    "evaluate_batches",
    "finite_or_null",
    "load_model",
    "load_model_and_metadata",
    "load_weights",
    "model_from",
    "recipe_of",
    "resume",
    "save_model",
    "train",
]

registry.add_base("callback", Callback, [CSVLog, EarlyStopping, Progress, TensorBoardLog])
