"""Element-wise building blocks: the exponential, activations, sums of rows, updates of flat vectors."""
