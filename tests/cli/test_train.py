"""``xpnet train``: what it says, what it leaves, and how it refuses."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpnet as library
from xpnet import checkpoint
from xpnet.data import download, loading

CPU = ("--device", "cpu-reference")
DIGITS = ("train", "--recipe", "digits", *CPU, "--json")
KEYS = [
    "recipe",
    "data",
    "device",
    "epochs",
    "steps",
    "train_loss",
    "test_loss",
    "test_accuracy",
    "best_test_accuracy",
    "seconds",
    "samples_per_second",
    "run_dir",
    "diagnoses",
]
KEYS_WITH_VALIDATION = [*KEYS[:6], "validation_loss", "validation_accuracy", "best_validation_accuracy"]
KEYS_WITH_VALIDATION += [key for key in KEYS[6:] if key != "best_test_accuracy"]
WALL_CLOCK = ("seconds", "samples_per_second", "run_dir")
IDX = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"]


def but_for_the_clock(result: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result.items() if key not in WALL_CLOCK}


def test_a_run_on_the_digits(xpnet: Any) -> None:
    outcome = xpnet(*DIGITS, "--epochs", 4)
    assert outcome.status == 0
    result = outcome.result
    assert list(result) == KEYS
    assert {key: result[key] for key in ("recipe", "data", "device", "epochs", "steps", "run_dir", "diagnoses")} == {
        "recipe": "digits",
        "data": "digits",
        "device": "cpu-reference",
        "epochs": 4,
        "steps": 4 * 45,
        "run_dir": "runs/digits-1",
        "diagnoses": [],
    }
    assert result["best_test_accuracy"] >= result["test_accuracy"] > 0.8
    lines = outcome.err.splitlines()
    assert lines[0] == "device: cpu-reference   recipe: digits   data: digits"
    assert [line.split()[:2] for line in lines[2:]] == [["epoch", str(epoch)] for epoch in (1, 2, 3, 4)]
    assert sorted(path.name for path in Path("runs/digits-1").iterdir()) == [
        "best.safetensors",
        "config.toml",
        "last.safetensors",
        "metrics.jsonl",
    ]


def test_the_printed_summary(xpnet: Any) -> None:
    outcome = xpnet(*DIGITS[:-1], "--epochs", 1)
    figures = dict(line.split(maxsplit=1) for line in outcome.out.splitlines())
    assert list(figures) == KEYS[:-1]
    assert figures["run_dir"] == "runs/digits-1"
    assert figures["test_accuracy"] == f"{float(figures['test_accuracy']):.4f}"


def test_trouble_is_named_at_the_end_too(xpnet: Any) -> None:
    import tomli_w

    recipe = library.load_recipe("digits").to_table()
    del recipe["model"]["layers"][0]  # Rescale
    Path("raw.toml").write_text(tomli_w.dumps(recipe))
    raw = xpnet("train", "--recipe", "raw.toml", *CPU, "--epochs", 1)
    assert "warning (inputs out of range): inputs reach 16, far outside [0, 1]" in raw.err
    assert "\nwarning: inputs reach 16, far outside [0, 1]" in raw.out
    (diagnosis,) = xpnet("train", "--recipe", "raw.toml", *CPU, "--epochs", 1, "--json").result["diagnoses"]
    assert diagnosis.startswith("inputs reach 16")


def test_options_reach_the_run(xpnet: Any) -> None:
    options = ("--epochs", 2, "--batch-size", 100, "--optimizer", "momentum", "--lr", 0.05, "--seed", 7)
    result = xpnet(*DIGITS, *options, "--out", "there").result
    assert (result["epochs"], result["steps"], result["run_dir"]) == (2, 30, "there")
    table = tomllib.loads(Path("there/config.toml").read_text())
    assert table["optimizer"] == {"type": "Momentum", "learning_rate": 0.05}
    assert (table["training"]["batch_size"], table["training"]["epochs"]) == (100, 2)
    assert table["run"] == {"seed": 7, "device": "cpu-reference"}


def test_the_seed_decides_everything(xpnet: Any) -> None:
    short = ("--epochs", 1)
    first, again, other, default = (
        xpnet(*DIGITS, *short, *seed) for seed in (("--seed", 0), ("--seed", 0), ("--seed", 1), ())
    )
    assert but_for_the_clock(first.result) == but_for_the_clock(again.result) == but_for_the_clock(default.result)
    assert first.result["train_loss"] != other.result["train_loss"]
    weights = [checkpoint.load(f"runs/digits-{run}/last.safetensors").tensors for run in (1, 2)]
    assert all(weights[0][name].tobytes() == weights[1][name].tobytes() for name in weights[0])


def test_stopped_and_resumed(xpnet: Any) -> None:
    whole = xpnet(*DIGITS, "--epochs", 3, "--out", "whole").result
    stopped = xpnet(*DIGITS, "--epochs", 3, "--out", "parts", "--stop-after-epoch", 2).result
    assert stopped["epochs"] == 2
    resumed = xpnet("train", "--resume", "parts", *CPU, "--json")
    assert but_for_the_clock(resumed.result) == but_for_the_clock(whole)
    assert resumed.err.splitlines()[0] == "device: cpu-reference"
    more = xpnet("train", "--resume", "parts", "--epochs", 4, *CPU, "--json").result
    assert more["epochs"] == 4


def test_data_of_the_users_own_even_from_another_folder(
    xpnet: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (50, 8, 8)).astype(np.uint8), rng.integers(0, 10, 50)
    y[:10] = np.arange(10)
    np.savez("mine.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    result = xpnet(*DIGITS, "--data", "mine.npz", "--epochs", 2, "--stop-after-epoch", 1, "--out", "run").result
    assert result["data"] == "mine.npz"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert xpnet("train", "--resume", "../run", *CPU, "--json").result["epochs"] == 2


def test_data_that_have_moved_and_data_that_are_others(xpnet: Any) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (50, 8, 8)).astype(np.uint8), np.arange(50) % 10
    np.savez("mine.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    np.savez("other.npz", x_train=x[::-1], y_train=y, x_test=x, y_test=y)
    xpnet(*DIGITS, "--data", "mine.npz", "--epochs", 3, "--stop-after-epoch", 1, "--out", "run")
    Path("mine.npz").rename("moved.npz")
    again = ("train", "--resume", "run", *CPU, "--json")
    assert "mine.npz cannot be read: No such file" in xpnet(*again).complaint
    complaint = xpnet(*again, "--data", "other.npz").complaint
    assert "other.npz is not what the run in run was trained on: name the same data" in complaint
    assert xpnet(*again, "--data", "moved.npz", "--stop-after-epoch", 2).result["epochs"] == 2
    assert xpnet(*again).result["epochs"] == 3
    assert tomllib.loads(Path("run/config.toml").read_text())["data"]["name"] == str(Path("moved.npz").resolve())


def test_more_epochs_are_written_down(xpnet: Any) -> None:
    xpnet(*DIGITS, "--epochs", 1, "--out", "run")
    assert xpnet("train", "--resume", "run", "--epochs", 2, *CPU, "--json").result["epochs"] == 2
    assert tomllib.loads(Path("run/config.toml").read_text())["training"]["epochs"] == 2


def test_checkpoints_by_step(xpnet: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = []
    on_checkpoint = library.training.RunFolder.on_checkpoint

    def note(folder: Any, trainer: Any) -> None:
        steps.append(trainer.step)
        on_checkpoint(folder, trainer)

    monkeypatch.setattr(library.training.RunFolder, "on_checkpoint", note)
    xpnet(*DIGITS, "--epochs", 2, "--checkpoint-every", 20, "--stop-after-epoch", 1, "--out", "run")
    assert steps == [0, 20, 40, 45]
    assert tomllib.loads(Path("run/config.toml").read_text())["training"]["checkpoint_every"] == 20
    xpnet("train", "--resume", "run", *CPU, "--checkpoint-every", 30)
    assert steps == [0, 20, 40, 45, 60, 90]
    assert tomllib.loads(Path("run/config.toml").read_text())["training"]["checkpoint_every"] == 30


def test_a_recipe_in_a_file(xpnet: Any) -> None:
    import tomli_w

    table = library.load_recipe("digits").to_table()
    table |= {"name": "mine", "training": {"batch_size": 500, "steps": 4, "evaluate_every": 2}}
    Path("mine.toml").write_text(tomli_w.dumps(table))
    result = xpnet("train", "--recipe", "mine.toml", *CPU, "--json").result
    assert (result["recipe"], result["steps"], result["run_dir"]) == ("mine", 4, "runs/mine-1")


def test_a_run_that_explodes_says_so_and_can_be_told_from_a_crash(xpnet: Any) -> None:
    outcome = xpnet("train", "--recipe", "digits", *CPU, "--optimizer", "sgd", "--lr", 1e30)
    assert outcome.status == 2
    assert "Warning" not in outcome.err
    said = outcome.err.splitlines()[-1]
    assert said.startswith("xpnet train: step 2 stopped being finite in the output of layer 2 Linear")
    assert said.endswith("runs/digits-1/last.safetensors, of step 0, is the last good checkpoint")
    assert library.load_model("runs/digits-1/last.safetensors", library.backend("cpu-reference"))


def test_a_run_that_explodes_may_go_on_without_those_steps(xpnet: Any) -> None:
    options = ["--optimizer", "sgd", "--lr", 1e30, "--on-nonfinite", "skip", "--epochs", 2]
    outcome = xpnet("train", "--recipe", "digits", *CPU, *options, "--json")
    (said,) = [message for message in outcome.result["diagnoses"] if "skipped" in message]
    assert said == "44 of 45 steps were skipped: their loss or gradients were not finite"
    assert outcome.result["steps"] == 90
    records = [json.loads(line) for line in Path("runs/digits-1/metrics.jsonl").read_text().splitlines()]
    assert [record["skipped_steps"] for record in records if record["event"] == "evaluation"] == [44, 89]


def test_mnist_out_of_reach_and_nothing_named_means_the_digits(xpnet: Any) -> None:
    outcome = xpnet("train", *CPU, "--epochs", 1, "--json")
    assert outcome.status == 0
    assert (outcome.result["recipe"], outcome.result["data"]) == ("digits", "digits")
    first, second = outcome.err.splitlines()[:2]
    assert first.startswith("mnist was not found")
    assert second == "No data set was named, so the recipe 'digits' runs instead, on the bundled 8x8 digits."


def test_a_real_process_without_a_network_trains_on_the_digits(tmp_path: Path) -> None:
    """No stand-in here: every proxy is a port where nobody listens."""
    nowhere = "http://127.0.0.1:9"
    proxies = {name: nowhere for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")}
    done = subprocess.run(
        [sys.executable, "-m", "xpnet", "train", *CPU, "--epochs", "1", "--json"],
        capture_output=True,
        text=True,
        env={**os.environ, **proxies, "no_proxy": "", "NO_PROXY": ""},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "the recipe 'digits' runs instead" in done.stderr
    assert '"data": "digits"' in done.stdout


class SignInFirst(http.server.BaseHTTPRequestHandler):
    """Answers whatever is asked for with a page of its own, as the networks of hotels do."""

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(b"<html>Please sign in.</html>")

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def sign_in_first(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """MNIST's one mirror is a web server with nothing but a page to sign in."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), SignInFirst)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    source = replace(loading.SOURCES["mnist"], mirrors=(f"http://127.0.0.1:{server.server_port}/",))
    monkeypatch.setattr(loading, "SOURCES", {**loading.SOURCES, "mnist": source})
    monkeypatch.setattr(loading, "fetch", download.fetch)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.usefixtures("sign_in_first")
