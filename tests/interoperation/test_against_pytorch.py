"""Networks trained in PyTorch are imported, and xpnet's are exported, with the same logits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import xpnet
from xpnet.backends import Backend
from xpnet.interoperation.pytorch_modules import CONTAINERS, MODULES
from xpnet.layers import Context, Layer
from xpnet.layers.preprocessing import fit_preprocessing

torch = pytest.importorskip("torch", reason="PyTorch is not installed; 'make test-peers' compares with it")
pytestmark = pytest.mark.torch


class LeNet(torch.nn.Module):
    """Modules by name, some in containers, as PyTorch's users write it."""

    def __init__(self) -> None:
        super().__init__()
        self.features = torch.nn.Sequential(
            torch.nn.Conv2d(1, 4, 3, padding=1),
            torch.nn.ReLU(),
            torch.nn.MaxPool2d(2),
            torch.nn.Conv2d(4, 6, 3, stride=2),
        )
        self.fc1 = torch.nn.Linear(6 * 3 * 3, 16)
        self.fc2 = torch.nn.Linear(16, 16)
        self.head = torch.nn.Linear(16, 10)

    def forward(self, x):
        x = torch.tanh(self.features(x)).flatten(1)
        return self.head(torch.sigmoid(self.fc2(torch.relu(self.fc1(x)))))


def our_lenet(backend: Backend, dtype: str = "float32") -> xpnet.Sequential:
    return xpnet.Sequential(
        xpnet.Conv2d(1, 4, 3, padding=1, activation="relu"),
        xpnet.MaxPool2d(2),
        xpnet.Conv2d(4, 6, 3, stride=2, activation="tanh"),
        xpnet.Flatten(),
        xpnet.Linear(54, 16, "relu"),
        xpnet.Linear(16, 16, "sigmoid"),
        xpnet.Linear(16, 10),
    ).initialize(backend, seed=0, dtype=dtype)


def trained() -> LeNet:
    torch.manual_seed(0)
    module, x, labels = LeNet(), torch.rand(64, 1, 14, 14), torch.randint(10, (64,))
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
    for _ in range(20):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(module(x), labels).backward()
        optimizer.step()
    return module


def images() -> np.ndarray:
    return np.random.default_rng(0).random((32, 1, 14, 14), np.float32)


