"""Eff-UNet: an encoder of the EfficientNet family and U-Net's decoder."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from ..errors import UnknownNameError
from .backbone import BackboneUNet, DecoderPlan, EncoderPlan, Stage
from .blocks import ConvNormAct, InvertedResidual, SamePadConv2d, UpDoubleConv
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


# Tan & Le, table 1, without the last 1x1 convolution and the classifier.
_STAGES = (
    Stage(1, 16, 1, 1, 3),
    Stage(6, 24, 2, 2, 3),
    Stage(6, 40, 2, 2, 5),
    Stage(6, 80, 3, 2, 3),
    Stage(6, 112, 3, 1, 5),
    Stage(6, 192, 4, 2, 5),
    Stage(6, 320, 1, 1, 3),
)
_LITE_LAYER = partial(ConvNormAct, conv=SamePadConv2d, eps=1e-3)

_B0 = EncoderPlan("b0", partial(ConvNormAct, act=nn.SiLU), MBConv, _STAGES)
_LITE0 = EncoderPlan(
    "lite0",
    partial(_LITE_LAYER, act=nn.ReLU6),
    partial(InvertedResidual, layer=_LITE_LAYER),
    _STAGES,
)
ENCODERS = {
    "b0": (_B0, DecoderPlan(UpDoubleConv, (256, 128, 64, 32))),
    "lite0": (_LITE0, DecoderPlan(UpDoubleConv, (96, 64, 48, 24))),
}
"""Encoders by name, each with its decoder.

B0 is EfficientNet's. Lite0 has the same stages without squeeze-excitation and with ReLU6, so that
every operator quantizes; its decoder is lighter too. It is TensorFlow's,
https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite, with its padding
and an epsilon of 1e-3.
"""


@register_model("eff_unet")
class EffUNet(BackboneUNet):
    """Eff-UNet, 6.0 M parameters at width 32; 3.5 M with the encoder Lite0.

    Baheti et al., "Eff-UNet: A Novel Architecture for Semantic Segmentation in Unstructured
    Environment", CVPR Workshops 2020, on the encoder of Tan & Le, "EfficientNet: Rethinking Model
    Scaling for Convolutional Neural Networks", ICML 2019 (arXiv 1905.11946).

    What differs: the encoder is B0, not B7 as the paper prefers, without stochastic depth. The
    decoder is U-Net's with fewer channels. The logits have half the image's resolution; the
    runtime's post-processing does the last upsampling.

    Args:
        width: channels of the stem; 32 is the published net. Others scale all channels.
        encoder: "b0" or "lite0", see `ENCODERS`.

    Example:
        >>> import torch
        >>> from edgeunet import create_model
        >>> create_model("eff_unet", num_classes=2, width=8)(torch.zeros(1, 3, 64, 96)).shape
        torch.Size([1, 2, 32, 48])
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int = 3,
        width: int = 32,
        encoder: str = "b0",
        cgm: bool = False,
    ) -> None:
        if encoder not in ENCODERS:
            raise UnknownNameError("encoder of eff_unet", encoder, ENCODERS)
        super().__init__(
            *ENCODERS[encoder],
            num_classes=num_classes,
            in_channels=in_channels,
            width=width,
            cgm=cgm,
        )
