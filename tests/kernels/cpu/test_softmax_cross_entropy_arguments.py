"""Invalid arguments of the softmax cross-entropy: the error, and that nothing has been written."""

from __future__ import annotations

import numpy as np
import pytest
from xpnet_kernels.cpu import softmax_cross_entropy

ROWS, CLASSES = 3, 5


@pytest.fixture(params=[np.float32, np.float64])
def arguments(request):
    dtype = request.param
    return {
        "logits": np.ones((ROWS, CLASSES), dtype),
        "labels": np.array([0, 4, 2]),
        "summary": np.full(4, 7.0),
        "losses": np.full(ROWS, 7, dtype),
        "gradient": np.full((ROWS, CLASSES), 7, dtype),
        "log_sum_exp": np.full(ROWS, 7, dtype),
        "predictions": np.full(ROWS, 7),
    }


OUTPUTS = ("summary", "losses", "gradient", "log_sum_exp", "predictions")


def refused(arguments, error, message, **changes):
    with pytest.raises(error, match=message):
        softmax_cross_entropy(**(arguments | changes))
    for name in OUTPUTS:
        assert arguments[name] is None or (arguments[name] == 7).all(), name


@pytest.mark.parametrize("extras", [True, False])
@pytest.mark.parametrize("dtype", [np.int64, np.int8])
@pytest.mark.parametrize(("row", "label"), [(0, -1), (1, 5), (2, 100)])
def test_a_bad_label(arguments, extras, dtype, row, label):
    labels = arguments["labels"].astype(dtype)
    labels[row] = label
    if not extras:
        arguments |= {"log_sum_exp": None, "predictions": None}
    message = f"the label of row {row} is {label}, but there are 5 classes: labels are 0 to 4"
    refused(arguments, IndexError, message, labels=labels)


def test_a_label_beyond_signed_integers(arguments):
    labels = np.array([0, 2**64 - 1, 0], np.uint64)
    refused(arguments, IndexError, "the label of row 1 is 18446744073709551615", labels=labels)


def test_the_first_bad_label_is_named_also_in_large_batches():
    rows = 300_000
    labels = np.zeros(rows, np.int64)
    labels[[123_456, 250_000]] = 9
    losses, gradient = np.full(rows, 7, np.float32), np.full((rows, 4), 7, np.float32)
    with pytest.raises(IndexError, match="the label of row 123456 is 9"):
        softmax_cross_entropy(
            np.ones((rows, 4), np.float32), labels, summary=np.empty(4), losses=losses, gradient=gradient
        )
    assert (losses == 7).all()
    assert (gradient == 7).all()


@pytest.fixture(params=[True, False])
def name(request, arguments):
    """Of an output, with and without the extras; without them compiled code checks the arguments."""
    if not request.param[1]:
        arguments |= {"log_sum_exp": None, "predictions": None}
    return request.param[0]


CASES = [*((name, True) for name in OUTPUTS), *((name, False) for name in ("losses", "gradient", "summary"))]


@pytest.mark.parametrize("name", CASES, indirect=True)
class TestOutputs:
    def test_an_output_of_another_type_is_refused(self, arguments, name):
        refused(arguments, TypeError, f"{name} must be .*, not int16", **{name: arguments[name].astype(np.int16)})

    def test_an_output_of_another_shape_is_refused(self, arguments, name):
        refused(arguments, ValueError, f"{name} must have the shape", **{name: arguments[name][:-1]})
        refused(arguments, ValueError, f"{name} must have the shape", **{name: arguments[name][None]})

    def test_a_read_only_output_is_refused(self, arguments, name):
        output = arguments[name].copy()
        output.flags.writeable = False
        refused(arguments, ValueError, f"{name} is an output, but this array is read-only", **{name: output})

    def test_an_output_with_a_stride_is_refused(self, arguments, name):
        output = np.repeat(arguments[name], 2, axis=-1)[..., ::2]
        refused(arguments, ValueError, f"{name} must have contiguous rows", **{name: output})
        assert (output == 7).all()

    def test_not_an_array(self, arguments, name):
        message = f"{name} must be a NumPy array, not list; numpy.asarray makes one"
        refused(arguments, TypeError, message, **{name: arguments[name].tolist()})


@pytest.mark.parametrize("name", CASES, indirect=True)
@pytest.mark.parametrize("arguments", [np.float64], indirect=True)
def test_an_output_on_the_labels(arguments, name):
    memory = np.zeros(ROWS * CLASSES)  # good labels, until an output is written there
    output = memory.view(arguments[name].dtype)[: arguments[name].size].reshape(arguments[name].shape)
    changes = {"labels": memory.view(np.int64)[:ROWS], name: output}
    with pytest.raises(ValueError, match=f"{name} is an output, but shares memory with labels"):
        softmax_cross_entropy(**(arguments | changes))
    assert (memory == 0).all()