def test_importing_a_trained_network(backend: Backend) -> None:
    from safetensors.torch import save_file

    module, model = trained(), our_lenet(backend)
    save_file(module.state_dict(), "theirs.safetensors")
    imported = xpnet.import_weights(model, "theirs.safetensors")
    theirs = module(torch.from_numpy(images())).detach().numpy()
    np.testing.assert_allclose(model.predict(images()), theirs, rtol=1e-5, atol=1e-5)
    assert [entry.source for entry in imported[::2]] == [
        "features.0.weight", "features.3.weight", "fc1.weight", "fc2.weight", "head.weight"
    ]  # fmt: skip


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_importing_other_float_types(cpu: Backend, dtype: str) -> None:
    from safetensors.torch import save_file

    module, model = trained().to(getattr(torch, dtype)), our_lenet(cpu)
    save_file(module.state_dict(), "theirs.safetensors")
    assert {entry.dtype for entry in xpnet.import_weights(model, "theirs.safetensors")} == {dtype}
    theirs = module.float()(torch.from_numpy(images())).detach().numpy()
    np.testing.assert_allclose(model.predict(images()), theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_exporting_a_network(backend: Backend, dtype: str) -> None:
    from safetensors.torch import load_file

    model = our_lenet(backend, dtype)
    module = exported(model).to(getattr(torch, dtype))
    module.load_state_dict(load_file("ours.safetensors"))
    x = images().astype(dtype)
    theirs = module(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(theirs, model.predict(x), rtol=1e-5, atol=1e-5)


class Block(torch.nn.Module):
    """A residual block with its modules by name."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = torch.nn.Conv2d(channels, channels, 3, padding=1)
        self.bn1 = torch.nn.BatchNorm2d(channels)
        self.conv2 = torch.nn.Conv2d(channels, channels, 3, padding=1)
        self.bn2 = torch.nn.BatchNorm2d(channels, eps=1e-3)

    def forward(self, x):
        return x + self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))


def test_importing_a_trained_residual_network(backend: Backend) -> None:
    from safetensors.torch import save_file

    torch.manual_seed(0)
    stem = torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4, momentum=0.3), torch.nn.ReLU()
    head = torch.nn.AvgPool2d(4), torch.nn.Flatten(), torch.nn.Linear(36, 8), torch.nn.BatchNorm1d(8)
    module = torch.nn.Sequential(*stem, Block(4), torch.nn.ReLU(), Block(4), *head, torch.nn.Linear(8, 10))
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    for _ in range(6):
        optimizer.zero_grad()
        x, labels = 2 * torch.rand(32, 1, 14, 14) - 0.5, torch.randint(10, (32,))
        torch.nn.functional.cross_entropy(module(x), labels).backward()
        optimizer.step()
    save_file(module.state_dict(), "theirs.safetensors")

    def block() -> list[Layer]:
        first = xpnet.Conv2d(4, 4, 3, padding=1), xpnet.BatchNorm(4), xpnet.ReLU()
        return [*first, xpnet.Conv2d(4, 4, 3, padding=1), xpnet.BatchNorm(4, epsilon=1e-3)]

    model = xpnet.Sequential(
        *(xpnet.Conv2d(1, 4, 3), xpnet.BatchNorm(4), xpnet.ReLU()),
        *(xpnet.Residual(*block()), xpnet.ReLU(), xpnet.Residual(*block())),
        *(xpnet.AvgPool2d(4), xpnet.Flatten(), xpnet.Linear(36, 8), xpnet.BatchNorm(8), xpnet.Linear(8, 10)),
    ).initialize(backend)
    imported = {entry.name: entry.source for entry in xpnet.import_weights(model, "theirs.safetensors")}
    assert imported["5.4.running_variance"] == "5.bn2.running_var"
    theirs = module.eval()(torch.from_numpy(images())).detach().numpy()
    np.testing.assert_allclose(model.predict(images()), theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("features", [6, 8])
def test_importing_normalisations_and_embeddings(cpu: Backend, features: int) -> None:
    from safetensors.torch import save_file

    torch.manual_seed(0)
    nn = torch.nn
    module = nn.Sequential(
        *(nn.Embedding(9, features), nn.LayerNorm(features), nn.GELU("tanh"), nn.Flatten()),
        *(nn.BatchNorm1d(5 * features), nn.LeakyReLU(0.2), nn.Dropout(0.5), nn.Linear(5 * features, 3), nn.Softplus()),
    )
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.rand_like(parameter))
    x = torch.randint(9, (16, 5))
    for _ in range(3):
        module(x)
    save_file(module.state_dict(), "theirs.safetensors")
    model = xpnet.Sequential(
        *(xpnet.Embedding(9, features), xpnet.LayerNorm(features), xpnet.GELU(), xpnet.Flatten()),
        *(xpnet.BatchNorm(5 * features), xpnet.LeakyReLU(0.2), xpnet.Dropout(0.5), xpnet.Linear(5 * features, 3)),
        xpnet.Softplus(),
    ).initialize(cpu)
    xpnet.import_weights(model, "theirs.safetensors")
    np.testing.assert_allclose(model.predict(x.numpy()), module.eval()(x).detach().numpy(), rtol=1e-5, atol=1e-5)


NETWORKS: dict[str, tuple[Callable[[], Layer], tuple[int, ...]]] = {
    "images": (
        lambda: xpnet.Sequential(
            *(xpnet.Reshape([1, 8, 8]), xpnet.Conv2d(1, 2, 3, padding="same"), xpnet.BatchNorm(2, 0.25, 0.01)),
            *(xpnet.ReLU(), xpnet.MaxPool2d(2, 1), xpnet.AvgPool2d(3, 2), xpnet.Tanh(), xpnet.Flatten()),
            *(xpnet.Sequential(xpnet.Linear(18, 7, "sigmoid"), xpnet.Linear(7, 5)), xpnet.Sigmoid(), xpnet.Softmax()),
        ),
        (8, 8),
    ),
    "vectors": (
        lambda: xpnet.Sequential(
            *(xpnet.BatchNorm(6), xpnet.Linear(6, 8, "relu"), xpnet.LayerNorm(8, 0.1), xpnet.GELU()),
            xpnet.Residual(xpnet.Linear(8, 5), xpnet.LeakyReLU(0.2), xpnet.BatchNorm(5, 0.0), xpnet.Linear(5, 8)),
            *(xpnet.Softplus(), xpnet.Dropout(0.3), xpnet.Linear(8, 4)),
        ),
        (6,),
    ),
    "a residual alone": (lambda: xpnet.Residual(xpnet.LayerNorm(6), xpnet.Residual(xpnet.Linear(6, 6))), (6,)),
    "sequences": (
        lambda: xpnet.Sequential(xpnet.Linear(4, 5, "tanh", bias=False), xpnet.BatchNorm(3), xpnet.Linear(5, 2)),
        (3, 4),
    ),
    "scaled": (
        lambda: xpnet.Sequential(
            xpnet.Rescale(16), xpnet.Standardize(3), xpnet.Flatten(), xpnet.Linear(12, 5, "relu"), xpnet.Linear(5, 2)
        ),
        (3, 4),
    ),
    "indices": (lambda: xpnet.Sequential(xpnet.Embedding(7, 3), xpnet.Flatten(), xpnet.Linear(12, 2)), (4,)),
}


def exported(model: Layer) -> torch.nn.Module:
    """The module that the export's source defines."""
    names = {"torch": torch}
    exec(xpnet.export_pytorch(model, "ours.safetensors"), names)
    return names["model"]


def test_every_layer_is_in_one_of_the_networks() -> None:
    def kinds(layer: Layer) -> set[type[Layer]]:
        return {type(layer)}.union(*map(kinds, layer.children().values()))

    assert set().union(*(kinds(build()) for build, _ in NETWORKS.values())) == {*MODULES, *CONTAINERS}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_is_exported(backend: Backend, name: str) -> None:
    """As it is after a batch in training; after one more in both, the statistics still agree, save for Dropout's."""
    from safetensors.torch import load_file

    build, shape = NETWORKS[name]
    model, draws = build().initialize(backend), np.random.default_rng(0)
    x = draws.random((9, *shape), np.float32)
    x = (7 * x).astype(np.int64) if model.takes_integers else x
    for view in model.parameters.values():
        view[...] = view + backend.asarray(draws.random(view.shape, np.float32))
    fit_preprocessing(model, x)
    given, training = backend.asarray(x), Context(backend, training=True)
    model.forward(given, training)
    module = exported(model)
    module.load_state_dict(load_file("ours.safetensors"))
    ours = np.array(backend.to_numpy(model(given)))
    theirs = module.eval()(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(theirs, ours, rtol=1e-5, atol=1e-5)
    model.forward(given, training)
    module.train()(torch.from_numpy(x))
    state = {key: value.numpy() for key, value in module.state_dict().items() if "running" in key}
    xpnet.export_pytorch(model, "later.safetensors")
    later = load_file("later.safetensors")
    for key, statistic in state.items():
        np.testing.assert_allclose(statistic, later[key].numpy(), rtol=1e-5, atol=1e-5)
