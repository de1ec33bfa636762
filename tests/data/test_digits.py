import numpy as np

from xpnet.data.digits import load_digits

# All figures below were taken from sklearn.datasets.load_digits() of scikit-learn 1.9.1.
ROW_1000 = """
    0 0 1 14 2 0 0 0    0 0 0 16 5 0 0 0    0 0 0 14 10 0 0 0     0 0 0 11 16 1 0 0
    0 0 0 3 14 6 0 0    0 0 0 0 8 12 0 0    0 0 10 14 13 16 8 3   0 0 2 11 12 15 16 15"""
ROW_1437 = """
    0 4 16 15 2 0 0 0   0 11 15 15 7 0 0 0  0 9 10 6 14 0 0 0     0 0 0 7 15 0 0 0
    0 0 0 13 10 0 0 0   0 0 1 16 7 2 2 0    0 1 12 16 15 16 15 0  0 4 16 16 16 12 11 0"""
ROW_1796 = """
    0 0 10 14 8 1 0 0   0 2 16 14 6 1 0 0   0 0 15 15 8 15 0 0    0 0 5 16 16 10 0 0
    0 0 12 15 15 12 0 0 0 4 16 6 4 16 6 0   0 8 16 10 8 16 8 0    0 1 8 12 14 12 1 0"""


def test_split_and_types():
    data = load_digits()
    assert (data.name, data.classes, int(data.x_train.max())) == ("digits", 10, 16)
    assert data.x_train.shape == (1437, 8, 8)
    assert data.x_test.shape == (360, 8, 8)
    assert data.x_train.dtype == np.uint8
    assert data.x_train.max() == data.x_test.max() == 16


def test_values_are_those_of_scikit_learn():
    data = load_digits()
    assert (data.x_train.sum(), data.x_test.sum()) == (449372, 112346)
    for image, row in (
        (data.x_train[1000], ROW_1000),
        (data.x_test[0], ROW_1437),
        (data.x_test[-1], ROW_1796),
    ):
        assert image.reshape(-1).tolist() == [int(pixel) for pixel in row.split()]
    total = data.x_train.sum(axis=0) + data.x_test.sum(axis=0)
    assert [total[0, 0], total[3, 4], total[7, 7], total[4, 2]] == [0, 17839, 655, 13778]


def test_labels_are_those_of_scikit_learn():
    data = load_digits()
    assert data.y_train[:20].tolist() == [*range(10), *range(10)]
    assert data.y_train[1000] == 1
    assert data.y_test[:10].tolist() == [2, 3, 4, 5, 6, 7, 8, 9, 0, 9]
    assert data.y_test[-1] == 8
    assert np.bincount(data.y_train).tolist() == [143, 146, 142, 146, 144, 145, 144, 143, 141, 143]
    assert np.bincount(data.y_test).tolist() == [35, 36, 35, 37, 37, 37, 37, 36, 33, 37]
