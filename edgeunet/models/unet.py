"""U-Net: the original."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import ShapeError, UnknownNameError, UsageError
from .base import NetOutput, SegmentationNet
from .blocks import UpDoubleConv, ascend, bilinear, descend, double_convs
from .registry import register_model

Padding = Literal["same", "valid"]
Upsampling = Literal["transposed", "bilinear"]

# Smallest side that unpadded convolutions can take, 188 -> 4; larger ones in steps of 16.
_VALID_MINIMUM = 188
_VALID_MARGIN = 92
_VALID_EXCESS = 4  # the logits of 16 k + 188 pixels are 16 k + 4 wide


@register_model("unet")
class UNet(SegmentationNet):
    """U-Net, 31.0 M parameters at width 64.

    Ronneberger et al., "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI
    2015 (arXiv 1505.04597), section 2 and figure 1.

    What differs: batch normalisation after every 3x3 convolution, no dropout, and by default
    padded convolutions, so that the logits have the image's size.

    Args:
        width: channels of the first stage; each of the four stages below has twice as many.
        padding: "same", or "valid" for the paper's unpadded convolutions and cropped skips. With
            "valid", `run` takes sides of n = 188 + 16 k pixels and returns logits of the inner
            n - 184 (572 -> 388). `run_whole` and `predict` mirror the image at its borders, as the
            paper does for its tiles (figure 2), so that every pixel has its context.
        upsampling: "transposed" for the paper's learned 2x2 convolutions, or "bilinear" without
            weights (17.3 M parameters at width 64). With "bilinear", the deepest stage and every
            decoder stage except the last return half the channels, so that the concatenations
            stay as wide.
        align_corners: bilinear upsampling keeps the centres of the corner pixels in place instead
            of the borders, as many nets trained elsewhere do.

    Raises:
        UsageError: an unknown padding or upsampling, or `align_corners` without "bilinear".

    Example:
        >>> import torch
        >>> from edgeunet import create_model
        >>> create_model("unet", num_classes=2, width=4)(torch.zeros(1, 3, 32, 48)).shape
        torch.Size([1, 2, 32, 48])
    """

    size_multiple = 16

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int = 3,
        width: int = 64,
        cgm: bool = False,
        padding: Padding = "same",
        upsampling: Upsampling = "transposed",
        align_corners: bool = False,
    ) -> None:
        for label, value, known in (
            ("padding", padding, get_args(Padding)),
            ("upsampling", upsampling, get_args(Upsampling)),
        ):
            if value not in known:
                raise UnknownNameError(label, value, known)
        if align_corners and upsampling != "bilinear":
            raise UsageError(
                f"align_corners is set, but upsampling is {upsampling!r}, which does not "
                "interpolate. Use upsampling 'bilinear'."
            )
        channels = [width << level for level in range(5)]  # of the stages that are skips
        returned = list(channels)  # of the stages on the way up
        if upsampling == "bilinear":
            returned[1:] = [count // 2 for count in channels[1:]]
            channels[-1] = returned[-1]
        super().__init__(deepest_channels=channels[-1], num_classes=num_classes, cgm=cgm)
        self.padding = padding
        pad = 1 if padding == "same" else 0
        self.pool = nn.MaxPool2d(2)
        self.encoder = double_convs(in_channels, channels, padding=pad)
        if padding == "valid":
            self.margin = _VALID_MARGIN
        self.decoder = _decoder(
            channels,
            returned,
            padding=pad,
            up=bilinear(align_corners=align_corners) if upsampling == "bilinear" else None,
        )
        self.head = nn.Conv2d(width, num_classes, kernel_size=1)

    def check_input(self, height: int, width: int) -> None:
        """ShapeError if `run` cannot take an image of this size."""
        if not self.margin:
            super().check_input(height, width)
        elif any(side < _VALID_MINIMUM or (side - _VALID_MINIMUM) % 16 for side in (height, width)):
            raise ShapeError(
                f"image is {height}x{width}; unet with padding 'valid' needs sides of 188 + 16 k "
                "pixels, such as 572, which is crops of 4 + 16 k. Use such a size, or padding "
                "'same'."
            )

    def check_size(self, height: int, width: int) -> None:
        """ShapeError if `predict` cannot take an input of this size."""
        super().check_size(height, width)
        if self.margin:
            _check_mirrored(height, width)

    def run_whole(self, image: Tensor) -> NetOutput:
        """Head (N, C, H, W) for sides that are multiples of 16, and the gate's scores or None.

        Raises:
            ShapeError: the image is too small to be mirrored by 96 pixels.
        """
        if not self.margin:
            return super().run_whole(image)
        before, after = _VALID_MARGIN, _VALID_MARGIN + _VALID_EXCESS
        if not _tracing():
            _check_mirrored(*image.shape[-2:])
        mirrored = functional.pad(image, (before, after, before, after), mode="reflect")
        (logits,), scores = self.run(mirrored)
        return NetOutput((logits[:, :, :-_VALID_EXCESS, :-_VALID_EXCESS],), scores)

    def encode(self, image: Tensor) -> list[Tensor]:
        """(N, in_channels, H, W) -> features at strides 1, 2, 4, 8, 16.

        Raises:
            ShapeError: padding "valid" cannot take this size.
        """
        if self.margin and not _tracing():
            self.check_input(*image.shape[-2:])
        return descend(self.encoder, image, pool=self.pool)

    def decode(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Features -> one head (N, C, H, W); "valid": (N, C, H - 184, W - 184)."""
        return (self.head(ascend(self.decoder, features)),)


def _check_mirrored(height: int, width: int) -> None:
    """ShapeError for an image that is too small to be mirrored by what "valid" costs."""
    after = _VALID_MARGIN + _VALID_EXCESS
    if min(height, width) <= after:
        raise ShapeError(
            f"image is {height}x{width}; unet with padding 'valid' mirrors {after} pixels of it "
            "and needs sides of 112 or more. Use padding 'same'."
        )


def _decoder(
    channels: Sequence[int], returned: Sequence[int], *, padding: int, up: nn.Module | None
) -> nn.ModuleList:
    """Up-blocks from the deepest level to the finest.

    Args:
        channels: of the skips by level. returned: of the stages on the way up, by level.
    """
    blocks = nn.ModuleList()
    # The two unpadded convolutions at the bottom remove 4 pixels, 8 one level up: 4 on each side.
    crop = 0 if padding else 4
    for level in reversed(range(len(channels) - 1)):
        blocks.append(
            UpDoubleConv(
                returned[level + 1],
                channels[level],
                returned[level],
                up=up,
                middle_channels=channels[level],
                padding=padding,
                crop=crop,
            )
        )
        # One level up the margin is twice as wide, and two double convolutions lie between.
        crop = 2 * crop + 8 if crop else 0
    return blocks


def _tracing() -> bool:
    """Whether sizes are tensors: checking them would then add to the graph."""
    tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return tracing
