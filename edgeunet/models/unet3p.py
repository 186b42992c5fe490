"""U-Net 3+: full-scale skips."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .base import SegmentationNet
from .blocks import ConvNormAct, bilinear, descend, double_convs
from .registry import register_model

_SCALES = 5


class FullScaleNode(nn.Module):
    """Decoder stage `level` (stride 2^level): resamples every scale to its own and fuses them.

    U-Net 3+, section 2.1: max pooling or bilinear upsampling and a 3x3 convolution bring each
    source to this scale and `width` channels. One more convolution fuses all of them.
    """

    def __init__(self, source_channels: Sequence[int], *, level: int, width: int) -> None:
        super().__init__()
        self.sources = nn.ModuleList(
            nn.Sequential(_resample(source, level), ConvNormAct(channels, width))
            for source, channels in enumerate(source_channels)
        )
        fused = len(source_channels) * width
        self.fuse = ConvNormAct(fused, fused)

    def forward(self, sources: Sequence[Tensor]) -> Tensor:
        """(N, C_k, H / 2^k, W / 2^k) for k = 0..4 -> (N, 5 width, H / 2^level, W / 2^level)."""
        resampled = [branch(x) for branch, x in zip(self.sources, sources, strict=True)]
        fused: Tensor = self.fuse(torch.cat(resampled, dim=1))
        return fused


@register_model("unet3p")
class UNet3P(SegmentationNet):
    """U-Net 3+, 27.0 M parameters at width 64.

    Huang et al., "UNet 3+: A Full-Scale Connected UNet for Medical Image Segmentation", ICASSP
    2020 (arXiv 2004.08790), sections 2.1 to 2.3.

    What differs: the side heads stay at their own resolution, and the loss upsamples them. The gate
    does not multiply the logits here; the runtime's post-processing applies it.

    Args:
        width: channels of the first encoder stage and of every skip; each of the four stages
            below has twice as many, and every decoder stage has five times `width`.
        deep_supervision: a head at each of the five scales; otherwise only at the finest.

    Example:
        >>> import torch
        >>> net = edgeunet.create_model("unet3p", num_classes=2, width=4)
        >>> [head.shape[-1] for head in net.run(torch.zeros(1, 3, 32, 32)).heads]
        [32, 16, 8, 4, 2]
    """

    size_multiple = 16

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int = 3,
        width: int = 64,
        cgm: bool = False,
        deep_supervision: bool = True,
    ) -> None:
        channels = [width << level for level in range(_SCALES)]
        super().__init__(deepest_channels=channels[-1], num_classes=num_classes, cgm=cgm)
        self.pool = nn.MaxPool2d(2)
        self.encoder = double_convs(in_channels, channels)
        # The deepest map is its own decoder stage with 16 width channels; all others have 5 width.
        decoded = [_SCALES * width] * (_SCALES - 1) + channels[-1:]
        self.decoder = nn.ModuleList(
            FullScaleNode([*channels[: level + 1], *decoded[level + 1 :]], level=level, width=width)
            for level in range(_SCALES - 1)
        )
        self.heads = nn.ModuleList(
            nn.Conv2d(before, num_classes, kernel_size=3, padding=1)
            for before in (decoded if deep_supervision else decoded[:1])
        )

    def encode(self, image: Tensor) -> list[Tensor]:
        """(N, in_channels, H, W) -> features at strides 1, 2, 4, 8, 16."""
        return descend(self.encoder, image, pool=self.pool)

    def decode(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Features -> heads (N, C, H / s, W / s) at strides s = 1, 2, 4, 8, 16, or the first."""
        decoded = [features[-1]]  # from the current level to the deepest
        for level in reversed(range(_SCALES - 1)):
            node = self.decoder[level]
            decoded.insert(0, node([*features[: level + 1], *decoded]))
        # Without deep supervision there is one head for five maps.
        return tuple(head(x) for head, x in zip(self.heads, decoded, strict=False))


def _resample(source: int, level: int) -> nn.Module:
    """From stride 2^source to stride 2^level."""
    if source < level:
        return nn.MaxPool2d(1 << (level - source))
    return bilinear(1 << (source - level)) if source > level else nn.Identity()
