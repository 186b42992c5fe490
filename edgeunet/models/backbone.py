"""U-Nets with a classification net as encoder: the base of Mobile U-Net and Eff-UNet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import Tensor, nn

from .base import SegmentationNet
from .blocks import ascend, descend, round_channels


class Stage(NamedTuple):
    """Blocks of an encoder. stride: of the first one. channels: of the output, at width 32."""

    expand: int
    channels: int
    blocks: int
    stride: int
    kernel_size: int = 3


class EncoderPlan(NamedTuple):
    """What a `StagedEncoder` is built of.

    name: of the published net. layer: builds the stem from (input channels, channels, stride=2).
    block: builds the blocks of the stages; takes the arguments of `InvertedResidual`.
    """

    name: str
    layer: Callable[..., nn.Module]
    block: Callable[..., nn.Module]
    stages: Sequence[Stage]


class DecoderPlan(NamedTuple):
    """What the way up is built of.

    up: builds an up-block from (input channels, skip channels, output channels). channels: of the
    output at strides 16, 8, 4 and 2, at width 32.
    """

    up: Callable[[int, int, int], nn.Module]
    channels: Sequence[int]


class StagedEncoder(nn.Module):
    """A stem with stride 2, followed by stages of blocks.

    Args:
        width: channels of the stem; 32 is the published net, others scale all channels.
    """

    def __init__(self, plan: EncoderPlan, *, in_channels: int, width: int) -> None:
        super().__init__()
        channels = [round_channels(width)]
        # The decoder gets the output of the last stage at each of the strides 2, 4, 8, 16 and 32.
        strides = [stage.stride for stage in plan.stages[1:]]
        self._skips = [index for index, stride in enumerate([*strides, 2]) if stride == 2]
        self.stem = plan.layer(in_channels, channels[0], stride=2)
        self.stages = nn.ModuleList()
        for expand, base, blocks, stride, kernel_size in plan.stages:
            before, out = channels[-1], round_channels(base * width / 32)
            given = {"expand": expand, "kernel_size": kernel_size}
            rest = [(out, 1)] * (blocks - 1)  # channels of the input, and stride
            inputs = [(before, stride), *rest]
            layers = [plan.block(n, out, stride=step, **given) for n, step in inputs]
            self.stages.append(nn.Sequential(*layers))
            channels.append(out)
        self.out_channels = [channels[index + 1] for index in self._skips]

    def forward(self, image: Tensor) -> list[Tensor]:
        """(N, in_channels, H, W) -> features at strides 2, 4, 8, 16, 32."""
        features = descend(self.stages, self.stem(image))
        return [features[index] for index in self._skips]


class BackboneUNet(SegmentationNet):
    """A `StagedEncoder`, and one up-block for each of its strides except the last."""

    size_multiple = 32

    def __init__(
        self,
        encoder_plan: EncoderPlan,
        decoder_plan: DecoderPlan,
        *,
        num_classes: int,
        in_channels: int,
        width: int,
        cgm: bool,
    ) -> None:
        encoder = StagedEncoder(encoder_plan, in_channels=in_channels, width=width)
        channels = encoder.out_channels
        super().__init__(deepest_channels=channels[-1], num_classes=num_classes, cgm=cgm)
        self.encoder, self.encoder_name = encoder, encoder_plan.name
        self.decoder = nn.ModuleList()
        x_channels = channels[-1]
        for base, skip in zip(decoder_plan.channels, reversed(channels[:-1]), strict=True):
            out = round_channels(base * width / 32)
            self.decoder.append(decoder_plan.up(x_channels, skip, out))
            x_channels = out
        self.head = nn.Conv2d(x_channels, num_classes, kernel_size=1)

    def encode(self, image: Tensor) -> list[Tensor]:
        """(N, in_channels, H, W) -> features at strides 2, 4, 8, 16, 32."""
        features: list[Tensor] = self.encoder(image)
        return features

    def decode(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Features -> one head (N, C, H/2, W/2)."""
        return (self.head(ascend(self.decoder, features)),)