def test_a_mirror_that_answers_with_a_page_is_no_mirror(xpnet: Any) -> None:
    outcome = xpnet("train", *CPU, "--epochs", 1, "--json")
    assert (outcome.status, outcome.result["data"]) == (0, "digits")
    assert "gave a train-images-idx3-ubyte.gz without the published SHA-256, which was deleted" in outcome.err
    assert "so the recipe 'digits' runs instead" in outcome.err
    named = xpnet("train", "--data", "mnist", *CPU).err.splitlines()[-1]
    assert named.startswith("xpnet train: mnist was not found")


@pytest.mark.parametrize("named", [("--data", "mnist"), ("--recipe", "torch-mlp"), ("--data", "fashion-mnist")])
def test_a_data_set_that_was_named_has_no_substitute(xpnet: Any, named: tuple[str, str]) -> None:
    complaint = xpnet("train", *named, *CPU).complaint
    assert "mnist was not found" in complaint
    assert "train-images-idx3-ubyte" in complaint
    assert "--data-dir" in complaint
    assert "XPNET_DATA_DIR" in complaint


def test_the_digits_by_data_alone_come_with_their_recipe(xpnet: Any) -> None:
    assert xpnet("train", "--data", "digits", *CPU, "--epochs", 1, "--json").result["recipe"] == "digits"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipe", "torch-mpl"], "unknown recipe 'torch-mpl' (did you mean 'torch-mlp'?); the choices are book-"),
        (["--recipe", "none.toml"], "cannot read the recipe none.toml: No such file or directory"),
        (["--device", "gpu"], "unknown device 'gpu'"),
        (["--device", "cdua"], "unknown device 'cdua' (did you mean 'cuda'?); the choices are auto, cpu, cuda, "),
        (["--data", "minst"], "unknown data set 'minst' (did you mean 'mnist'?); the choices are mnist, "),
        (["--data", "none.npz"], "FOLDER/none.npz cannot be read: No such file or directory"),
        (["--data-dir", "nowhere"], "data_dir must be a folder that exists, not 'nowhere'"),
        (["--epochs", "0"], "--epochs must be a whole number of at least 1, not 0"),
        (["--checkpoint-every", "0"], "--checkpoint-every must be a whole number of at least 1, not 0"),
        (["--batch-size", "-5"], "--batch-size must be a whole number of at least 1, not -5"),
        (["--lr", "nan"], "--lr must be a number of at least 0.0, not nan"),
        (["--lr", "-0.1"], "--lr must be a number of at least 0.0, not -0.1"),
        (["--optimizer", "adamm"], "unknown --optimizer 'adamm' (did you mean 'adam'?); the choices are sgd, "),
        (
            ["--recipe", "digits", "--stop-after-epoch", "0"],
            "stop_after_epoch must be a whole number of at least 1, not 0",
        ),
        (
            ["--recipe", "book-pretrained"],
            "the recipe book-pretrained has ready weights and is not trained: run 'xpnet eval",
        ),
        (
            ["--recipe", "torch-mlp", "--data", "digits"],
            "the recipe torch-mlp does not fit the data set digits, whose ",
        ),
        (["--recipe", "digits", "--out", "file"], "cannot make the run folder file: a file of that name is in the way"),
        (
            ["--recipe", "digits", "--out", "full"],
            "full is not empty: name another --out, or continue with --resume full",
        ),
        (["--resume", "nowhere"], "nowhere holds no run to resume: there is no last.safetensors in it"),
        (["--resume", "file"], "file holds no run to resume: there is no last.safetensors in it"),
        (["--resume", "full"], "full holds no run to resume: there is no last.safetensors in it"),
    ],
)
def test_a_mistake_is_answered_in_one_sentence(xpnet: Any, tmp_path: Path, arguments: list[str], message: str) -> None:
    Path("file").write_text("mine")
    Path("full").mkdir()
    Path("full/notes").write_text("mine")
    complaint = xpnet("train", *CPU, *arguments).complaint
    assert complaint.startswith(f"xpnet train: {message.replace('FOLDER', str(tmp_path))}")
    assert sorted(str(path) for path in Path().rglob("*")) == ["file", "full", "full/notes"]  # and nothing new


