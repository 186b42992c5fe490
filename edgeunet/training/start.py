"""Start a run from a checkpoint: what it tells about the net, and its weights."""

from __future__ import annotations

import torch
from torch import nn

from ..models import Card, Checkpoint, SegmentationNet
from ..models.base import PER_CLASS
from ..models.state_dict import load_weights
from ..models.structure import Structure


def structure_for(card: Card, *, num_classes: int) -> Structure | None:
    """Channels of the layers of a pruned net, with so many classes; None for a regular net."""
    if card.structure is None:
        return None
    return {
        name: (before, num_classes if f"{name}.".startswith(PER_CLASS) else after)
        for name, (before, after) in card.structure.items()
    }


def load_start(net: SegmentationNet, start: Checkpoint) -> None:
    """Copy a checkpoint's weights into a net that is to be trained.

    Heads and gate keep their fresh weights if the checkpoint lacks them or has other classes.

    Raises:
        CheckpointError: the rest of the net differs in any layer.
    """
    given = start.net.state_dict()
    tensors = {name: tensor for name, tensor in given.items() if not name.startswith(PER_CLASS)}
    for name, fresh in net.state_dict().items():
        if name.startswith(PER_CLASS):
            known = given.get(name, fresh)
            tensors[name] = known if known.shape == fresh.shape else fresh
    load_weights(net, tensors, source=str(start.path))


_SAFE_CHANNELS = 16


def training_format(net: nn.Module, device: torch.device) -> torch.memory_format:
    """Channels last, which is faster, unless PyTorch would write beyond its memory.

    On the CPU it does so in the backward pass of a strided 1x1 convolution with fewer than 16 input
    channels, as in the shortcuts of a narrow Residual U-Net (torch 2.13 with oneDNN on AVX-512: a
    crash within a few steps).
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
