"""The gradients of the linear layer and its activation: matrix products, and a kernel for dz and db if need be."""

from __future__ import annotations

from typing import Any

from ._bias_activation_backward import backward_launches
from .activations import activation_code
from .arrays import REALS, accumulator, array, optional_output, output
from .cublaslt import Epilogue
from .matrix_products import fused_product, product
from .prepared import Work, run


def linear_backward(
    dy: Any,
    x: Any,
    y: Any,
    W: Any,
    activation: str | None,
    dW: Any,
    db: Any,
    dz: Any,
    dx: Any = None,
    *,
    tf32: bool = False,
    stream: int = 0,
) -> None:
    """With dz = dy · act′: ``dW = xᵀ dz``, ``db = Σ_rows dz``, ``dx = dz Wᵀ``; queued on the stream.

    Args:
        dy: (N, outputs) of any element type, the gradient with respect to the output.
        x: (N, inputs), the input of the forward pass.
        y: (N, outputs), its output, from which act′ is computed.
        W: (inputs, outputs).
        activation: as in the forward pass.
        dW: (inputs, outputs), output; it and ``db`` may also be float32 for bfloat16 and float16.
        db: (outputs,), output.
        dz: (N, outputs), output. With the activation ``None`` dz is dy itself; then ``y`` and ``dz`` are
            not read, and may be ``None``.
        dx: (N, inputs), output; ``None``: it is not computed.
        tf32: whether the factors of a float32 product may be rounded to TF32.
        stream: the CUDA stream's handle.
    """
    run(prepare, stream, dy, x, y, W, activation, dW, db, dz, dx, tf32)


def prepare(
    dy: Any, x: Any, y: Any, W: Any, activation: str | None, dW: Any, db: Any, dz: Any, dx: Any, tf32: bool
) -> list[Work]:
    """Check the arguments and plan the work."""
    code = activation_code(activation)
    upstream = array("dy", dy, REALS, dimensions=2)
    element, (rows, columns) = upstream.element, upstream.shape
    summed = (element, accumulator(element))
    depth = array("W", W, (element,), dimensions=2).shape[0]
    weights = array("W", W, (element,), shape=(depth, columns))
    inputs = array("x", x, (element,), shape=(rows, depth))
    d_weights = output("dW", dW, summed, shape=(depth, columns))
    d_bias = output("db", db, summed, shape=(columns,))
    d_inputs = optional_output("dx", dx, element, (rows, depth))
    gradient = upstream
    works: list[Work] = []
    if activation is None:
        works += fused_product(inputs, upstream, d_weights, Epilogue.SUM_ROWS_OF_B, d_bias, flip_a=True, tf32=tf32)
        if not works:
            works += backward_launches(upstream, upstream, None, d_bias, code)
            works += product(inputs, upstream, d_weights, flip_a=True, tf32=tf32)
    else:
        activated = array("y", y, (element,), shape=(rows, columns))
        gradient = output("dz", dz, (element,), shape=(rows, columns))
        works += backward_launches(upstream, activated, gradient, d_bias, code)
        works += product(inputs, gradient, d_weights, flip_a=True, tf32=tf32)
    if d_inputs is not None:
        works += product(gradient, weights, d_inputs, flip_b=True, tf32=tf32)
    return works