def test_a_recipe_with_a_mistake_is_answered_in_one_sentence(xpnet: Any) -> None:
    import tomli_w

    table = library.load_recipe("digits").to_table()
    table["model"]["layers"][1]["weights"] = "HeNormal"
    Path("mine.toml").write_text(tomli_w.dumps(table))
    complaint = xpnet("train", "--recipe", "mine.toml", *CPU).complaint
    assert complaint.startswith("xpnet train: recipe mine.toml: model.layers[1]: ")
    assert not Path("runs").exists()


@pytest.mark.parametrize("batch_size", [10**18, 10**20])
def test_a_batch_that_no_memory_holds(xpnet: Any, batch_size: int) -> None:
    """With replacement a batch is as large as was asked for."""
    import tomli_w

    table = library.load_recipe("digits").to_table()
    table["training"]["sampler"] = "with-replacement"
    Path("mine.toml").write_text(tomli_w.dumps(table))
    complaint = xpnet("train", "--recipe", "mine.toml", "--batch-size", batch_size, *CPU).complaint
    assert complaint.startswith(f"xpnet train: not enough memory for batches of {batch_size:,} rows: ")
    assert f"({batch_size:,} random words were asked for at once" in complaint


def test_on_the_cpu_cupy_is_not_even_imported(tmp_path: Path) -> None:
    (tmp_path / "cupy").mkdir()
    (tmp_path / "cupy" / "__init__.py").write_text("print('cupy was imported')\n")
    done = subprocess.run(
        [sys.executable, "-m", "xpnet", "train", "--recipe", "digits", "--epochs", "1", "--device", "cpu", "--json"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])},
        check=True,
    )
    assert json.loads(done.stdout)["device"] == "cpu"
    assert done.stderr.splitlines()[0] == "device: cpu   recipe: digits   data: digits"


