import numpy as np
import pytest

from xpnet.data import load_mnist


@pytest.fixture
def data_dir(tmp_path, write_set):
    write_set(tmp_path / "data" / "mnist", zipped=True)
    return tmp_path / "data"


def test_by_default_flat_float32_divided_by_255(data_dir, small_set):
    (x_train, t_train), (x_test, t_test) = load_mnist(data_dir=data_dir)
    assert (x_train.dtype, x_train.shape, x_test.shape) == (np.float32, (5, 784), (3, 784))
    np.testing.assert_allclose(x_train, small_set[0].reshape(5, 784) / 255.0, rtol=6e-8)
    np.testing.assert_allclose(x_test, small_set[2].reshape(3, 784) / 255.0, rtol=6e-8)
    assert t_train.tolist() == [5, 0, 4, 1, 9]
    assert t_test.tolist() == [7, 2, 1]
    assert t_train.dtype == np.int64


def test_without_normalizing_uint8_as_published(data_dir, small_set):
    (x_train, _), (x_test, _) = load_mnist(normalize=False, data_dir=data_dir)
    assert x_train.dtype == np.uint8
    assert x_train.tolist() == small_set[0].reshape(5, 784).tolist()
    assert x_test.tolist() == small_set[2].reshape(3, 784).tolist()


@pytest.mark.parametrize("normalize", [True, False])
def test_without_flattening_one_channel(data_dir, normalize):
    (x_train, _), (x_test, _) = load_mnist(normalize, flatten=False, data_dir=data_dir)
    assert (x_train.shape, x_test.shape) == ((5, 1, 28, 28), (3, 1, 28, 28))
    (flat, _), _ = load_mnist(normalize, data_dir=data_dir)
    assert x_train.reshape(5, 784).tolist() == flat.tolist()


def test_one_hot_labels(data_dir):
    (_, t_train), (_, t_test) = load_mnist(one_hot_label=True, data_dir=data_dir)
    assert (t_train.dtype, t_train.shape, t_test.shape) == (np.float32, (5, 10), (3, 10))
    assert t_train.sum(axis=1).tolist() == [1] * 5
    assert t_train.argmax(axis=1).tolist() == [5, 0, 4, 1, 9]
    assert t_test.argmax(axis=1).tolist() == [7, 2, 1]


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("one_hot_label", [True, False])
def test_the_arrays_are_the_callers_own(data_dir, normalize, one_hot_label):
    def load():
        return [a for part in load_mnist(normalize, one_hot_label=one_hot_label, data_dir=data_dir) for a in part]

    for array in load():
        array[...] = 1
    assert all((array != 1).any() for array in load())


def test_official_files(real_mnist):
    (x_train, t_train), (x_test, t_test) = load_mnist(one_hot_label=True, data_dir=real_mnist)
    assert (x_train.shape, t_train.shape) == ((60000, 784), (60000, 10))
    assert (x_test.shape, t_test.shape) == ((10000, 784), (10000, 10))
    # The mean and standard deviation that the field normalises MNIST with.
    assert round(float(x_train.mean(dtype=np.float64)), 4) == 0.1307
    assert round(float(x_train.std(dtype=np.float64)), 4) == 0.3081
