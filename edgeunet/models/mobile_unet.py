"""Mobile U-Net: a MobileNetV2 encoder and a decoder of inverted residuals."""

from __future__ import annotations

from functools import partial

from torch import nn

from ..errors import UnknownNameError
from .backbone import BackboneUNet, DecoderPlan, EncoderPlan, Stage
from .blocks import ConvNormAct, InvertedResidual, UpBlock
from .registry import register_model


class UpInvertedResidual(UpBlock):
    """Learned 2x upsampling, concatenation with the skip, inverted residual.

    Args:
        expand: of the inverted residual; 1 makes it a depthwise separable convolution.
    """

    def __init__(
        self, in_channels: int, skip_channels: int, out_channels: int, *, expand: int
    ) -> None:
        up = nn.ConvTranspose2d(in_channels, out_channels, kernel_size=2, stride=2)
        joined = out_channels + skip_channels
        super().__init__(up, InvertedResidual(joined, out_channels, stride=1, expand=expand))


MOBILENET_V2 = EncoderPlan(
    "mobilenet_v2",
    layer=partial(ConvNormAct, act=nn.ReLU6),
    block=InvertedResidual,
    stages=(
        Stage(1, 16, 1, 1),
        Stage(6, 24, 2, 2),
        Stage(6, 32, 3, 2),
        Stage(6, 64, 4, 2),
        Stage(6, 96, 3, 1),
        Stage(6, 160, 3, 2),
        Stage(6, 320, 1, 1),
    ),
)
"""MobileNetV2, table 2, without its last 1x1 convolution and classifier."""

DECODERS = {
    "full": (MOBILENET_V2, DecoderPlan(partial(UpInvertedResidual, expand=6), (96, 32, 24, 16))),
    "light": (
        MOBILENET_V2._replace(stages=MOBILENET_V2.stages[:-1]),
        DecoderPlan(partial(UpInvertedResidual, expand=1), (64, 32, 24, 16)),
    ),
}
"""Decoders by name, each with its encoder.

The finest stages of "full" hold most of its cost: depthwise convolutions of 192 channels at half
the image's resolution. "light" has 32 there, and no stage of 320 channels below.
"""


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
        decoder: "full" or "light", which costs half as much, see `DECODERS`.

    Example:
        >>> import torch
        >>> from edgeunet import create_model
        >>> create_model("mobile_unet", num_classes=2, width=8)(torch.zeros(1, 3, 64, 96)).shape
        torch.Size([1, 2, 32, 48])
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int = 3,
        width: int = 32,
        decoder: str = "full",
        cgm: bool = False,
    ) -> None:
        if decoder not in DECODERS:
            raise UnknownNameError("decoder of mobile_unet", decoder, DECODERS)
        super().__init__(
            *DECODERS[decoder],
            num_classes=num_classes,
            in_channels=in_channels,
            width=width,
            cgm=cgm,
        )
