import gzip
import subprocess
import sys

import numpy as np
import pytest

from xpnet import errors
from xpnet.data.loading import FILES, load


@pytest.fixture
def cache():
    import pooch

    return pooch.os_cache("xpnet")


@pytest.fixture
def parent(tmp_path):
    path = tmp_path / "data"
    path.mkdir()
    return path


def assert_is(data, small_set, name="mnist"):
    assert (data.name, data.classes, data.sample_shape) == (name, 10, (28, 28))
    for attribute, expected in zip(("x_train", "y_train", "x_test", "y_test"), small_set, strict=True):
        np.testing.assert_array_equal(getattr(data, attribute), expected)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
@pytest.mark.parametrize("zipped", [False, True])
def test_data_dir(parent, write_set, small_set, name, zipped):
    write_set(parent / name, zipped)
    assert_is(load(name, parent, download=False), small_set, name)
    assert_is(load(name, str(parent), download=False), small_set, name)


def test_data_dir_may_be_the_folder_itself(parent, write_set, small_set, monkeypatch):
    folder = write_set(parent / "mnist")
    assert_is(load("mnist", folder, download=False), small_set)
    monkeypatch.chdir(folder)
    assert_is(load("mnist", ".", download=False), small_set)
    with pytest.raises(errors.MissingFileError):
        load("fashion-mnist", folder, download=False)


def test_environment_variable(parent, write_set, small_set, monkeypatch):
    write_set(parent / "mnist")
    monkeypatch.setenv("XPNET_DATA_DIR", str(parent))
    assert_is(load("mnist", download=False), small_set)


def test_mnist_is_found_in_the_cache(cache, write_set, small_set):
    write_set(cache / "mnist", zipped=True)
    assert_is(load("mnist", download=False), small_set)


def test_the_order_of_the_places(tmp_path, cache, write_set, monkeypatch):
    places = [tmp_path / "first", tmp_path / "second", cache]
    for rows, place in enumerate(places, start=1):
        folder = write_set(place / "mnist")
        for name, shape in zip(FILES, [(rows, 2, 2), (rows,)] * 2, strict=True):
            header = np.array([0x800 + len(shape), *shape], ">u4").tobytes()
            (folder / name).write_bytes(header + bytes(int(np.prod(shape))))
    monkeypatch.setenv("XPNET_DATA_DIR", str(places[1]))
    assert len(load("mnist", places[0], download=False).y_train) == 1
    assert len(load("mnist", download=False).y_train) == 2
    (tmp_path / "empty").mkdir()
    assert len(load("mnist", tmp_path / "empty", download=False).y_train) == 2
    monkeypatch.setenv("XPNET_DATA_DIR", str(tmp_path / "none"))
    assert len(load("mnist", download=False).y_train) == 3
    monkeypatch.setenv("XPNET_DATA_DIR", "")
    assert len(load("mnist", download=False).y_train) == 3


def test_an_incomplete_folder_is_not_skipped(parent, cache, write_set):
    write_set(parent / "mnist", names=FILES[:2])
    write_set(cache / "mnist")
    for data_dir in (parent, parent / "mnist"):
        with pytest.raises(errors.FileFormatError, match=f"mnist lacks {FILES[2]}, {FILES[3]} "):
            load("mnist", data_dir, download=False)


def test_a_damaged_file_is_not_skipped(parent, cache, write_set):
    damaged = write_set(parent / "mnist") / FILES[1]
    damaged.write_bytes(damaged.read_bytes()[:-1])
    write_set(cache / "mnist")
    with pytest.raises(
        errors.FileFormatError, match=f"{FILES[1]} is not a whole idx file of labels: it ends after 4 of 5"
    ):
        load("mnist", parent, download=False)


def test_files_that_do_not_belong_together(parent, write_set):
    folder = write_set(parent / "mnist")
    (folder / FILES[3]).write_bytes((folder / FILES[1]).read_bytes())
    with pytest.raises(errors.ShapeError, match="mnist: x_test has 3 rows and y_test 5"):
        load("mnist", parent, download=False)


