"""Float32 matrix products (GEMM): a register-blocked micro-kernel over packed panels, on one thread or several."""
