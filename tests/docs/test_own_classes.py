"""docs/own-classes.md: its code runs as it stands there, and its errors read as it says."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpnet
from xpnet import Context, Linear, ParameterSpec, Sequential, registry
from xpnet.registry import describe, register

GUIDE = Path(__file__).parents[2] / "docs" / "own-classes.md"
OWN, RESUME, SCALE, HEAVY_BALL, STOP_AT = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.S)
LONGEST = {"Shift": 8, "squared_error": 3, "SignDescent": 4}  # lines, without the decorator

ANSWERS = """
import json
answers = [model.predict(xpnet.data.load("digits").x_test).tolist() for model in {models}]
print(json.dumps(answers))
"""


@pytest.fixture(autouse=True)
def _registered_for_one_test(monkeypatch: pytest.MonkeyPatch) -> None:
    classes = {kind: dict(named) for kind, named in registry._CLASSES.items()}
    monkeypatch.setattr(registry, "_CLASSES", classes)


@pytest.fixture
def run(tmp_path: Path):
    """Run code in a process of its own, in a folder with ``own.py``."""
    (tmp_path / "own.py").write_text(OWN)
    roots = [str(Path(folder).resolve()) for folder in sys.path if folder and Path(folder).is_dir()]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *roots])}

    def go(code: str) -> Any:
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout or "null")

    return go


def test_it_is_as_short_as_it_should_be() -> None:
    lines = [line for line in OWN.splitlines() if line.strip()]
    assert len(lines) <= 25
    parts = {node.name: node for node in ast.parse(OWN).body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
    assert parts.keys() == LONGEST.keys()
    for name, node in parts.items():
        assert len([line for line in ast.get_source_segment(OWN, node).splitlines() if line.strip()]) <= LONGEST[name]


def test_a_second_process_goes_on_with_the_same_bits(run, tmp_path: Path, assert_same_run) -> None:
    load = "import own, xpnet\nmodel = xpnet.load_model('run/last.safetensors', xpnet.backend('cpu'))\n"
    first = run(OWN + load.replace("import own, xpnet\n", "") + ANSWERS.format(models="[model]"))
    assert run(load + ANSWERS.format(models="[model]")) == first
    last = run(RESUME + ANSWERS.format(models="[model, *copies, fresh]"))
    assert last == [last[0]] * 4
    assert last[0] != first[0]
    assert run(load + ANSWERS.format(models="[model]")) == last[:1]
    digits = xpnet.data.load("digits")
    assert (np.argmax(last[0], axis=1) == digits.y_test).mean() > 0.85
    run(OWN.replace("epochs=5", "epochs=10").replace('out="run"', 'out="straight"'))
    assert_same_run(tmp_path / "run", tmp_path / "straight")


def defined(code: str) -> Any:
    """The class that a block of the guide registers."""
    names: dict[str, Any] = {"xpnet": xpnet, "__name__": "own"}
    exec(code, names)
    (name,) = [node.name for node in ast.parse(code).body if isinstance(node, ast.ClassDef)]
    return names[name]


def test_the_layer_is_right(cpu) -> None:
    layer = defined(SCALE)(3).initialize(cpu, dtype="float64")
    checks = xpnet.check_gradients(layer, np.random.default_rng(0).standard_normal((4, 3)))
    assert [check.name for check in checks if check.error <= 1e-6] == ["input", "s"]
    assert describe(layer) == {"type": "Scale", "features": 3}


def test_the_optimizer_is_momentum(cpu) -> None:
    x, y = np.random.default_rng(0).random((20, 3)), np.arange(20) % 2
    models = []
    for optimizer in (defined(HEAVY_BALL)(0.1), xpnet.Momentum(0.1, momentum=0.9)):
        model = Linear(3, 2).initialize(cpu, dtype="float64")
        xpnet.Trainer(model, xpnet.SoftmaxCrossEntropy(), optimizer).fit((x, y), epochs=3, batch_size=4)
        models.append(model)
    np.testing.assert_allclose(models[0].parameters.vector, models[1].parameters.vector, rtol=1e-12)


def test_the_callback_stops(cpu) -> None:
    samples = np.eye(2), np.array([0, 1])
    trainer = xpnet.Trainer(
        Linear(2, 2).initialize(cpu), xpnet.SoftmaxCrossEntropy(), xpnet.SGD(1.0), callbacks=[defined(STOP_AT)(0.9)]
    )
    history = trainer.fit(samples, validation=samples, epochs=100)
    accuracies = [record["validation_accuracy"] for record in history if record["event"] == "evaluation"]
    assert accuracies[-1] == 1.0
    assert all(accuracy < 0.9 for accuracy in accuracies[:-1])
    assert len(accuracies) < 100


class Shift(xpnet.Layer):
    """As in the guide, but for what goes wrong."""

    def parameter_specs(self):
        return {"b": ParameterSpec((64,), xpnet.Constant(0.0))}

    def forward(self, x, context):
        return x + self.parameters["b"]

    def backward(self, dy, context):
        self.gradients["b"] = dy.sum(axis=0)
        return dy


class Forgets(xpnet.Layer):
    def __init__(self, features):
        self.n = features


class Unsaved(xpnet.Layer):
    def forward(self, x, context):
        return x * 1

    def backward(self, dy, context):
        return dy * self.pop_saved()


def step(layer: xpnet.Layer) -> None:
    """A training step of a model that begins with the layer."""
    model = Sequential(layer).initialize(xpnet.backend("cpu"))
    context = Context(model.backend, training=True)
    y = model.forward(np.ones((4, 64), np.float32), context)
    model.backward(np.ones_like(y), context)


def derived(base: type, name: str, **methods: Any) -> Any:
    return type(name, (base,), {"__module__": "own", **methods})


def mistakes() -> dict[str, Any]:
    digits = xpnet.load_recipe("digits").layers
    return {
        "no `@xpnet.register`": lambda: describe(Shift()),
        "the module was not imported": lambda: registry.build(
            "layer", {"type": "Sequential", "layers": [*digits[:2], {"type": "Shift"}]}
        ),
        "an argument is not kept": lambda: describe(register(derived(Forgets, "Scale"))(64)),
        "a name that xpnet has": lambda: register(derived(Shift, "Linear")),
        "a gradient is not written": lambda: step(derived(Shift, "Shift", backward=lambda self, dy, context: dy)()),
        "the shape of the output": lambda: step(
            derived(Shift, "Shift", forward=lambda self, x, context: np.hstack([x, x]))()
        ),
        "the type of the output": lambda: step(
            derived(Shift, "Shift", forward=lambda self, x, context: x.astype(np.float64))()
        ),
        "nothing kept for `backward`": lambda: step(derived(Unsaved, "Scale")()),
        "an optimizer without a rule": lambda: derived(xpnet.Optimizer, "SignDescent")(0.1).initialize(
            Linear(2, 2).initialize(xpnet.backend("cpu"))
        ),
    }


ERRORS = dict(re.findall(r"^\| (.+?) \| `(.+)` \|$", GUIDE.read_text(encoding="utf-8"), re.M))


def test_every_error_is_tried() -> None:
    assert ERRORS.keys() == mistakes().keys()


@pytest.mark.parametrize("mistake", ERRORS)
def test_an_error_reads_as_the_guide_says(mistake: str) -> None:
    with pytest.raises(xpnet.Error) as error:
        mistakes()[mistake]()
    for part in ERRORS[mistake].split("…"):
        assert part.strip() in str(error.value)
