"""Kernels for the CPU and the GPU, called only by products."""
