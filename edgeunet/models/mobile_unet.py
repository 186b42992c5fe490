"""Mobile U-Net: a MobileNetV2 encoder and a decoder of inverted residuals."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .base import SegmentationNet
from .blocks import ConvNormAct, InvertedResidual, round_channels
from .registry import register_model

# MobileNetV2, table 2: (expansion, channels at width 32, blocks, stride of the first block).
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
# Stages whose output is handed to the decoder: the last one at strides 2, 4, 8, 16 and 32.
_SKIP_STAGES = (0, 1, 2, 4, 6)
# Channels of the decoder at strides 16, 8, 4 and 2, at width 32.
_DECODER = (96, 32, 24, 16)


class MobileNetV2Encoder(nn.Module):
    """MobileNetV2 without its last 1x1 convolution and classifier (1,811,712 parameters)."""

    def __init__(self, *, in_channels: int, width: int) -> None:
        super().__init__()
        scale = width / 32
        channels = round_channels(32 * scale)
        self.stem = ConvNormAct(in_channels, channels, stride=2, act=nn.ReLU6)
        self.stages = nn.ModuleList()
        self.out_channels: list[int] = []
        for index, (expand, base, blocks, stride) in enumerate(_STAGES):
            out = round_channels(base * scale)
            stage: list[nn.Module] = []
            for block in range(blocks):
                stage.append(
                    InvertedResidual(
                        channels, out, stride=stride if block == 0 else 1, expand=expand
                    )
                )
                channels = out
            self.stages.append(nn.Sequential(*stage))
            if index in _SKIP_STAGES:
                self.out_channels.append(out)

    def forward(self, image: Tensor) -> list[Tensor]:
        """(N, in_channels, H, W) -> features at strides 2, 4, 8, 16, 32."""
        x = self.stem(image)
        features = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in _SKIP_STAGES:
                features.append(x)
        return features


class UpBlock(nn.Module):
    """Learned 2x upsampling, concatenation with the skip, inverted residual."""

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(in_channels, out_channels, kernel_size=2, stride=2)
        self.fuse = InvertedResidual(out_channels + skip_channels, out_channels, stride=1, expand=6)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(N, in, h, w), (N, skip, 2h, 2w) -> (N, out, 2h, 2w)."""
        fused: Tensor = self.fuse(torch.cat([self.up(x), skip], dim=1))
        return fused


@register_model("mobile_unet")
class MobileUNet(SegmentationNet):
    """Mobile U-Net, 2.4 M parameters at width 32.

    Jing et al., "Mobile-Unet: An efficient convolutional neural network for fabric defect
    detection", Textile Research Journal 92 (2022), on the encoder of Sandler et al.,
    "MobileNetV2", CVPR 2018 (arXiv 1801.04381).

    What differs: upsampling is a 2x2 transposed convolution with stride 2, which equals a 1x1
    convolution and a depth-to-space and therefore quantizes everywhere; the logits stay at half
    the image's resolution, and the runtime's post-processing does the last upsampling.

    Args:
        width: channels of the stem; 32 is MobileNetV2 1.0. Others scale all channels.
    """

    size_multiple = 32

    def __init__(
        self, *, num_classes: int, in_channels: int = 3, width: int = 32, cgm: bool = False
    ) -> None:
        encoder = MobileNetV2Encoder(in_channels=in_channels, width=width)
        channels = encoder.out_channels
        super().__init__(deepest_channels=channels[-1], num_classes=num_classes, cgm=cgm)
        self.encoder = encoder
        self.decoder = nn.ModuleList()
        x_channels = channels[-1]
        for base, skip in zip(_DECODER, reversed(channels[:-1]), strict=True):
            out = round_channels(base * width / 32)
            self.decoder.append(UpBlock(x_channels, skip, out))
            x_channels = out
        self.head = nn.Conv2d(x_channels, num_classes, kernel_size=1)

    def encode(self, image: Tensor) -> list[Tensor]:
        """(N, in_channels, H, W) -> features at strides 2, 4, 8, 16, 32."""
        features: list[Tensor] = self.encoder(image)
        return features

    def decode(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Features -> one head (N, C, H/2, W/2)."""
        x = features[-1]
        for block, skip in zip(self.decoder, reversed(features[:-1]), strict=True):
            x = block(x, skip)
        return (self.head(x),)
