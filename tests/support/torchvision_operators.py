"""Lets torchvision load beside a torch without CUDA.

PyPI's torchvision is built for CUDA. Beside the CPU build of torch, which the tests install, its
operators do not load, and it stops when it describes one of them. Segmentation nets use none.
"""

from __future__ import annotations

import functools

import torch

_KEPT: list[torch.library.Library] = []  # operators end with their library


@functools.cache
def declare_operators() -> None:
    """Declare the operators that torchvision describes, unless it loads without that."""
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _KEPT.append(library)
