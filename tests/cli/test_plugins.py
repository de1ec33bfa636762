"""``--plugin``: the user's own classes on the command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

import xpnet as library
from xpnet.cli import COMMANDS, main

CPU = ("--device", "cpu-reference")


@pytest.fixture(autouse=True)
def forget_plugins() -> Any:
    """Each test may call its plugin as the others do."""
    yield
    for name in [name for name in sys.modules if name.startswith("xpnet_plugin_")]:
        del sys.modules[name]


def plugin(name: str, text: str) -> Path:
    Path(name).write_text(text)
    return Path(name)


def test_a_plugin_runs_before_anything_is_read_and_once(xpnet: Any) -> None:
    plugin("mine.py", "from pathlib import Path\nwith open('log', 'a') as file: file.write(__name__ + '\\n')\n")
    outcome = xpnet("evaluate", "nowhere.safetensors", "--plugin", "mine.py", "--plugin", "./mine.py", *CPU)
    assert outcome.complaint == "xpnet evaluate: there is no checkpoint nowhere.safetensors"
    assert Path("log").read_text() == "xpnet_plugin_mine\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import xpnet\n\n1 / 0\n", "failed in line 3: ZeroDivisionError: division by zero"),
        ("def f():\n    return missing\n\nf()\n", "failed in line 2: NameError: name 'missing' is not defined"),
        ("x = 1\ny = = 2\n", "failed in line 2: SyntaxError: invalid syntax"),
        ("import xpnet\nxpnet.Linear(0, 1)\n", "failed in line 2: ConfigurationError: inputs must be a whole number"),
    ],
)
def test_an_error_names_the_file_and_the_line(xpnet: Any, text: str, message: str) -> None:
    path = plugin("wrong.py", text).resolve()
    complaint = xpnet("train", "--recipe", "digits", "--plugin", "wrong.py", *CPU).complaint
    assert complaint.startswith(f"xpnet train: the plugin {path} {message}")
    assert not Path("runs").exists()
    assert "xpnet_plugin_wrong" not in sys.modules


def test_a_plugin_that_is_not_there(xpnet: Any) -> None:
    complaint = xpnet("train", "--plugin", "none.py").complaint
    assert complaint == f"xpnet train: there is no plugin {Path('none.py').resolve()}: name a Python file"


def test_two_plugins_of_one_name(xpnet: Any) -> None:
    Path("other").mkdir()
    first, second = plugin("mine.py", ""), plugin("other/mine.py", "")
    complaint = xpnet("train", "--plugin", first, "--plugin", second).complaint
    assert complaint.startswith("xpnet train: two plugins are called mine: ")


def test_commands_that_build_a_model_take_plugins(capsys: pytest.CaptureFixture[str]) -> None:
    taking = set()
    for command in COMMANDS:
        with pytest.raises(SystemExit):
            main([command.NAME, "--help"])
        if "--plugin FILE.py" in capsys.readouterr().out:
            taking.add(command.NAME)
    assert taking == {"train", "evaluate", "profile", "parity", "export", "import"}


def test_a_file_makes_xpnet_import_nothing(xpnet: Any) -> None:
    """A recipe that names a class of a module beside it, as an attribute or by a dotted name."""
    import tomli_w

    plugin("beside.py", "raise SystemExit('imported')\n")
    table = library.load_recipe("digits").to_table()
    table["model"]["layers"][0] = {"type": "beside.Layer"}
    Path("mine.toml").write_text(tomli_w.dumps(table))
    complaint = xpnet("train", "--recipe", "mine.toml", *CPU).complaint
    assert "unknown layer type 'beside.Layer'" in complaint
    table = library.load_recipe("digits").to_table() | {"callbacks": [{"type": "beside.Callback"}]}
    Path("mine.toml").write_text(tomli_w.dumps(table))
    complaint = xpnet("train", "--recipe", "mine.toml", *CPU).complaint
    assert complaint.startswith("xpnet train: callbacks[0]: unknown callback type 'beside.Callback'")
    assert not Path("runs").exists()


MINE = """
import xpnet

@xpnet.register
class Doubled(xpnet.Layer):
    def forward(self, x, context):
        return 2 * x
    def backward(self, dy, context):
        return 2 * dy
    def output_shape(self, shape):
        return shape
"""


def test_a_recipe_and_a_checkpoint_with_a_class_of_the_users_own(xpnet: Any) -> None:
    import tomli_w

    plugin("doubled.py", MINE)
    table = library.load_recipe("digits").to_table()
    table["model"]["layers"].insert(1, {"type": "Doubled"})
    Path("mine.toml").write_text(tomli_w.dumps(table))
    options = ("--recipe", "mine.toml", "--plugin", "doubled.py", *CPU, "--epochs", 1, "--out", "run", "--json")
    run = xpnet("train", *options).result
    evaluated = xpnet("evaluate", "run", "--plugin", "doubled.py", *CPU, "--json").result
    assert evaluated["accuracy"] == run["test_accuracy"]


COUNTS = """
import xpnet

@xpnet.register
class Counts(xpnet.Callback):
    def __init__(self, limit: int) -> None:
        self.limit = limit
    def on_batch(self, trainer, record):
        if trainer.step > self.limit:
            trainer.stop()
"""


def test_a_recipe_names_a_callback_of_the_users_own(xpnet: Any) -> None:
    import tomli_w

    plugin("counts.py", COUNTS)
    table = library.load_recipe("digits").to_table() | {"callbacks": [{"type": "Counts", "limit": 40}]}
    Path("mine.toml").write_text(tomli_w.dumps(table))
    options = ("--recipe", "mine.toml", "--plugin", "counts.py", *CPU, "--out", "run", "--json")
    outcome = xpnet("train", *options)
    steps = outcome.result["steps"]
    assert 40 < steps < 45 * 30
    last_line = outcome.err.splitlines()[-1]
    assert (
        last_line
        == f"a callback stopped the run after step {steps}, which is saved: continue with xpnet train --resume run"
    )
    assert library.load_recipe("run/config.toml").callbacks == [{"type": "Counts", "limit": 40}]
