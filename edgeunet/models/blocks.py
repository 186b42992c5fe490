"""Building blocks that several variants share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional


def round_channels(channels: float) -> int:
    """Nearest multiple of 8 that is at most 10 % below `channels` (MobileNetV2's rule)."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def descend(
    stages: Iterable[nn.Module], image: Tensor, *, pool: nn.Module | None = None
) -> list[Tensor]:
    """Features of stages that follow each other, pooled in between; an encoder's pyramid."""
    features: list[Tensor] = []
    for stage in stages:
        x = features[-1] if features else image
        features.append(stage(pool(x) if pool is not None and features else x))
    return features


def ascend(blocks: Iterable[nn.Module], features: Sequence[Tensor]) -> Tensor:
    """The deepest feature, after each block has added the next finer one."""
    x = features[-1]
    for block, skip in zip(blocks, reversed(features[:-1]), strict=True):
        x = block(x, skip)
    return x


class SamePadConv2d(nn.Conv2d):
    """Convolution with TensorFlow's padding "same", for even sides and an odd kernel.

    At stride 2 it pads one pixel more at the bottom and the right, so that kernels lie half a
    stride further than PyTorch's: weights that were trained with one padding lose with the other.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, H/stride, W/stride)."""
        rows, columns = (k - s for k, s in zip(self.kernel_size, self.stride, strict=True))
        sides = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
        padded = functional.pad(x, sides)
        return functional.conv2d(padded, self.weight, self.bias, self.stride, groups=self.groups)


class ConvNormAct(nn.Sequential):
    """Convolution without bias, batch normalisation, activation; `act` None is linear.

    Args:
        conv: class of the convolution. eps: of the batch normalisation.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int = 3,
        stride: int = 1,
        padding: int | None = None,
        groups: int = 1,
        act: type[nn.Module] | None = nn.ReLU,
        conv: type[nn.Conv2d] = nn.Conv2d,
        eps: float = 1e-5,
    ) -> None:
        pad = kernel_size // 2 if padding is None else padding
        shape = (in_channels, out_channels, kernel_size, stride, pad)
        super().__init__(
            conv(*shape, groups=groups, bias=False), nn.BatchNorm2d(out_channels, eps=eps)
        )
        if act is not None:
            self.append(act(inplace=True))


class DoubleConv(nn.Sequential):
    """Two 3x3 convolutions, each with batch normalisation and ReLU: U-Net's stage.

    Args:
        middle_channels: channels between the two; `out_channels` by default.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        middle_channels: int | None = None,
        padding: int = 1,
    ) -> None:
        middle = out_channels if middle_channels is None else middle_channels
        super().__init__(
            ConvNormAct(in_channels, middle, padding=padding),
            ConvNormAct(middle, out_channels, padding=padding),
        )


def double_convs(in_channels: int, channels: Sequence[int], *, padding: int = 1) -> nn.ModuleList:
    """U-Net's encoder: a `DoubleConv` to each number of channels."""
    before = [in_channels, *channels[:-1]]
    return nn.ModuleList(map(partial(DoubleConv, padding=padding), before, channels))


class UpBlock(nn.Module):
    """2x upsampling, concatenation with the skip, and layers that fuse both.

    Args:
        crop: pixels cut from every side of the skip, which unpadded convolutions leave larger.
    """

    def __init__(self, up: nn.Module, fuse: nn.Module, *, crop: int = 0) -> None:
        super().__init__()
        self.up, self.fuse, self.crop = up, fuse, crop

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(N, in, h, w), (N, skip, 2h + 2 crop, 2w + 2 crop) -> (N, out, 2h, 2w), or 4 less."""
        if self.crop:
            # Fixed margins instead of the size of x: the traced graph then computes no shapes.
            skip = skip[:, :, self.crop : -self.crop, self.crop : -self.crop]
        fused: Tensor = self.fuse(torch.cat([self.up(x), skip], dim=1))
        return fused


class UpDoubleConv(UpBlock):
    """An `UpBlock` that fuses with two convolutions: U-Net's way up.

    Args:
        up: 2x upsampling that keeps the channels; by default a learned one to `out_channels`.
        middle_channels: channels between the convolutions; `out_channels` by default.
        padding: of the 3x3 convolutions, 1 or 0. crop: see `UpBlock`.
    """

    def __init__(
        self,
        in_channels: int,
        skip_channels: int,
        out_channels: int,
        *,
        up: nn.Module | None = None,
        middle_channels: int | None = None,
        padding: int = 1,
        crop: int = 0,
    ) -> None:
        risen = in_channels
        if up is None:
            risen = out_channels
            up = nn.ConvTranspose2d(in_channels, out_channels, kernel_size=2, stride=2)
        fuse = DoubleConv(
            risen + skip_channels, out_channels, middle_channels=middle_channels, padding=padding
        )
        super().__init__(up, fuse, crop=crop)


def bilinear(factor: int = 2, *, align_corners: bool = False) -> nn.Upsample:
    """Bilinear upsampling by a factor, which, unlike a size, is a constant in the traced graph.

    Args:
        align_corners: keep the centres of the corner pixels in place instead of the borders.
    """
    return nn.Upsample(scale_factor=factor, mode="bilinear", align_corners=align_corners)


class InvertedResidual(nn.Module):
    """MobileNetV2's block: 1x1 expansion, 3x3 depthwise, linear 1x1 projection.

    Sandler et al., CVPR 2018 (arXiv 1801.04381), section 3.3. The input is added if stride is 1 and
    the channels agree. With `expand` 1 there is no expansion.

    Args:
        attention: makes a layer after the depthwise convolution from its channels.
        layer: builds each convolution with its normalisation; takes the arguments of `ConvNormAct`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int,
        expand: int,
        kernel_size: int = 3,
        act: type[nn.Module] = nn.ReLU6,
        attention: Callable[[int], nn.Module] | None = None,
        layer: Callable[..., nn.Module] = ConvNormAct,
    ) -> None:
        super().__init__()
        hidden = in_channels * expand
        layers: list[nn.Module] = []
        if expand != 1:
            layers.append(layer(in_channels, hidden, kernel_size=1, act=act))
        layers += [
            layer(hidden, hidden, kernel_size=kernel_size, stride=stride, groups=hidden, act=act),
            *([] if attention is None else [attention(hidden)]),
            layer(hidden, out_channels, kernel_size=1, act=None),
        ]
        self.layers = nn.Sequential(*layers)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, H/stride, W/stride)."""
        out: Tensor = self.layers(x)
        return x + out if self.residual else out
