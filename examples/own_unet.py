"""A U-Net of your own, from PyTorch to INT8 video in four lines: those of `main` below.

    python examples/own_unet.py FRAMES VIDEO

FRAMES is a folder of images like those of the video. The same net from the command line:

    edgeunet export --model examples/own_unet.py:make_net --size 64x96 --weights own_unet.pth
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

import edgeunet


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
    """What `edgeunet export --model examples/own_unet.py:make_net` calls."""
    return OwnUNet(width)


def train(net: nn.Module, frames: Path) -> None:
    """Stands for your own training: some steps that tell bright pixels from dark ones."""
    torch.manual_seed(0)
    images = [cv2.imread(str(path)) for path in sorted(frames.iterdir())]
    pixels = [cv2.resize(each, (96, 64))[..., ::-1] for each in images if each is not None]
    batch = torch.from_numpy(np.stack(pixels).astype(np.float32)).movedim(3, 1) / 255
    bright = cv2.GaussianBlur(batch.mean(1).numpy().transpose(1, 2, 0), (0, 0), 2).transpose(
        2, 0, 1
    )
    labels = torch.from_numpy((bright > np.median(bright)).astype(np.int64))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    batch = (batch - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(20):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(batch), labels).backward()
        optimizer.step()


def main(frames: Path, video: Path, bundle: Path = Path("own-int8")) -> int:
    """Train, export and run; how many frames the video has."""
    net, shares = make_net(), []
    train(net, frames)
    net.eval()
    names = ["dark", "bright"]
    # From here on it is edgeunet: four lines.
    edgeunet.export(net, bundle, size=(64, 96), classes=names, precision="int8", calib=frames)
    with edgeunet.load(bundle) as segmenter, segmenter.stream(video) as stream:
        for frame, mask in stream:
            shares.append(f"frame {frame.index}: {(mask == 1).mean():.0%} is bright")
    print("\n".join(shares))
    return len(shares)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
