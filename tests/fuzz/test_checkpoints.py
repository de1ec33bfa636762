"""Hostile checkpoints: of a model, and of a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from safetensors.numpy import save

import xpnet
from xpnet.checkpoint import LARGEST_HEADER
from xpnet.training import load_model_and_metadata, recipe_of

LAYERS = [
    xpnet.Reshape([1, 4, 4]),
    xpnet.Conv2d(1, 2, 3, padding="same", activation="relu"),
    xpnet.BatchNorm(2),
    xpnet.MaxPool2d(2),
    xpnet.Flatten(),
    xpnet.Residual(xpnet.Linear(8, 8, weights=xpnet.Normal(0.1)), xpnet.Dropout(0.5), xpnet.LeakyReLU()),
    xpnet.Linear(8, 3),
]
OFFSETS = st.integers(-1, 9) | st.sampled_from([2**31, 2**32, 2**53, 2**63, 2**64 - 1, 2**64, 0.5, "0", None])
TYPES = ["F64", "F32", "F16", "BF16", "F8_E5M2", "I64", "I32", "U8", "BOOL", "C64", "F4", "", 4, None]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A model, and the recipe it says it was trained by."""
    path = tmp_path_factory.mktemp("whole") / "model.safetensors"
    model = xpnet.Sequential(*LAYERS).initialize(xpnet.backend("cpu-reference"))
    xpnet.save_model(model, path)
    saved = xpnet.checkpoint.load(path)
    saved.metadata["recipe"] = xpnet.load_recipe("digits").to_table()
    xpnet.checkpoint.save(path, saved)
    return path.read_bytes()


@pytest.fixture
def read() -> Callable[[Path], None]:
    """As ``xpnet evaluate`` reads a checkpoint."""
    backend = xpnet.backend("cpu-reference")

    def read(path: Path) -> None:
        _, metadata = load_model_and_metadata(path, backend)
        recipe_of(metadata, str(path))

    return read


def split(content: bytes) -> tuple[dict[str, Any], bytes]:
    end = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:end]), content[end:]


def joined(header: object, data: bytes) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


@st.composite
def tensors(draw: st.DrawFn, content: bytes) -> bytes:
    """Types, shapes and places of tensors, and tensors that are missing, added or shared."""
    header, data = split(content)
    names = [name for name in header if name != "__metadata__"]
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from([*names, "parameters/9.W", "buffers/", "", "parameters/\0"]))
        tensor = header.setdefault(name, dict(header.get(names[0], {})))
        kind = draw(st.sampled_from(["dtype", "shape", "data_offsets", "drop", "key"]))
        if kind == "drop":
            del header[name]
        elif kind == "dtype":
            tensor["dtype"] = draw(st.sampled_from(TYPES))
        elif kind == "key":
            tensor.pop(draw(st.sampled_from(["dtype", "shape"])), None)
        else:
            tensor[kind] = draw(st.lists(OFFSETS, max_size=4) | st.none() | st.sampled_from([[1] * 70, 3, "x"]))
    return joined(header, data)


@st.composite
def metadata(draw: st.DrawFn, content: bytes, misshapen: Any) -> bytes:
    """What the model and the recipe are said to be."""
    header, data = split(content)
    texts = header["__metadata__"]
    key = draw(st.sampled_from([*texts, "model", "model", "recipe", "more"]))
    value = draw(misshapen(json.loads(texts.get(key, "3")) if key != "format" else "xpnet"))
    texts[key] = draw(
        st.sampled_from([json.dumps(value), json.dumps(value), json.dumps(value)[1:], "[" * 500 + "]" * 500])
    )
    return joined(header, data)


@st.composite
def large_metadata(draw: st.DrawFn) -> bytes:
    """Much text, or what takes much memory for little text, in the header."""
    kinds = st.sampled_from(["[],", "{},", '"",', "1,", "0.5,", "[[0]],", '{"a":{}},', '{"$float":"nan"},'])
    piece = "".join(draw(st.lists(kinds, min_size=1, max_size=4)))
    size = draw(st.integers(0, 5000) if draw(st.integers(0, 60)) else st.sampled_from([LARGEST_HEADER // 2, 3 * 2**20]))
    if draw(st.booleans()):
        text = "[" + piece * (size // len(piece)) + "0]"
        return save({"W": np.zeros(3)}, {"format": "xpnet", "format_version": "1", "model": text})
    empty = {f"{number}": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for number in range(size // 60)}
    return joined({"__metadata__": {"format": "xpnet", "format_version": "1"}, **empty}, b"")


def in_objects(content: bytes) -> int:
    """A header that is read becomes objects of Python's, of up to 50 times its size; twice what is given is allowed."""
    length = int.from_bytes(content[:8], "little")
    return len(content) + (25 * length if length <= LARGEST_HEADER else 0)


def test_changed_bytes(fuzz: Any, mutated: Any, whole: bytes, read: Any) -> None:
    fuzz(mutated(whole), read, whole)


def test_hostile_tensors(fuzz: Any, whole: bytes, read: Any) -> None:
    fuzz(tensors(whole), read, whole)


def test_hostile_metadata(fuzz: Any, misshapen: Any, whole: bytes, read: Any) -> None:
    fuzz(metadata(whole, misshapen), read, whole)


def test_large_headers(fuzz: Any, whole: bytes, read: Any) -> None:
    fuzz(large_metadata(), read, whole, in_objects)
