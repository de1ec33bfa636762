"""Numba extensions: compiling and caching kernels, a custom unboxer for arrays, and LLVM intrinsics."""
