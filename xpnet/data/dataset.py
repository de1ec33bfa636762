"""A data set: images and labels of a training set and a test set."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np

from xpnet.data.samples import Samples
from xpnet.errors import (
    ConfigurationError,
    DTypeError,
    OutOfRangeError,
    ShapeError,
    positive_integer,
)

MOST_CLASSES = 2**20  # a stray label would otherwise ask for a network with billions of outputs


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and class labels on the host, checked when it is made.

    Attributes:
        name: what the data set is called in reports and errors.
        x_train, x_test: (N, *sample_shape), C-contiguous; uint8 or floating point, which is converted to float32.
        y_train, y_test: (N,) class indices in [0, classes), of any integer type, which is converted to int64.
        classes: the number of classes.

    The arrays are read-only views, of the caller's memory unless they were converted.

    Raises:
        ShapeError: an array has no rows, or arrays do not fit each other.
        DTypeError: images are neither uint8 nor floating point, or labels are not integers.
        OutOfRangeError: a label is outside [0, classes); the message names set, row and value.
        ConfigurationError: a pixel is not finite, or ``classes`` is out of range.

    >>> x, y = np.zeros((3, 8, 8), np.uint8), np.array([0, 1, 2], np.uint8)
    >>> data = Dataset("blank", x, y, x, y, classes=3)
    >>> data.sample_shape, data.y_train.dtype
    ((8, 8), dtype('int64'))
    >>> Dataset("blank", x, y, x, y, classes=2)
    Traceback (most recent call last):
    xpnet.errors.OutOfRangeError: blank: y_train row 2 is 2; 2 classes have the labels 0 to 1
    """

    name: str
    x_train: np.ndarray = field(repr=False)
    y_train: np.ndarray = field(repr=False)
    x_test: np.ndarray = field(repr=False)
    y_test: np.ndarray = field(repr=False)
    classes: int

    def __post_init__(self) -> None:
        if positive_integer("classes", self.classes) > MOST_CLASSES:
            raise ConfigurationError(f"{self.name}: at most {MOST_CLASSES} classes, not {self.classes}")
        for part in ("train", "test"):
            images = _images(f"{self.name}: x_{part}", getattr(self, f"x_{part}"))
            labels = _labels(f"{self.name}: y_{part}", getattr(self, f"y_{part}"), self.classes)
            if len(images) != len(labels):
                raise ShapeError(
                    f"{self.name}: x_{part} has {len(images)} rows and y_{part} {len(labels)};"
                    " each image needs one label"
                )
            object.__setattr__(self, f"x_{part}", images)
            object.__setattr__(self, f"y_{part}", labels)
        if self.x_train.shape[1:] != self.x_test.shape[1:]:
            raise ShapeError(
                f"{self.name}: an image of x_train has shape {self.x_train.shape[1:]} and one of x_test"
                f" {self.x_test.shape[1:]}; they must agree"
            )
        if self.x_train.dtype != self.x_test.dtype:
            raise DTypeError(
                f"{self.name}: x_train is {self.x_train.dtype} and x_test {self.x_test.dtype};"
                " give both the same type, since one network takes both"
            )

    @property
    def train(self) -> Samples:
        """The training set."""
        return Samples(self.x_train, self.y_train)

    @property
    def test(self) -> Samples:
        """The test set."""
        return Samples(self.x_test, self.y_test)

    @property
    def fingerprint(self) -> str:
        """A hash of everything that training and testing depend on, which identifies the data set."""
        return self.digest(repr((self.x_train.shape, self.classes)))

    def digest(self, head: str) -> str:
        """The first 128 bits of SHA-256 over a text and all arrays, in hexadecimal."""
        digest = hashlib.sha256(head.encode())
        for array in (self.x_train, self.y_train, self.x_test, self.y_test):
            digest.update(array.data)
        return digest.hexdigest()[:32]

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """The shape of one image: (28, 28) for MNIST."""
        return self.x_train.shape[1:]


def _images(what: str, array: np.ndarray) -> np.ndarray:
    array = np.asarray(array)
    if array.ndim < 2 or array.size == 0:
        raise ShapeError(f"{what} has shape {array.shape}; expected (N, *sample_shape) and at least one row")
    if array.dtype.kind == "f":
        with np.errstate(over="ignore", invalid="ignore"):  # an overflow shows as infinity below
            array = array.astype(np.float32, order="C", copy=False)
            extremes = array.min(), array.max()  # NaN if there is one; a mask would take a quarter of the memory
        if not np.isfinite(extremes).all():
            finite = np.isfinite(array).reshape(len(array), -1).all(axis=1)
            raise ConfigurationError(
                f"{what} row {np.argmin(finite)} holds NaN, infinity or more than float32 can; fix or drop it"
            )
    elif array.dtype != np.uint8:
        raise DTypeError(f"{what} is {array.dtype}; expected uint8 or floating point, so cast it with astype")
    return _read_only(array)


def _labels(what: str, array: np.ndarray, classes: int) -> np.ndarray:
    array = np.asarray(array)
    if array.dtype.kind not in "iu":
        raise DTypeError(f"{what} is {array.dtype}; expected class indices, whole numbers of an integer type")
    if array.ndim != 1:
        raise ShapeError(f"{what} has shape {array.shape}; expected (N,), a class index for each image")
    outside = (array < 0) | (array >= classes)
    if outside.any():
        row = int(np.argmax(outside))
        raise OutOfRangeError(f"{what} row {row} is {array[row]}; {classes} classes have the labels 0 to {classes - 1}")
    return _read_only(array.astype(np.int64, copy=False))


def _read_only(array: np.ndarray) -> np.ndarray:
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view
