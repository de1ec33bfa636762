"""Models of a user's own classes: trained and saved in one process, loaded and resumed in another."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

OWN = """
import xpnet

@xpnet.register
class Scale(xpnet.Layer):
    def parameter_specs(self):
        return {"s": xpnet.ParameterSpec((64,), xpnet.Constant(1.0))}
    def forward(self, x, context):
        self.saved = x
        return self.parameters["s"] * x
    def backward(self, dy, context):
        self.gradients["s"] = (dy * self.pop_saved()).sum(axis=0)
        return self.parameters["s"] * dy

@xpnet.register
class Net(xpnet.Layer):
    def __init__(self, hidden, scale):
        self.hidden, self.scale = hidden, scale
        self.steps = [xpnet.Linear(64, hidden, "tanh"), xpnet.Linear(hidden, 10)]
    def output_shape(self, input_shape):
        return (10,)
    def forward(self, x, context):
        for layer in (self.scale, *self.steps):
            x = layer.forward(x, context)
        return x
    def backward(self, dy, context):
        for layer in (*reversed(self.steps), self.scale):
            dy = layer.backward(dy, context)
        return dy

@xpnet.register
def squared_error(outputs, targets):
    error = outputs - (targets[:, None] == range(10))
    return (error * error).sum(axis=1), 2.0 * error
"""
TRAIN = """
import json, own, xpnet
digits = xpnet.data.load("digits")
model = xpnet.Sequential(xpnet.Rescale(16), xpnet.Flatten(), own.Net(16, own.Scale()))
model.initialize(xpnet.backend("cpu"), seed=0)
trainer = xpnet.Trainer(model, own.squared_error, xpnet.Adam(0.003))
trainer.fit(digits.train, epochs=5, batch_size=32)
xpnet.save_model(model, "model.safetensors")
print(json.dumps([model.predict(digits.x_test).tolist(), xpnet.evaluate(model, digits.test).accuracy]))
"""
LOAD = """
import copy, json, pickle, xpnet
model = xpnet.load_model("model.safetensors", xpnet.backend("cpu"))
copies = model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))
print(json.dumps([model.predict(xpnet.data.load("digits").x_test).tolist() for model in copies]))
"""
RECIPE = """
name = "mine"
data = { name = "digits" }
loss = { type = "squared_error" }
optimizer = { type = "Adam", learning_rate = 0.003 }
training = { batch_size = 32, epochs = 4 }

[[model.layers]]
type = "Flatten"

[[model.layers]]
type = "Net"
hidden = 16
scale = { type = "Scale" }
"""
BEGIN = """
import own, sys, xpnet
recipe = xpnet.load_recipe("mine.toml")
half = xpnet.train(recipe, xpnet.data.load("digits"), xpnet.backend("cpu"), out=sys.argv[1], stop_after_epoch=STOP)
"""
RESUME = """
import xpnet
xpnet.resume("half", xpnet.backend("cpu"), xpnet.data.load)
"""


@pytest.fixture
def run(tmp_path: Path):
    """Run code in a process of its own, in a folder with ``own.py``."""
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "mine.toml").write_text(RECIPE)

    def go(code: str, *arguments: str, fails: bool = False) -> str:
        command = [sys.executable, "-c", f"import sys; sys.path.insert(0, '')\n{code}", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment(), check=False)
        assert (done.returncode != 0) == fails, done.stderr
        return done.stderr if fails else done.stdout

    return go


def environment() -> dict[str, str]:
    import os

    roots = [str(Path(folder).resolve()) for folder in sys.path if folder and Path(folder).is_dir()]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(roots)}


def test_a_second_process_loads_it_once_its_module_is_imported(run) -> None:
    predictions, accuracy = json.loads(run(TRAIN))
    assert accuracy > 0.85
    assert json.loads(run("import own\n" + LOAD)) == [predictions] * 3
    refusal = run(LOAD, fails=True)
    assert (
        "FileFormatError: the model in model.safetensors cannot be built: layers[2]: unknown layer type 'Net'"
        in refusal
    )
    assert "put @xpnet.register above it, and import its module (or give --plugin FILE.py)" in refusal


def test_a_run_resumes_with_the_same_bits(run, tmp_path: Path, assert_same_run) -> None:
    run(BEGIN.replace("STOP", "None"), "whole")
    run(BEGIN.replace("STOP", "2"), "half")
    refusal = run(RESUME, fails=True)
    assert "unknown layer type 'Net'" in refusal
    assert "put @xpnet.register above it" in refusal
    run("import own\n" + RESUME)
    assert_same_run(tmp_path / "whole", tmp_path / "half")
