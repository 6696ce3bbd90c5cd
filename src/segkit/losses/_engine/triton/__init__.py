"""The pass as Triton kernels."""
