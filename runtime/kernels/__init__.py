"""CUDA kernels for what is done before and after the net, so that pixels stay on the GPU."""

from .compile import kernels_image
from .launch import Kernels

__all__ = ["Kernels", "kernels_image"]
