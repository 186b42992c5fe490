"""The checkpoint that a run starts from: what it tells of the net, and its weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import CheckpointError
from ..models import SegmentationNet
from ..models.checkpoints import Card, load_weights, read_card, read_tensors
from ..models.structure import Structure

_ANSWERS = ("head.", "heads.", "cgm.")
"""Keys of the layers that answer in classes, in every variant."""


@dataclass(frozen=True)
class Start:
    """A checkpoint, and its card where it has one."""

    path: Path
    card: Card | None

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of the variant, but for those that follow from the data and the input."""
        given = {} if self.card is None else self.card.arguments
        return {k: v for k, v in given.items() if k not in ("num_classes", "in_channels")}

    @property
    def training(self) -> dict[str, Any] | None:
        """How the weights were made, as their card has it."""
        return None if self.card is None else self.card.training

    def structure(self, *, num_classes: int) -> Structure | None:
        """Channels of the layers of a pruned net that answers in so many classes, else None."""
        if self.card is None or self.card.structure is None:
            return None
        return {
            name: (before, num_classes if f"{name}.".startswith(_ANSWERS) else after)
            for name, (before, after) in self.card.structure.items()
        }

    def load(self, net: SegmentationNet) -> None:
        """Copy the weights; layers that answer in other classes, or are new, stay fresh.

        Raises:
            CheckpointError: anything else that the checkpoint lacks or has besides.
        """
        own = net.state_dict()
        tensors = read_tensors(self.path)
        answers = {name: tensor for name, tensor in own.items() if name.startswith(_ANSWERS)}
        body = {name: t for name, t in tensors.items() if not name.startswith(_ANSWERS)}
        kept = {
            name: tensors[name]
            for name, tensor in answers.items()
            if name in tensors and tensors[name].shape == tensor.shape
        }
        load_weights(net, {**body, **answers, **kept}, source=str(self.path))


def open_start(path: Path, *, model: str) -> Start:
    """A checkpoint to start a variant from; CheckpointError where it is another's."""
    card = read_card(path) if path.with_suffix(".json").is_file() else None
    if card is not None and card.model != model:
        raise CheckpointError(f"{path} is a checkpoint of {card.model}; {model} was asked for.")
    return Start(path, card)


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
