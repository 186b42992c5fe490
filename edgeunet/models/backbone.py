"""U-Nets with a classification net as encoder: the base of Mobile U-Net and Eff-UNet."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from .base import SegmentationNet
from .blocks import round_channels

# MobileNetV2 and EfficientNet have seven stages. The decoder gets the output of the last one at
# each of the strides 2, 4, 8, 16 and 32.
_SKIP_STAGES = (0, 1, 2, 4, 6)


class StagedEncoder(nn.Module):
    """A stem with stride 2, followed by stages of blocks.

    Args:
        stages: (stage, channels of its output).
    """

    def __init__(self, stem: nn.Module, stages: Sequence[tuple[nn.Module, int]]) -> None:
        super().__init__()
        self.stem = stem
        self.stages = nn.ModuleList(stage for stage, _ in stages)
        self.out_channels = [stages[index][1] for index in _SKIP_STAGES]

    def forward(self, image: Tensor) -> list[Tensor]:
        """(N, in_channels, H, W) -> features at strides 2, 4, 8, 16, 32."""
        x = self.stem(image)
        features = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in _SKIP_STAGES:
                features.append(x)
        return features


class BackboneUNet(SegmentationNet):
    """A `StagedEncoder`, and one up-block for each of its strides except the last.

    Args:
        up: builds an up-block from (input channels, skip channels, output channels).
        decoder: channels of the decoder at strides 16, 8, 4 and 2, at width 32.
    """

    size_multiple = 32

    def __init__(
        self,
        encoder: StagedEncoder,
        *,
        up: Callable[[int, int, int], nn.Module],
        decoder: Sequence[int],
        num_classes: int,
        width: int,
        cgm: bool,
    ) -> None:
        channels = encoder.out_channels
        super().__init__(deepest_channels=channels[-1], num_classes=num_classes, cgm=cgm)
        self.encoder = encoder
        self.decoder = nn.ModuleList()
        x_channels = channels[-1]
        for base, skip in zip(decoder, reversed(channels[:-1]), strict=True):
            out = round_channels(base * width / 32)
            self.decoder.append(up(x_channels, skip, out))
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
