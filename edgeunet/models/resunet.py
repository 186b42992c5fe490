"""Residual U-Net: pre-activation residual units in a U."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from .base import SegmentationNet
from .blocks import bilinear, descend
from .registry import register_model


class ResidualUnit(nn.Module):
    """BN-ReLU-conv twice, added to the input: full pre-activation.

    He et al., "Identity Mappings in Deep Residual Networks", ECCV 2016 (arXiv 1603.05027). A 1x1
    convolution projects the input if the shape changes. No convolution has a bias, because the next
    unit's normalisation or the head has one.

    Args:
        first: leave out the first BN-ReLU, for the unit that reads the image.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, stride: int = 1, first: bool = False
    ) -> None:
        super().__init__()
        before = () if first else (nn.BatchNorm2d(in_channels), nn.ReLU(inplace=True))
        self.layers = nn.Sequential(
            *before,
            nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, H/stride, W/stride)."""
        out: Tensor = self.shortcut(x) + self.layers(x)
        return out


@register_model("resunet")
class ResUNet(SegmentationNet):
    """Residual U-Net, 8.2 M parameters at width 64.

    Zhang et al., "Road Extraction by Deep Residual U-Net", IEEE GRSL 15 (2018) (arXiv
    1711.10684), section II and table I: three residual units down, a bridge, three up; strided
    convolution instead of pooling.

    What differs: nothing. The paper leaves the upsampling open; it is bilinear here.

    Args:
        width: channels of the first unit; each of the two below and the bridge have twice as
            many as the one before.

    Example:
        >>> import torch
        >>> from edgeunet import create_model
        >>> create_model("resunet", num_classes=2, width=4)(torch.zeros(1, 3, 32, 48)).shape
        torch.Size([1, 2, 32, 48])
    """

    size_multiple = 8

    def __init__(
        self, *, num_classes: int, in_channels: int = 3, width: int = 64, cgm: bool = False
    ) -> None:
        channels = [width << level for level in range(4)]
        super().__init__(deepest_channels=channels[-1], num_classes=num_classes, cgm=cgm)
        self.encoder = nn.ModuleList([ResidualUnit(in_channels, width, first=True)])
        self.encoder.extend(
            ResidualUnit(before, after, stride=2) for before, after in pairwise(channels)
        )
        self.up = bilinear()
        self.decoder = nn.ModuleList(
            ResidualUnit(channels[level + 1] + channels[level], channels[level])
            for level in reversed(range(3))
        )
        self.head = nn.Conv2d(width, num_classes, kernel_size=1)

    def encode(self, image: Tensor) -> list[Tensor]:
        """(N, in_channels, H, W) -> features at strides 1, 2, 4 and the bridge at 8."""
        return descend(self.encoder, image)

    def decode(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Features -> one head (N, C, H, W)."""
        x = features[-1]
        for unit, skip in zip(self.decoder, reversed(features[:-1]), strict=True):
            x = unit(torch.cat([self.up(x), skip], dim=1))
        return (self.head(x),)