def test_cuda_where_there_is_none(xpnet: Any) -> None:
    problem = library.cuda_problem()
    if problem is None:
        pytest.skip("CUDA works here")
    assert xpnet(*DIGITS, "--device", "cuda").complaint == f"xpnet train: device 'cuda' cannot be used: {problem}"


@pytest.mark.parametrize(
    "option",
    [
        ("--recipe", "digits"),
        ("--batch-size", "5"),
        ("--lr", "0.1"),
        ("--lr", "0"),
        ("--optimizer", "sgd"),
        ("--seed", "0"),
        ("--out", "there"),
    ],
)
def test_a_resumed_run_has_its_own_configuration(xpnet: Any, option: tuple[str, str]) -> None:
    complaint = xpnet("train", *CPU, "--resume", "run", *option).complaint
    assert complaint == f"xpnet train: --resume continues with the run's own configuration: leave out {option[0]}"


def test_all_that_must_be_left_out_is_named_at_once(xpnet: Any) -> None:
    complaint = xpnet("train", "--resume", "run", "--lr", 1, "--seed", 3, *CPU).complaint
    assert complaint.endswith("leave out --seed, --lr")


def test_a_complete_run_wants_more_epochs(xpnet: Any) -> None:
    xpnet(*DIGITS, "--epochs", 1, "--out", "run")
    complaint = xpnet("train", "--resume", "run", *CPU).complaint
    assert complaint.endswith("is complete (1 epochs, 45 steps): to continue, give --epochs with more than 1")


