"""CUDA kernels for what is done before and after the net, so that pixels stay on the GPU."""

from .compile import load_kernels
from .launch import Kernels

__all__ = ["Kernels", "load_kernels"]
