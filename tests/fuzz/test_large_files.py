"""Honest files of some size: reading one takes at most twice the memory of what it holds."""

from __future__ import annotations

import gzip
import pickle
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import xpnet
from xpnet import checkpoint
from xpnet.book_pickle import read_book_pickle
from xpnet.data.idx import read_images
from xpnet.data.npz import read_npz

ROWS = 2**16
BYTES = np.random.default_rng(0).integers(0, 256, (ROWS, 64)).astype(np.uint8)  # 4 MiB
LABELS = np.arange(ROWS) % 10
KINDS = ["<f2", ">f4", "<f8", "fortran", "one-hot", "narrow"]


def peak(read: Callable[[Path], object], path: Path) -> int:
    read(path)  # whatever is imported, is
    tracemalloc.start()
    try:
        content = read(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        del content


def allowed(size: int) -> int:
    return 2 * size + 2**20


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_idx(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    content = struct.pack(">4I", 0x803, ROWS, 8, 8) + BYTES.tobytes()
    (tmp_path / "images").write_bytes(pack(content))
    assert peak(read_images, tmp_path / "images") <= allowed(len(content))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("kind", KINDS)
def test_npz(tmp_path: Path, kind: str, save: Callable[..., None]) -> None:
    x, y = BYTES, LABELS
    if kind == "one-hot":
        y = np.eye(100, dtype=np.uint8)[y]
    elif kind == "narrow":
        x, y = BYTES[:, :1], y.astype(np.uint8)
    elif kind == "fortran":
        x = np.asfortranarray(x.astype(np.float32))
    else:
        x = x.astype(kind)
    save(tmp_path / "mine.npz", x_train=x, y_train=y, x_test=x[:9], y_test=y[:9])
    kept = x.size * (1 if x.dtype == np.uint8 else 4) + 8 * ROWS
    assert peak(read_npz, tmp_path / "mine.npz") <= allowed(max(x.nbytes + y.nbytes, kept))


def test_checkpoints(tmp_path: Path) -> None:
    """A model takes its parameters and its gradients beside; their first values are not even drawn."""
    backend = xpnet.backend("cpu-reference")
    model = xpnet.Sequential(xpnet.Linear(1024, 1024)).initialize(backend)
    path = tmp_path / "model.safetensors"
    xpnet.save_model(model, path)
    size = path.stat().st_size
    assert peak(checkpoint.load, path) <= allowed(size)
    assert peak(lambda path: xpnet.load_model(path, backend), path) <= allowed(size) + 2 * size


@pytest.mark.parametrize("protocol", [3, 4])
def test_pickles(tmp_path: Path, protocol: int) -> None:
    weights = {"W1": BYTES.view(np.float32), "b1": np.zeros(16, np.float32)}
    path = tmp_path / "weights.pkl"
    path.write_bytes(pickle.dumps(weights, protocol))
    assert peak(read_book_pickle, path) <= allowed(path.stat().st_size)
