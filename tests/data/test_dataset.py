import numpy as np
import pytest

from xpnet import errors
from xpnet.data.dataset import MOST_CLASSES, Dataset


def make(**changes):
    arguments = {
        "name": "mine",
        "x_train": np.arange(24, dtype=np.uint8).reshape(3, 2, 4),
        "y_train": np.array([0, 1, 2], np.uint8),
        "x_test": np.arange(16, dtype=np.uint8).reshape(2, 2, 4),
        "y_test": np.array([2, 0], np.int32),
        "classes": 3,
    }
    return Dataset(**(arguments | changes))


def test_keeps_uint8_images_and_int64_labels():
    data = make()
    assert data.sample_shape == (2, 4)
    assert data.x_train.dtype == data.x_test.dtype == np.uint8
    assert data.y_train.dtype == data.y_test.dtype == np.int64
    assert data.x_train.tolist() == np.arange(24).reshape(3, 2, 4).tolist()
    assert (data.y_train.tolist(), data.y_test.tolist()) == ([0, 1, 2], [2, 0])


@pytest.mark.parametrize("attribute", ["x_train", "y_train", "x_test", "y_test"])
def test_arrays_are_read_only(attribute):
    with pytest.raises(ValueError, match="read-only"):
        getattr(make(), attribute)[0] = 1


def test_the_callers_arrays_stay_writable_and_shared():
    x, y = np.zeros((3, 4), np.float32), np.zeros(3, np.int64)
    data = make(x_train=x, y_train=y, x_test=x, y_test=y)
    assert np.shares_memory(data.x_train, x)
    assert np.shares_memory(data.y_train, y)
    x[0], y[0] = 1, 1


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ">f4", np.longdouble])
def test_floating_point_becomes_native_float32(dtype):
    x = np.linspace(0, 1, 6).reshape(3, 2).astype(dtype)
    data = make(x_train=x, x_test=x[:2])
    assert data.x_train.dtype == np.dtype(np.float32)
    np.testing.assert_array_equal(data.x_train, x.astype(np.float32))


def test_images_become_contiguous():
    x = np.asfortranarray(np.arange(12, dtype=np.uint8).reshape(3, 4))
    data = make(x_train=x, x_test=x[:2])
    assert data.x_train.flags.c_contiguous
    assert data.x_train.tolist() == x.tolist()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
def test_a_pixel_that_is_not_finite_is_named(value):
    x = np.zeros((4, 2, 2))
    x[2, 1, 0] = value
    with pytest.raises(errors.ConfigurationError, match="mine: x_test row 2 holds NaN, infinity"):
        make(x_train=np.zeros((3, 2, 2)), x_test=x, y_test=np.zeros(4, int))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"y_train": np.array([0, 3, 3])},
            errors.OutOfRangeError,
            "y_train row 1 is 3; 3 classes have the labels 0 to 2",
        ),
        ({"y_test": np.array([0, -1])}, errors.OutOfRangeError, "y_test row 1 is -1"),
        (
            {"y_test": np.array([0, 2**64 - 1], np.uint64)},
            errors.OutOfRangeError,
            f"y_test row 1 is {2**64 - 1}",
        ),
        ({"y_train": np.array([0.0, 1.0, 2.0])}, errors.DTypeError, "y_train is float64"),
        ({"y_train": np.array(["0", "1", "2"])}, errors.DTypeError, "y_train is <U1"),
        ({"y_train": np.array([0, 1])}, errors.ShapeError, "x_train has 3 rows and y_train 2"),
        (
            {"y_train": np.zeros((3, 1), int)},
            errors.ShapeError,
            r"y_train has shape \(3, 1\); expected \(N,\)",
        ),
        ({"y_train": np.array(0)}, errors.ShapeError, r"y_train has shape \(\)"),
        ({"x_train": np.zeros((0, 2, 4), np.uint8)}, errors.ShapeError, r"x_train has shape \(0, 2, 4\)"),
        ({"x_test": np.zeros((2, 0), np.uint8)}, errors.ShapeError, r"x_test has shape \(2, 0\)"),
        ({"x_train": np.zeros(3, np.uint8)}, errors.ShapeError, r"x_train has shape \(3,\)"),
        (
            {"x_test": np.zeros((2, 8), np.uint8)},
            errors.ShapeError,
            r"x_train has shape \(2, 4\) .* x_test \(8,\)",
        ),
        (
            {"x_train": np.zeros((3, 2, 4), np.int64)},
            errors.DTypeError,
            "x_train is int64; expected uint8 or floating",
        ),
        ({"x_train": np.zeros((3, 2, 4), object)}, errors.DTypeError, "x_train is object"),
        ({"x_train": np.full((3, 2, 4), "a")}, errors.DTypeError, "x_train is <U1"),
        ({"x_train": np.zeros((3, 2, 4), complex)}, errors.DTypeError, "x_train is complex128"),
        ({"x_test": np.zeros((2, 2, 4))}, errors.DTypeError, "x_train is uint8 and x_test float32"),
        ({"classes": 0}, errors.ConfigurationError, "classes must be a whole number of at least 1, not 0"),
        ({"classes": MOST_CLASSES + 1}, errors.ConfigurationError, "at most 1048576 classes, not 1048577"),
    ],
)
def test_errors_name_set_row_and_value(changes, error, message):
    with pytest.raises(error, match=message):
        make(**changes)


def test_repr_is_short():
    assert repr(make()) == "Dataset(name='mine', classes=3)"
