"""The compiled parts of the softmax cross-entropy."""
