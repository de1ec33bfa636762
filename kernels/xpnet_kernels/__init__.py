"""Fused kernels for NumPy arrays (``cpu``) and CUDA arrays (``cuda``)."""