def test_a_validation_part_early_stopping_and_a_table(xpnet: Any) -> None:
    options = ("--validation-fraction", 0.1, "--patience", 2, "--min-delta", 0.01, "--log", "csv", "--epochs", 50)
    outcome = xpnet(*DIGITS, *options, "--out", "run")
    result = outcome.result
    assert list(result) == [*KEYS_WITH_VALIDATION, "stopped_early"]
    assert result["stopped_early"] is True
    assert result["epochs"] == result["steps"] / 41 < 50  # 1,293 of the 1,437 samples, 32 a step
    assert f"validation loss {result['validation_loss']:.4f}" in outcome.err
    assert " test loss" not in outcome.err
    training = tomllib.loads(Path("run/config.toml").read_text())["training"]
    assert training["validation_fraction"] == 0.1
    assert training["early_stopping"] == {"patience": 2, "min_delta": 0.01, "monitor": "accuracy"}
    assert len(Path("run/metrics.csv").read_text().splitlines()) == 1 + result["epochs"]
    evaluated = xpnet("evaluate", "run", *CPU, "--json").result
    assert (evaluated["accuracy"], evaluated["loss"]) == (result["test_accuracy"], result["test_loss"])
    complaint = xpnet("train", "--resume", "run", *CPU).complaint
    assert complaint.endswith("after 2 evaluations without improvement: to continue, give --patience with more than 2")
    assert xpnet("train", "--resume", "run", "--patience", 3, *CPU, "--json").result["epochs"] > result["epochs"]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (
            ("--patience", 2),
            "early stopping needs a validation set other than the test set: give a",
        ),
        (
            ("--validation-fraction", 1.5),
            "--validation-fraction must be a number of at least 0.0 and below 1",
        ),
        (("--validation-fraction", 1e-5), "a validation fraction of 1e-05 sets 0 of 1,437 samples aside"),
        (("--log", "csv", "--log", "wandb"), "unknown --log entry 'wandb'; the choices are csv, tensorboard"),
    ],
)
def test_validation_options_that_cannot_be(xpnet: Any, options: tuple[Any, ...], complaint: str) -> None:
    assert xpnet(*DIGITS, *options, "--out", "run").complaint.startswith(f"xpnet train: {complaint}")
    assert not Path("run").exists()


def test_the_validation_part_of_a_run_stays(xpnet: Any) -> None:
    xpnet(*DIGITS, "--validation-fraction", 0.1, "--epochs", 1, "--out", "run")
    complaint = xpnet("train", "--resume", "run", "--validation-fraction", 0.2, "--epochs", 2, *CPU).complaint
    assert complaint.endswith("leave out --validation-fraction")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("damage", [cut, Path.unlink], ids=["half", "gone"])
@pytest.mark.parametrize("file", [IDX[0], IDX[3]])
def test_mnist_damaged(xpnet: Any, data_dir: Path, tmp_path: Path, file: str, damage: Callable[[Path], None]) -> None:
    folder = tmp_path / "data" / "mnist"
    folder.mkdir(parents=True)
    for name in IDX:
        shutil.copy(data_dir / "mnist" / f"{name}.gz", folder)
    damage(folder / f"{file}.gz")
    for named in ((), ("--data", "mnist")):
        complaint = xpnet("train", *named, "--data-dir", "data", *CPU).complaint
        assert file in complaint
        assert not Path("runs").exists()
