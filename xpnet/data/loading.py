"""Data sets by name: finding their files, and reading them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from xpnet.data.dataset import Dataset
from xpnet.data.digits import load_digits
from xpnet.data.download import SOURCES, Source, fetch
from xpnet.data.idx import read_images, read_labels
from xpnet.data.npz import read_npz
from xpnet.errors import ConfigurationError, FileFormatError, MissingFileError, one_of

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def load(
    name: str | Path,
    data_dir: str | Path | None = None,
    download: bool = True,
    mirrors: Sequence[str] = (),
) -> Dataset:
    """A data set by its name, or the user's own from a .npz file.

    ``digits`` is bundled. ``mnist`` and ``fashion-mnist`` are four idx files, each plain or with ``.gz``, in
    a folder of that name. It is looked for in ``data_dir`` (which may also be that folder itself), then in
    ``XPNET_DATA_DIR`` (an environment variable), then in the user's cache; failing that, the files are
    downloaded into the cache. The first folder found is used; if files in it are missing or damaged, that is an
    error.

    Args:
        name: ``"mnist"``, ``"fashion-mnist"``, ``"digits"``, or the path of a .npz file with ``x_train``,
            ``y_train``, ``x_test`` and ``y_test`` (:func:`xpnet.data.npz.read_npz`).
        data_dir: a folder that exists.
        download: whether to download files that are not found.
        mirrors: base URLs to download from instead of the published ones; the hashes stay the published ones.

    Raises:
        MissingFileError: the data set, or the .npz file, was not found and cannot be downloaded.
        ConfigurationError: the name is unknown, or ``data_dir`` is not a folder.
        FileFormatError: a file is damaged, or a folder incomplete.

    >>> load("digits")
    Dataset(name='digits', classes=10)
    """
    if data_dir is not None and not os.path.isdir(os.path.expanduser(data_dir)):
        raise ConfigurationError(f"data_dir must be a folder that exists, not {str(data_dir)!r}")
    if Path(name).suffix.lower() == ".npz":
        return read_npz(name)
    name = one_of("data set", str(name), [*SOURCES, "digits", "FILE.npz"])
    if name == "digits":
        return load_digits()
    parents = [Path(parent).expanduser() for parent in (data_dir, os.environ.get("XPNET_DATA_DIR")) if parent]
    return _read(name, _find(name, parents) or _cached(name, parents, download, mirrors))


def _find(name: str, parents: Sequence[Path]) -> Path | None:
    for parent in parents:
        if os.path.isdir(parent / name):
            return parent / name
        if parent.resolve().name == name and len(_missing(parent)) < len(FILES):
            return parent
    return None


def _cached(name: str, parents: Sequence[Path], download: bool, mirrors: Sequence[str]) -> Path:
    import pooch

    folder = Path(pooch.os_cache("xpnet"), name)
    if not _missing(folder):
        return folder
    try:
        if not download:
            raise MissingFileError("download is off")
        source = SOURCES[name]
        if mirrors:
            source = Source(tuple(f"{mirror.rstrip('/')}/" for mirror in mirrors), source.sha256)
        fetch(source, folder)
    except MissingFileError as error:
        looked = ", ".join(str(place) for place in (*(parent / name for parent in parents), folder))
        raise MissingFileError(
            f"{name} was not found (looked for {looked}) and not downloaded ({error}); put"
            f" {', '.join(FILES)}, each plain or with .gz, into a folder {name},"
            " and name that folder's parent by data_dir (--data-dir) or XPNET_DATA_DIR"
        ) from error
    return folder


def _read(name: str, folder: Path) -> Dataset:
    if missing := _missing(folder):
        raise FileFormatError(f"{folder} lacks {', '.join(missing)} (plain or with .gz); add what is missing")
    x_train, y_train, x_test, y_test = (_path(folder, file) for file in FILES)
    return Dataset(
        name,
        x_train=read_images(x_train),
        y_train=read_labels(y_train),
        x_test=read_images(x_test),
        y_test=read_labels(y_test),
        classes=10,
    )


def _missing(folder: Path) -> list[str]:
    return [file for file in FILES if not os.path.isfile(_path(folder, file))]


def _path(folder: Path, file: str) -> Path:
    plain = folder / file
    return plain if os.path.isfile(plain) else folder / f"{file}.gz"
