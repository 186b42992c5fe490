"""Eff-UNet: an EfficientNet-B0 encoder and U-Net's decoder."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from .backbone import BackboneUNet, Stage
from .blocks import InvertedResidual, UpDoubleConv
from .registry import register_model


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


class MBConv(InvertedResidual):
    """EfficientNet's block: an inverted residual with SiLU and squeeze-excitation.

    Tan & Le, ICML 2019 (arXiv 1905.11946), section 4. The squeeze has a quarter of the block's
    input channels, not of the expanded ones.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, stride: int, expand: int, kernel_size: int
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            stride=stride,
            expand=expand,
            kernel_size=kernel_size,
            act=nn.SiLU,
            attention=partial(SqueezeExcitation, squeezed=max(1, in_channels // 4)),
        )


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

    block, act, up = MBConv, nn.SiLU, UpDoubleConv
    # EfficientNet-B0, table 1, without its last 1x1 convolution and classifier.
    stages = (
        Stage(1, 16, 1, 1, 3),
        Stage(6, 24, 2, 2, 3),
        Stage(6, 40, 2, 2, 5),
        Stage(6, 80, 3, 2, 3),
        Stage(6, 112, 3, 1, 5),
        Stage(6, 192, 4, 2, 5),
        Stage(6, 320, 1, 1, 3),
    )
    decoder_channels = (256, 128, 64, 32)
