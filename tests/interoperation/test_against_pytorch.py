"""PyTorch itself: a network trained there comes in, one of ours goes out, with the same logits."""

from __future__ import annotations

import numpy as np
import pytest

import xpnet
from xpnet.backends import Backend

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


def test_a_network_trained_there_comes_in(backend: Backend) -> None:
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
def test_its_other_floats_come_in(cpu: Backend, dtype: str) -> None:
    from safetensors.torch import save_file

    module, model = trained().to(getattr(torch, dtype)), our_lenet(cpu)
    save_file(module.state_dict(), "theirs.safetensors")
    assert {entry.dtype for entry in xpnet.import_weights(model, "theirs.safetensors")} == {dtype}
    theirs = module.float()(torch.from_numpy(images())).detach().numpy()
    np.testing.assert_allclose(model.predict(images()), theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_of_ours_goes_out(backend: Backend, dtype: str) -> None:
    from safetensors.torch import load_file

    model = our_lenet(backend, dtype)
    module = eval(xpnet.export_pytorch(model, "ours.safetensors"), {"torch": torch}).to(getattr(torch, dtype))
    module.load_state_dict(load_file("ours.safetensors"))
    x = images().astype(dtype)
    theirs = module(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(theirs, model.predict(x), rtol=1e-5, atol=1e-5)


def test_every_layer_goes_out(cpu: Backend) -> None:
    model = xpnet.Sequential(
        xpnet.Reshape([1, 8, 8]),
        xpnet.Conv2d(1, 2, 3, padding="same"),
        xpnet.ReLU(),
        xpnet.AvgPool2d(3, 2),
        xpnet.Tanh(),
        xpnet.Flatten(),
        xpnet.Sequential(xpnet.Linear(18, 7, "sigmoid"), xpnet.Linear(7, 5)),
        xpnet.Sigmoid(),
        xpnet.Softmax(),
    ).initialize(cpu)
    from safetensors.torch import load_file

    module = eval(xpnet.export_pytorch(model, "ours.safetensors"), {"torch": torch})
    module.load_state_dict(load_file("ours.safetensors"))
    x = np.random.default_rng(0).random((9, 8, 8), np.float32)
    np.testing.assert_allclose(module(torch.from_numpy(x)).detach().numpy(), model.predict(x), rtol=1e-5, atol=1e-6)
