"""Layers as a user writes them, outside xpnet."""

from __future__ import annotations

from xpnet import Constant, Layer, Linear, ParameterSpec


class Scale(Layer):
    """y = s · x, feature by feature."""

    def __init__(self, features: int = 3) -> None:
        self.features = features

    def parameter_specs(self):
        return {"s": ParameterSpec((self.features,), Constant(2.0))}

    def forward(self, x, context):
        self.saved = x
        return self.parameters["s"] * x

    def backward(self, dy, context):
        self.gradients["s"] = context.backend.xp.sum(dy * self.pop_saved(), axis=0)
        return self.parameters["s"] * dy


class Counting(Scale):
    """A Scale that counts its passes in a buffer."""

    def buffer_specs(self):
        return {"passes": ParameterSpec((1,), Constant(0.0))}

    def forward(self, x, context):
        self.buffers["passes"] += 1.0
        return super().forward(x, context)


class Branches(Layer):
    """The sum of what an encoder, a list of blocks and a dictionary of heads make of x; no word on children."""

    def __init__(self, features: int = 3) -> None:
        self.features = features
        self.encoder = Linear(features, features, "tanh")
        self.blocks = [Scale(features), Linear(features, features)]
        self.heads = {"left": Scale(features), "right": (Linear(features, features),)}

    def parts(self):
        return [self.encoder, *self.blocks, self.heads["left"], *self.heads["right"]]

    def forward(self, x, context):
        return sum(part.forward(x, context) for part in self.parts())

    def backward(self, dy, context):
        return sum(part.backward(dy, context) for part in self.parts())
