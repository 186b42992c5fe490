"""NVIDIA GPUs: the CUDA driver, kernels, and TensorRT engines."""
