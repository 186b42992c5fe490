"""Mobile U-Net: a MobileNetV2 encoder and a decoder of inverted residuals."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .backbone import BackboneUNet, StagedEncoder
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
# Channels of the decoder at strides 16, 8, 4 and 2, at width 32.
_DECODER = (96, 32, 24, 16)


def mobilenet_v2(*, in_channels: int, width: int) -> StagedEncoder:
    """MobileNetV2 without its last 1x1 convolution and classifier (1,811,712 parameters)."""
    channels = round_channels(width)
    stem = ConvNormAct(in_channels, channels, stride=2, act=nn.ReLU6)
    stages: list[tuple[nn.Module, int]] = []
    for expand, base, blocks, stride in _STAGES:
        out = round_channels(base * width / 32)
        first = InvertedResidual(channels, out, stride=stride, expand=expand)
        rest = [InvertedResidual(out, out, stride=1, expand=expand) for _ in range(blocks - 1)]
        stages.append((nn.Sequential(first, *rest), out))
        channels = out
    return StagedEncoder(stem, stages)


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
class MobileUNet(BackboneUNet):
    """Mobile U-Net, 2.4 M parameters at width 32.

    Jing et al., "Mobile-Unet: An efficient convolutional neural network for fabric defect
    detection", Textile Research Journal 92 (2022), on the encoder of Sandler et al.,
    "MobileNetV2", CVPR 2018 (arXiv 1801.04381).

    What differs: upsampling is a 2x2 transposed convolution with stride 2. That equals a 1x1
    convolution and a depth-to-space, which quantize everywhere. The logits have half the image's
    resolution; the runtime's post-processing does the last upsampling.

    Args:
        width: channels of the stem; 32 is MobileNetV2 1.0. Others scale all channels.

    Example:
        >>> import torch
        >>> from edgeunet import create_model
        >>> create_model("mobile_unet", num_classes=2, width=8)(torch.zeros(1, 3, 64, 96)).shape
        torch.Size([1, 2, 32, 48])
    """

    def __init__(
        self, *, num_classes: int, in_channels: int = 3, width: int = 32, cgm: bool = False
    ) -> None:
        super().__init__(
            mobilenet_v2(in_channels=in_channels, width=width),
            up=UpBlock,
            decoder=_DECODER,
            num_classes=num_classes,
            width=width,
            cgm=cgm,
        )
