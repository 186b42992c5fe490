"""What a user says of weights that have no card: how frames are prepared, and which to take."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..bundle.manifest import BYTE_LEVELS, RGB, Filter, InputSpec, Resize, depth_of, imagenet
from ..bundle.steps import ImageStatistics
from ..errors import UsageError
from ..fields import described
from .fit import Reading

RAW = "Of a file with averaged weights, take those that are not averaged."
"""Help text of `--raw`, of every command that takes weights."""


@dataclass(frozen=True)
class Preparation:
    """How frames are prepared for weights without a card, if not in the assumed way.

    The assumed way is that of the format's original code if that is certain. Otherwise it is RGB
    with ImageNet's statistics, or other channels scaled to 0..1. Parity with PyTorch cannot detect
    a wrong preparation, because both sides see the same input.

    channels: of the net, in its order; see `channel_names`. levels: raw values that mean 0 and 1.
    mean, std: for values scaled to 0..1, or normalised by `statistics`; either one for all channels
    or one for each.
    resize, fill: see `InputSpec`.
    filter: see `edgeunet.data.resize`. Weights with a card may have another one than the card's.
    statistics: what each image is normalised by, in place of the levels.

    Example:
        >>> from edgeunet.data.preparation import Preparation
        >>> Preparation(channels=("bgr",), mean=(0.5,), std=(0.25,)).channels
        ('blue', 'green', 'red')
    """

    channels: tuple[str, ...] | None = described(
        None,
        "Channels of the net in its order, or rgb, bgr or gray.",
        metavar="NAME,…",
        shown_default="rgb, or gray",
    )
    levels: tuple[float, ...] | None = described(
        None, "Raw values that mean black and white.", metavar="LO,HI", shown_default="0,255"
    )
    mean: tuple[float, ...] | None = described(None, "Mean of pixel values scaled to 0..1.")
    std: tuple[float, ...] | None = described(
        None, "Standard deviation of pixel values scaled to 0..1."
    )
    resize: Resize | None = described(
        None,
        "How frames are brought to the input size; pad and pad_centre keep their aspect ratio, as "
        "letterboxing does.",
        shown_default="stretch",
    )
    fill: float | None = described(
        None, "Raw value of the padding.", metavar="VALUE", shown_default="the mean colour"
    )
    filter: Filter | None = described(
        None,
        "How pixels are resized, also for weights with a card; docs/data.md compares them.",
        shown_default="the card's, or bilinear",
    )

    statistics: ImageStatistics | None = None

    def __post_init__(self) -> None:
        reading = Reading(self.levels, self.channels)  # refuses what cannot be
        object.__setattr__(self, "channels", reading.channels)

    def input(
        self, path: Path, size: tuple[int, int], channels: int, scaling: tuple[float, float] | None
    ) -> InputSpec:
        """The input of a net.

        Args:
            path: of its weights, for errors. size: height and width. channels: their number.
            scaling: mean and standard deviation of the original code, None if it is not known.

        Raises:
            UsageError: names or statistics that do not fit the net, or names that it needs.
        """
        names = self.channels or {1: ("gray",), 3: RGB}.get(channels)
        if names is None:
            raise UsageError(
                f"{path} takes {channels} channels. Name them in its order, such as --channels "
                "red,green,blue,nir."
            )
        if len(names) != channels:
            raise UsageError(
                f"{path} takes {channels} channels; --channels {','.join(names)} does not fit."
            )
        mean, std = (0.0,) * channels, (1.0,) * channels
        if self.statistics is not None:
            scaling = (0.0, 1.0)
        if scaling is not None:
            mean, std = (scaling[0],) * channels, (scaling[1],) * channels
        elif set(names) == set(RGB):
            mean, std = imagenet(names)
        return self.spec(
            size, names, for_each(self.mean, channels) or mean, for_each(self.std, channels) or std
        )

    def spec(
        self,
        size: tuple[int, int],
        channels: tuple[str, ...],
        mean: tuple[float, ...],
        std: tuple[float, ...],
    ) -> InputSpec:
        """The input of a net whose channels, mean and std are settled.

        Raises:
            UsageError: values that contradict each other.
        """
        low, high = self.levels or BYTE_LEVELS
        try:
            return InputSpec(
                *size,
                channels=channels,
                levels=(low, high),
                depth=depth_of((low, high)),
                resize=self.resize or "stretch",
                fill=self.fill,
                filter=self.filter or "bilinear",
                statistics=self.statistics,
                mean=mean,
                std=std,
            )
        except ValueError as error:
            raise UsageError(
                f"{error}. Pass --mean, --std, --filter, --resize and --fill that fit."
            ) from None


def for_each(values: tuple[float, ...] | None, channels: int) -> tuple[float, ...] | None:
    """One value for all channels as one for each."""
    return values * channels if values is not None and len(values) == 1 else values
