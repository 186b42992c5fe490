"""The memory format that a net trains in."""

from __future__ import annotations

import torch
from torch import nn

_SAFE_CHANNELS = 16


def training_format(net: nn.Module, device: torch.device) -> torch.memory_format:
    """Channels last, the faster one, unless PyTorch's kernels write beyond their memory in it.

    On the CPU the backward pass of a strided 1x1 convolution with fewer than 16 input channels does
    so (torch 2.13 with oneDNN on AVX-512: a crash within a few steps), as in the shortcuts of a
    narrow Residual U-Net.
    """
    strided = any(
        isinstance(module, nn.Conv2d)
        and module.kernel_size == (1, 1)
        and module.stride != (1, 1)
        and module.in_channels < _SAFE_CHANNELS
        for module in net.modules()
    )
    unsafe = device.type == "cpu" and strided
    return torch.contiguous_format if unsafe else torch.channels_last
