"""Eff-UNet: an EfficientNet-B0 encoder and U-Net's decoder."""

from __future__ import annotations

from torch import Tensor, nn

from .backbone import BackboneUNet, StagedEncoder
from .blocks import ConvNormAct, UpDoubleConv, round_channels
from .registry import register_model

# EfficientNet-B0, table 1: (expansion, channels at width 32, blocks, stride of the first, kernel).
_STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
# Channels of the decoder at strides 16, 8, 4 and 2, at width 32.
_DECODER = (256, 128, 64, 32)


class SqueezeExcitation(nn.Module):
    """Scales each channel by a weight that is computed from the whole image.

    Hu et al., "Squeeze-and-Excitation Networks", CVPR 2018 (arXiv 1709.01507), section 3, with
    EfficientNet's SiLU in the middle.
    """

    def __init__(self, channels: int, *, squeezed: int) -> None:
        super().__init__()
        self.weigh = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),  # GlobalAveragePool in ONNX, unlike a mean over two axes
            nn.Conv2d(channels, squeezed, kernel_size=1),
            nn.SiLU(inplace=True),
            nn.Conv2d(squeezed, channels, kernel_size=1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> the same shape."""
        scaled: Tensor = x * self.weigh(x)
        return scaled


class MBConv(nn.Module):
    """EfficientNet's block: 1x1 expansion, depthwise, squeeze-excitation, linear 1x1 projection.

    Tan & Le, ICML 2019 (arXiv 1905.11946), section 4. The squeeze has a quarter of the block's
    input channels, not of the expanded ones. The input is added if stride is 1 and the channels
    agree. With `expand` 1 there is no expansion.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, stride: int, expand: int, kernel_size: int
    ) -> None:
        super().__init__()
        hidden = in_channels * expand
        layers: list[nn.Module] = []
        if expand != 1:
            layers.append(ConvNormAct(in_channels, hidden, kernel_size=1, act=nn.SiLU))
        layers += [
            ConvNormAct(
                hidden, hidden, kernel_size=kernel_size, stride=stride, groups=hidden, act=nn.SiLU
            ),
            SqueezeExcitation(hidden, squeezed=max(1, in_channels // 4)),
            ConvNormAct(hidden, out_channels, kernel_size=1, act=None),
        ]
        self.layers = nn.Sequential(*layers)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, H/stride, W/stride)."""
        out: Tensor = self.layers(x)
        return x + out if self.residual else out


def efficientnet_b0(*, in_channels: int, width: int) -> StagedEncoder:
    """EfficientNet-B0 without its last 1x1 convolution and classifier (3,595,388 parameters)."""
    channels = round_channels(width)
    stem = ConvNormAct(in_channels, channels, stride=2, act=nn.SiLU)
    stages: list[tuple[nn.Module, int]] = []
    for expand, base, blocks, stride, kernel_size in _STAGES:
        out = round_channels(base * width / 32)
        first = MBConv(channels, out, stride=stride, expand=expand, kernel_size=kernel_size)
        rest = [
            MBConv(out, out, stride=1, expand=expand, kernel_size=kernel_size)
            for _ in range(blocks - 1)
        ]
        stages.append((nn.Sequential(first, *rest), out))
        channels = out
    return StagedEncoder(stem, stages)


@register_model("eff_unet")
class EffUNet(BackboneUNet):
    """Eff-UNet, 6.0 M parameters at width 32.

    Baheti et al., "Eff-UNet: A Novel Architecture for Semantic Segmentation in Unstructured
    Environment", CVPR Workshops 2020, on the encoder of Tan & Le, "EfficientNet: Rethinking Model
    Scaling for Convolutional Neural Networks", ICML 2019 (arXiv 1905.11946).

    What differs: the encoder is B0, not B7 as the paper prefers, without stochastic depth. The
    decoder is U-Net's with fewer channels. The logits have half the image's resolution; the
    runtime's post-processing does the last upsampling.

    Args:
        width: channels of the stem; 32 is B0. Others scale all channels.

    Example:
        >>> import torch
        >>> from edgeunet import create_model
        >>> create_model("eff_unet", num_classes=2, width=8)(torch.zeros(1, 3, 64, 96)).shape
        torch.Size([1, 2, 32, 48])
    """

    def __init__(
        self, *, num_classes: int, in_channels: int = 3, width: int = 32, cgm: bool = False
    ) -> None:
        super().__init__(
            efficientnet_b0(in_channels=in_channels, width=width),
            up=UpDoubleConv,
            decoder=_DECODER,
            num_classes=num_classes,
            width=width,
            cgm=cgm,
        )
