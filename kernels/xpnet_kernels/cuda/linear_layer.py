"""The linear layer and its activation, forward and backward: cuBLAS's products, and one kernel for all the rest."""

from __future__ import annotations

from typing import Any

from .activations import activation_code, launch_backward, launch_forward
from .arrays import REALS, array, optional_output, output
from .matrix_products import multiply, on_stream


def linear(x: Any, W: Any, b: Any, activation: str | None, out: Any, *, stream: int = 0) -> None:
    """``out = act(x W + b)``, queued on the stream.

    Needs CuPy, for cuBLAS; cannot be captured in a graph, as CuPy's matrix products cannot.

    Args:
        x: (N, inputs) of any element type.
        W: (inputs, outputs).
        b: (outputs,).
        activation: ``None``, "relu", "sigmoid" or "tanh".
        out: (N, outputs), output.
        stream: the CUDA stream's handle.
    """
    code = activation_code(activation)
    inputs = array("x", x, REALS, dimensions=2)
    element, (rows, depth) = inputs.element, inputs.shape
    columns = array("W", W, (element,), dimensions=2).shape[1]
    weights = array("W", W, (element,), shape=(depth, columns))
    bias = array("b", b, (element,), shape=(columns,))
    result = output("out", out, (element,), shape=(rows, columns))
    with on_stream(stream):
        multiply(inputs, weights, result)
    launch_forward(result, bias, result, code, stream)


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
    stream: int = 0,
) -> None:
    """With dz = dy · act′: ``dW = xᵀ dz``, ``db = Σ_rows dz``, ``dx = dz Wᵀ``; queued on the stream.

    Args:
        dy: (N, outputs) of any element type, the gradient with respect to the output.
        x: (N, inputs), what the forward pass took.
        y: (N, outputs), what it gave; act′ is taken from it.
        W: (inputs, outputs).
        activation: as in the forward pass.
        dW: (inputs, outputs), output.
        db: (outputs,), output.
        dz: (N, outputs), output. With the activation ``None`` dz is dy itself: then ``y`` and ``dz``
            are not looked at, and may be ``None``.
        dx: (N, inputs), output; ``None``: no work is done for it.
        stream: the CUDA stream's handle.
    """
    code = activation_code(activation)
    upstream = array("dy", dy, REALS, dimensions=2)
    element, (rows, columns) = upstream.element, upstream.shape
    depth = array("W", W, (element,), dimensions=2).shape[0]
    weights = array("W", W, (element,), shape=(depth, columns))
    inputs = array("x", x, (element,), shape=(rows, depth))
    d_weights = output("dW", dW, (element,), shape=(depth, columns))
    d_bias = output("db", db, (element,), shape=(columns,))
    d_inputs = optional_output("dx", dx, element, (rows, depth))
    if activation is None:
        launch_backward(upstream, upstream, None, d_bias, code, stream)
        gradient = upstream
    else:
        activated = array("y", y, (element,), shape=(rows, columns))
        gradient = output("dz", dz, (element,), shape=(rows, columns))
        launch_backward(upstream, activated, gradient, d_bias, code, stream)
    with on_stream(stream):
        multiply(inputs, gradient, d_weights, flip_a=True)
        if d_inputs is not None:
            multiply(gradient, weights, d_inputs, flip_b=True)
