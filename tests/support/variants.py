"""Small nets of every variant."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from edgeunet.models import SegmentationNet, create_model

VARIANTS = ("eff_unet", "mobile_unet", "resunet", "unet", "unet3p", "unetpp")
TINY = {"eff_unet": 8, "mobile_unet": 8, "resunet": 4, "unet": 4, "unet3p": 4, "unetpp": 4}
SIZE_MULTIPLE = {
    "eff_unet": 32,
    "mobile_unet": 32,
    "resunet": 8,
    "unet": 16,
    "unet3p": 16,
    "unetpp": 16,
}
every_variant = pytest.mark.parametrize("name", VARIANTS)


def tiny(name: str, *, num_classes: int = 3, **arguments: Any) -> SegmentationNet:
    """A small net in evaluation mode, its weights the same at every call."""
    torch.manual_seed(0)
    return create_model(name, num_classes=num_classes, **{"width": TINY[name], **arguments}).eval()


@cache
def shared(name: str, cgm: bool = False) -> SegmentationNet:
    """`tiny`, built once; for tests that do not change it."""
    return tiny(name, cgm=cgm)


def image(name: str, *, batch: int = 1, channels: int = 3, seed: int = 0) -> Tensor:
    """Random image, 2 x 3 times the variant's size multiple."""
    side = SIZE_MULTIPLE[name]
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, channels, 2 * side, 3 * side, generator=generator)


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
