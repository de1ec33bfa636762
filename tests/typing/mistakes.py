"""Mistakes: a type checker reports each marked line, by the rule named there, and no other line."""

import xpnet
from xpnet import Nope  # reportAttributeAccessIssue

print(Nope, xpnet.Linear, xpnet.layers.ReLU)
xpnet.Linaer(784, 10)  # reportAttributeAccessIssue
print(xpnet.importlib)  # reportAttributeAccessIssue
xpnet.Adam(learning_rate=1e-3, beta1=0.8, clip_norm=1.0, frozen=["0.*", "*.b"])
xpnet.Adam(lr=1e-3)  # reportCallIssue
xpnet.Lion(1e-4, clip_norm="1.0")  # reportArgumentType
xpnet.AdamW(weight_decay=0.1, weight_decay_mask="*")
xpnet.AdamW(decay=0.1)  # reportCallIssue
xpnet.Linear(784, outputs="10")  # reportArgumentType
xpnet.Trainer(xpnet.Linear(2, 2), xpnet.MeanSquaredError())  # reportCallIssue