def test_probabilities_of_no_class(arguments):
    dtype = arguments["logits"].dtype
    nothing = {"logits": np.empty((ROWS, 0), dtype), "labels": np.empty((ROWS, 0), dtype), "gradient": None}
    refused(arguments, ValueError, r"logits of shape \(3, 0\) have no class", **nothing)


@pytest.mark.parametrize("extras", [True, False])
def test_invalid_inputs(arguments, extras):
    if not extras:
        arguments |= {"log_sum_exp": None, "predictions": None}
    logits, labels = arguments["logits"], arguments["labels"]
    refused(arguments, TypeError, "logits must be float32 or float64, not float16", logits=logits.astype(np.float16))
    half = {name: arguments[name].astype(np.float16) for name in ("logits", "losses", "gradient")}
    refused(arguments, TypeError, "logits must be float32 or float64, not float16", **half)
    refused(arguments, TypeError, "logits must be float32 or float64, not >f", logits=logits.astype(">f4"))
    refused(arguments, TypeError, "logits must be a NumPy array, not list", logits=logits.tolist())
    refused(arguments, ValueError, "logits must have 2 dimension", logits=logits[0])
    refused(arguments, ValueError, "logits must have contiguous rows", logits=np.asfortranarray(logits))
    refused(arguments, ValueError, r"labels must have the shape \(3,\), not \(2,\)", labels=labels[:2])
    refused(arguments, TypeError, "labels must be integers, not float64", labels=labels.astype(float))
    refused(arguments, TypeError, "labels must be integers, not bool", labels=labels.astype(bool))
    with_gaps = np.repeat(labels, 2)[::2]
    with_gaps.base[1::2] = 99
    softmax_cross_entropy(
        **({name: np.copy(a) for name, a in arguments.items() if a is not None} | {"labels": with_gaps})
    )
    refused(arguments, TypeError, "labels must be a NumPy array, not list", labels=labels.tolist())
    refused(arguments, TypeError, "labels must be float", labels=np.ones((ROWS, CLASSES), np.int64))
    refused(arguments, ValueError, "labels must have the shape", labels=np.ones((ROWS, 4), logits.dtype))


@pytest.mark.parametrize("shape", [(0, 0), (0, CLASSES), (ROWS, 0), (ROWS, 1), (ROWS + 1, CLASSES)])
def test_a_gradient_of_another_shape_is_not_taken_for_none(arguments, shape):
    arguments |= {"log_sum_exp": None, "predictions": None}
    gradient = np.full(shape, 7, arguments["logits"].dtype)
    refused(arguments, ValueError, r"gradient must have the shape \(3, 5\)", gradient=gradient)


def test_invalid_options(arguments):
    dtype = arguments["logits"].dtype
    refused(arguments, ValueError, "unknown reduction 'avg'; the choices are mean, sum, none", reduction="avg")
    refused(arguments, ValueError, "label_smoothing must be a number from 0 to 1, not 1.5", label_smoothing=1.5)
    refused(arguments, ValueError, "class_weights must have the shape", class_weights=np.ones(4, dtype))
    refused(arguments, TypeError, "class_weights must be float", class_weights=np.ones(5, np.int64))
    refused(arguments, ValueError, "row_weights must have the shape", row_weights=np.ones(5, dtype))
    refused(arguments, ValueError, "upstream must have the shape", reduction="none", upstream=np.ones(5, dtype))
    refused(arguments, TypeError, "upstream must be a number", upstream=np.ones(3, dtype))
    probabilities = np.ones((ROWS, CLASSES), dtype)
    refused(arguments, ValueError, "ignore_index goes with integer labels", labels=probabilities, ignore_index=1)
    refused(arguments, ValueError, "ignore_index must be a number of 64 bits", ignore_index=2**70)
    refused(arguments, TypeError, "cannot be interpreted as an integer", ignore_index=1.9)
    labels = np.array([2**64 - 100, 1, 0], np.uint64)
    refused(arguments, IndexError, "the label of row 0 is 18446744073709551516", labels=labels, ignore_index=-100)


def test_the_gradient_and_the_logits(arguments):
    logits = arguments["logits"]
    message = "gradient is the array of the logits; in_place=True allows it to overwrite them"
    refused(arguments, ValueError, message, gradient=logits)
    wide = np.ones((ROWS, 8), logits.dtype)
    for in_place in (False, True):
        options = {"logits": wide[:, :5], "gradient": wide[:, 3:], "in_place": in_place}
        refused(arguments, ValueError, "gradient overlaps with logits at other elements", **options)
        options |= {"log_sum_exp": None, "predictions": None}
        refused(arguments, ValueError, "gradient overlaps with logits at other elements", **options)
    assert (wide == 1).all()


def test_rows_that_overlap(arguments):
    memory = np.full(40, 7, arguments["logits"].dtype)
    overlapping = np.lib.stride_tricks.as_strided(memory, (ROWS, CLASSES), (memory.itemsize, memory.itemsize))
    refused(arguments, ValueError, "gradient is an output, but the rows of this array overlap", gradient=overlapping)
    assert (memory == 7).all()
