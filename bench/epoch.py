"""How long does a whole epoch take, data included, and how long does the command take to its first line of progress?

    python bench/epoch.py --json bench/results/epoch_cpu.json

An epoch is one pass over a recipe's training set in Trainer.fit: drawing the order, gathering batches from uint8
images, training steps, and on a GPU the upload of the images; no evaluation. The peers use the recipe's order, batch
size, layers, optimizer and learning rate, with initial weights of their own: PyTorch with a fused optimizer, and with
batches from a DataLoader (of a TensorDataset, in this process) or indexed from tensors in memory. "command" is the wall
time from the start of `python -m xpnet train` to its first line of progress, with the kernels already in Numba's cache;
its limit is `python -c "import numpy"`.

MNIST is read from the folder that XPNET_DATA_DIR names; without it, the images are random ones ("data" says which).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import mnist
import numpy as np
import timing
from timing import Contender

RECIPES = ("keras-sigmoid", "book-two-layer", "torch-mlp", "naive-dense")
COMMAND = "command"


@dataclass(frozen=True)
class Case:
    """A recipe's epoch, or the start of the command."""

    name: str

    def __str__(self) -> str:
        return self.name


def checked(
    epoch: Callable[[], Any], accuracy: Callable[[], float], synchronize: Callable[[], Any] = lambda: None
) -> Contender:
    """A contender whose accuracy is checked after the first epoch."""

    def check() -> dict[str, Any]:
        reached = accuracy()
        if not reached > 0.2:
            raise timing.WrongResult(
                f"the accuracy after an epoch is {reached:.3f}, and above 0.2, twice what chance gives, was expected"
            )
        return {"accuracy": round(reached, 4)}

    return Contender(epoch, check, synchronize)


def xpnet(case: Case, device: str) -> Contender:
    """An epoch of the recipe in ``Trainer.fit``; or the command."""
    if case.name == COMMAND:
        return Contender(_first_line)
    import xpnet as library
    from xpnet.data import SAMPLERS
    from xpnet.registry import build

    dataset, recipe = mnist.dataset(), library.load_recipe(case.name)
    model = recipe.build_model().initialize(library.backend(device))
    trainer = library.Trainer(model, build("loss", recipe.loss or {}), build("optimizer", recipe.optimizer or {}))
    steps = -(-len(dataset.x_train) // recipe.batch_size)
    sampler = SAMPLERS[recipe.sampler]()

    def epoch() -> None:
        done = trainer.step // steps
        trainer.fit(dataset.train, epochs=done + 1, batch_size=recipe.batch_size, sampler=sampler, evaluate_every=10**9)

    return checked(epoch, lambda: library.evaluate(model, dataset.test).accuracy, model.backend.synchronize)


def _first_line() -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "xpnet", "train", "--data", "mnist", "--epochs", "1", "--out", f"{folder}/run"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("step"):
                break
        else:
            raise RuntimeError("the command ended without a line of progress")
        process.kill()
        process.wait()
        process.stderr.close()


def limit(case: Case, device: str) -> Contender:
    """Importing NumPy, for the command."""
    if case.name == COMMAND:
        return Contender(lambda: subprocess.run([sys.executable, "-c", "import numpy"], check=True))
    raise ImportError("an epoch has no limit of its own: bench/train_step.py has the step's")


def torch(case: Case, device: str, loader: bool) -> Contender:
    """PyTorch, with a DataLoader or with indexed tensors."""
    if case.name == COMMAND:
        raise ImportError("PyTorch has no such command")
    import torch as library

    from xpnet import load_recipe

    library.set_num_threads(timing.threads())
    library.manual_seed(0)
    dataset, recipe = mnist.dataset(), load_recipe(case.name)
    place = "cpu" if loader else device  # a DataLoader's samples are on the host, indexed tensors on the model's device
    images = library.from_numpy(np.array(dataset.x_train).reshape(-1, 784)).to(place)
    labels = library.from_numpy(np.array(dataset.y_train)).to(place)
    activations = {"relu": library.nn.ReLU, "sigmoid": library.nn.Sigmoid, None: library.nn.Identity}
    modules: list[Any] = []
    for layer in recipe.layers:
        if layer["type"] == "Linear":
            modules.append(library.nn.Linear(layer["inputs"], layer["outputs"]))
            modules += [activations[layer["activation"]]()] if "activation" in layer else []
    model = library.nn.Sequential(*modules).to(device)
    kinds = {"SGD": library.optim.SGD, "Adam": library.optim.Adam}
    update = kinds[recipe.optimizer["type"]](model.parameters(), lr=recipe.optimizer["learning_rate"], fused=True)

    def step(x: Any, y: Any) -> None:
        update.zero_grad()
        library.nn.functional.cross_entropy(model(x.float() / 255), y).backward()
        update.step()

    samples, repeats = library.utils.data.TensorDataset(images, labels), recipe.sampler == "with-replacement"
    sampler: Any = library.utils.data.SequentialSampler(samples)
    if recipe.sampler != "in-order":
        sampler = library.utils.data.RandomSampler(samples, replacement=repeats)
    batches = library.utils.data.DataLoader(samples, batch_size=recipe.batch_size, sampler=sampler)
    orders = {
        "in-order": library.arange,
        "shuffled": library.randperm,
        "with-replacement": lambda n, device: library.randint(n, (n,), device=device),
    }

    def epoch() -> None:
        if loader:
            for x, y in batches:
                step(x.to(device), y.to(device))
            return
        for rows in orders[recipe.sampler](len(images), device=device).split(recipe.batch_size):
            step(images[rows], labels[rows])

    def accuracy() -> float:
        with library.no_grad():
            x = library.from_numpy(np.array(dataset.x_test).reshape(-1, 784)).float() / 255
            return float((model(x.to(device)).argmax(1).cpu().numpy() == dataset.y_test).mean())

    return checked(epoch, accuracy, library.cuda.synchronize if device == "cuda" else lambda: None)


CONTENDERS = {
    "limit": limit,
    "xpnet": xpnet,
    "torch_loader": partial(torch, loader=True),
    "torch_indexed": partial(torch, loader=False),
}
CASES = [Case(name) for name in (*RECIPES, COMMAND)]
BENCHMARK = timing.Benchmark(
    cases={"cpu": CASES, "cuda": CASES[:-1]},
    contenders={"cpu": CONTENDERS, "cuda": CONTENDERS},
    facts=lambda: {"data": mnist.dataset().name},
)

if __name__ == "__main__":
    timing.main(BENCHMARK)
