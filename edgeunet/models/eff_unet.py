"""Eff-UNet: an EfficientNet-B0 encoder and U-Net's decoder."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from .base import SegmentationNet
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
# Stages whose output is handed to the decoder: the last one at strides 2, 4, 8, 16 and 32.
_SKIP_STAGES = (0, 1, 2, 4, 6)
# Channels of the decoder at strides 16, 8, 4 and 2, at width 32.
_DECODER = (256, 128, 64, 32)


class SqueezeExcitation(nn.Module):
    """Scales each channel by what the whole image says about it.

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
    input channels, not of the expanded ones. The input is added where stride is 1 and the
    channels agree; with `expand` 1 the expansion is left out.
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


class EfficientNetEncoder(nn.Module):
    """EfficientNet-B0 without its last 1x1 convolution and classifier (3,595,388 parameters)."""

    def __init__(self, *, in_channels: int, width: int) -> None:
        super().__init__()
        scale = width / 32
        channels = round_channels(32 * scale)
        self.stem = ConvNormAct(in_channels, channels, stride=2, act=nn.SiLU)
        self.stages = nn.ModuleList()
        self.out_channels: list[int] = []
        for index, (expand, base, blocks, stride, kernel_size) in enumerate(_STAGES):
            out = round_channels(base * scale)
            stage: list[nn.Module] = []
            for block in range(blocks):
                stage.append(
                    MBConv(
                        channels,
                        out,
                        stride=stride if block == 0 else 1,
                        expand=expand,
                        kernel_size=kernel_size,
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


@register_model("eff_unet")
class EffUNet(SegmentationNet):
    """Eff-UNet, 6.0 M parameters at width 32.

    Baheti et al., "Eff-UNet: A Novel Architecture for Semantic Segmentation in Unstructured
    Environment", CVPR Workshops 2020, on the encoder of Tan & Le, "EfficientNet: Rethinking Model
    Scaling for Convolutional Neural Networks", ICML 2019 (arXiv 1905.11946).

    What differs: the encoder is B0 where the paper prefers B7, without stochastic depth; the
    decoder is U-Net's, with fewer channels; the logits stay at half the image's resolution, and
    the runtime's post-processing does the last upsampling.

    Args:
        width: channels of the stem; 32 is B0. Others scale all channels.
    """

    size_multiple = 32

    def __init__(
        self, *, num_classes: int, in_channels: int = 3, width: int = 32, cgm: bool = False
    ) -> None:
        encoder = EfficientNetEncoder(in_channels=in_channels, width=width)
        channels = encoder.out_channels
        super().__init__(deepest_channels=channels[-1], num_classes=num_classes, cgm=cgm)
        self.encoder = encoder
        self.decoder = nn.ModuleList()
        x_channels = channels[-1]
        for base, skip in zip(_DECODER, reversed(channels[:-1]), strict=True):
            out = round_channels(base * width / 32)
            self.decoder.append(UpDoubleConv(x_channels, skip, out))
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
