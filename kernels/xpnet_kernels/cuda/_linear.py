"""The linear layer: one kernel by cuBLASLt, or with an activation a product and a kernel for it and the bias."""

from __future__ import annotations

from typing import Any

from ._bias_activation import forward_launches
from .activations import activation_code
from .arrays import REALS, array, output
from .cublaslt import Epilogue
from .matrix_products import fused_product, product
from .prepared import Work, run


def linear(x: Any, W: Any, b: Any, activation: str | None, out: Any, *, tf32: bool = False, stream: int = 0) -> None:
    """``out = act(x W + b)``, queued on the stream.

    Needs nvmath-python or CuPy, for cuBLASLt or cuBLAS; CuPy's matrix products cannot be captured in a graph.

    Args:
        x: (N, inputs) of any element type.
        W: (inputs, outputs).
        b: (outputs,).
        activation: ``None``, "relu", "sigmoid" or "tanh".
        out: (N, outputs), output.
        tf32: whether the factors of a float32 product may be rounded to TF32.
        stream: the CUDA stream's handle.
    """
    run(prepare, stream, x, W, b, activation, out, tf32)


def prepare(x: Any, W: Any, b: Any, activation: str | None, out: Any, tf32: bool) -> list[Work]:
    """Check the arguments and plan the work."""
    code = activation_code(activation)
    inputs = array("x", x, REALS, dimensions=2)
    element, (rows, depth) = inputs.element, inputs.shape
    columns = array("W", W, (element,), dimensions=2).shape[1]
    weights = array("W", W, (element,), shape=(depth, columns))
    bias = array("b", b, (element,), shape=(columns,))
    result = output("out", out, (element,), shape=(rows, columns))
    if activation is None and (fused := fused_product(inputs, weights, result, Epilogue.ADD_BIAS, bias, tf32=tf32)):
        return fused
    return [*product(inputs, weights, result, tf32=tf32), *forward_launches(result, bias, result, code)]