@pytest.mark.parametrize("name", ["mnist", "digits", "mine.npz"])
@pytest.mark.parametrize("data_dir", ["none", ""])
def test_a_data_dir_that_does_not_exist(name, data_dir):
    with pytest.raises(errors.ConfigurationError, match=f"data_dir must be a folder that exists, not '{data_dir}'"):
        load(name, data_dir)


def test_a_failed_download_names_the_places_and_mirrors_tried(parent, cache, monkeypatch, tmp_path):
    monkeypatch.setenv("XPNET_DATA_DIR", str(tmp_path / "env"))
    with pytest.raises(errors.MissingFileError) as caught:
        load("mnist", parent, mirrors=["http://127.0.0.1:1"])
    message = str(caught.value)
    assert f"looked for {parent / 'mnist'}, {tmp_path / 'env' / 'mnist'}, {cache / 'mnist'})" in message
    assert "http://127.0.0.1:1/ failed (ConnectionError)" in message
    assert all(name in message for name in (*FILES, "data_dir", "XPNET_DATA_DIR"))
    assert "\n" not in message
    with pytest.raises(errors.MissingFileError, match=r"not downloaded \(download is off\)"):
        load("mnist", download=False)


def test_a_download_that_is_not_what_was_published(mirror, cache):
    server = mirror({f"{name}.gz": gzip.compress(b"a login page") for name in FILES})
    with pytest.raises(errors.MissingFileError, match=f"{FILES[0]}.gz without the published SHA-256"):
        load("mnist", mirrors=[server.address])
    assert list((cache / "mnist").iterdir()) == []


def test_known_and_unknown_names_of_data_sets():
    assert load("digits").x_train.shape == (1437, 8, 8)
    with pytest.raises(
        errors.ConfigurationError, match=r"unknown data set 'minst' \(did you mean 'mnist'\?\); .*FILE.npz"
    ):
        load("minst")


def test_the_users_own_file(tmp_path):
    arrays = {"x": np.ones((3, 4), np.float32), "y": np.array([0, 1, 1])}
    np.savez(tmp_path / "mine.npz", **{f"{k}_{part}": a for k, a in arrays.items() for part in ("train", "test")})
    for path in (tmp_path / "mine.npz", str(tmp_path / "mine.npz")):
        assert load(path).classes == 2
    with pytest.raises(errors.MissingFileError, match="cannot be read"):
        load(tmp_path / "other.npz")


def test_importing_and_loading_locally_is_cheap(parent, write_set):
    write_set(parent / "mnist", zipped=True)
    code = f"""
import sys, xpnet.data
xpnet.data.load("mnist", {str(parent)!r})
xpnet.data.load("digits")
print(sorted({{"pooch", "requests", "urllib3", "tqdm", "numba", "cupy"}} & sys.modules.keys()))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


def test_official_mnist(real_mnist):
    data = load("mnist", real_mnist, download=False)
    assert (data.x_train.shape, data.x_test.shape) == ((60000, 28, 28), (10000, 28, 28))
    assert data.y_train[:5].tolist() == [5, 0, 4, 1, 9]
    assert data.y_test[:5].tolist() == [7, 2, 1, 0, 4]
    # Per digit, as the description of MNIST gives them; sums computed by another reader (od and awk).
    assert np.bincount(data.y_train).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(data.y_test).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert (data.x_train.sum(), data.x_test.sum()) == (1567298545, 264923200)


def test_downloads_into_the_cache_and_completes_it(real_mnist, mirror, cache):
    files = {path.name: path.read_bytes() for path in (real_mnist / "mnist").iterdir()}
    server = mirror(files)
    assert load("mnist", mirrors=[server.address]).x_train.shape == (60000, 28, 28)
    assert {path.name: path.read_bytes() for path in (cache / "mnist").iterdir()} == files
    (cache / "mnist" / f"{FILES[3]}.gz").unlink()
    server.requests.clear()
    assert load("mnist", mirrors=[server.address]).x_test.shape == (10000, 28, 28)
    assert server.requests == [("HEAD", f"{FILES[0]}.gz"), ("GET", f"{FILES[3]}.gz")]
    assert load("mnist", mirrors=["http://127.0.0.1:1"]).classes == 10
