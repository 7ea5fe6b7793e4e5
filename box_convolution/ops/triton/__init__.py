"""The operator on GPUs, as Triton kernels. Triton is imported with the first call."""
