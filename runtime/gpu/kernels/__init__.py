"""CUDA kernels for pre- and post-processing, so that pixels stay on the GPU."""

from .compile import load_kernels
from .launch import FilterTables, Kernels, lacks_kernels

__all__ = ["FilterTables", "Kernels", "lacks_kernels", "load_kernels"]
