"""From a net in PyTorch to INT8 video in four lines: the last ones of `main`.

    python examples/own_unet/to_video.py FRAMES VIDEO

FRAMES is a folder of images like those of the video.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from net import make_net
from torch import nn

import edgeunet


def train(net: nn.Module, frames: Path) -> None:
    """Stands for your own training: some steps that tell bright pixels from dark ones."""
    images = [cv2.imread(str(path)) for path in sorted(frames.iterdir())]
    pixels = [cv2.resize(each, (96, 64))[..., ::-1] for each in images if each is not None]
    bright = np.stack([cv2.GaussianBlur(each.mean(2), (0, 0), 2) for each in pixels])
    labels = torch.from_numpy((bright > np.median(bright)).astype(np.int64))
    batch = torch.from_numpy(np.stack(pixels).astype(np.float32)).movedim(3, 1) / 255
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
