"""A U-Net of your own, which is exported by its name once it is trained.

edgeunet export --model examples/own_unet/net.py:make_net --size 64x96 --weights own_unet.pth
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def block(inside: int, outside: int) -> nn.Sequential:
    """Two convolutions, as in every level of a U-Net."""
    layers: list[nn.Module] = []
    for channels in (inside, outside):
        layers += [nn.Conv2d(channels, outside, 3, padding=1, bias=False)]
        layers += [nn.BatchNorm2d(outside), nn.ReLU()]
    return nn.Sequential(*layers)


class OwnUNet(nn.Module):
    """Images (N, 3, H, W) -> logits (N, 2, H, W)."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.first, self.second = block(3, width), block(width, 2 * width)
        self.bottom = block(2 * width, 4 * width)
        self.up2 = nn.ConvTranspose2d(4 * width, 2 * width, 2, 2)
        self.up1 = nn.ConvTranspose2d(2 * width, width, 2, 2)
        self.left2, self.left1 = block(4 * width, 2 * width), block(2 * width, width)
        self.head = nn.Conv2d(width, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        """See the class."""
        pool = nn.functional.max_pool2d
        large = self.first(image)
        small = self.second(pool(large, 2))
        deep = self.up2(self.bottom(pool(small, 2)))
        deep = self.up1(self.left2(torch.cat([small, deep], 1)))
        logits: Tensor = self.head(self.left1(torch.cat([large, deep], 1)))
        return logits


def make_net(width: int = 8) -> nn.Module:
    """What `edgeunet export --model FILE.py:make_net` calls."""
    return OwnUNet(width)
