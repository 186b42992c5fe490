"""Steps from frame to net that only some nets have: statistics of each image, and windows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Measure = Literal["zscore", "range"]
Measured = Literal["all", "nonzero", "content"]
Blend = Literal["gaussian", "none"]

SMALLEST_STEP = 0.1
"""Below this, each pixel goes through the net more than 100 times."""


@dataclass(frozen=True, kw_only=True)
class ImageStatistics:
    """What normalises an image, measured on the image itself.

    It is measured on raw values of the net's channels, at the image's own size, and applied before
    the image is resized; only behind a filter that rounds to bytes is it applied afterwards. So the
    levels do not matter, and padding is 0. Tiles and windows use what was measured on their whole
    image. The mean and standard deviation of the input (`InputSpec.mean`, `std`) come after it.

    measure: "zscore" is (value - mean) / deviation; "range" is (value - low) / (high - low) of two
        percentiles. Nothing is clipped.
    pixels: which are measured. "nonzero": of each channel those with another raw value than 0;
        "content": those where any channel has one. All others become 0.
    per_channel: each channel is measured for itself, otherwise all together.
    percentiles: of "range", 0 to 100, interpolated linearly between values.
    epsilon, adds_epsilon: the divisor is max(divisor, epsilon), or divisor + epsilon if
        `adds_epsilon`.

    | origin | values |
    |---|---|
    | nnU-Net, ZScoreNormalization | the defaults; with use_mask_for_norm pixels="content" |
    | nnU-Net, RescaleTo01Normalization | measure="range" |
    | MONAI, NormalizeIntensity | per_channel=channel_wise; with nonzero pixels="nonzero" |
    | BioImage.IO, zero_mean_unit_variance | epsilon=1e-6, adds_epsilon=True |
    | BioImage.IO, scale_range | as above, measure="range", percentiles |

    Example:
        >>> from edgeunet.bundle.steps import ImageStatistics
        >>> ImageStatistics(measure="range", percentiles=(1, 99.8)).describe()
        'percentiles 1 and 99.8 of each channel'
    """

    measure: Measure = "zscore"
    pixels: Measured = "all"
    per_channel: bool = True
    percentiles: tuple[float, float] = (0.0, 100.0)
    epsilon: float = 1e-8
    adds_epsilon: bool = False

    def __post_init__(self) -> None:
        low, high = self.percentiles
        if not 0 <= low < high <= 100:  # NaN too
            raise ValueError(
                f"percentiles are {low:g} and {high:g}; expected 0 to 100, the smaller one first"
            )
        if self.measure == "zscore" and (low, high) != (0, 100):
            raise ValueError("percentiles are for measure 'range'; 'zscore' has none")
        if not 0 < self.epsilon <= 1:
            raise ValueError(f"epsilon is {self.epsilon}; expected above 0 and at most 1")

    @property
    def masks(self) -> bool:
        """Whether some pixels are not measured and become 0."""
        return self.pixels != "all"

    def divisor(self, spread: float) -> float:
        """What values are divided by, for a deviation or a range."""
        return spread + self.epsilon if self.adds_epsilon else max(spread, self.epsilon)

    def describe(self) -> str:
        """What is measured, for people."""
        low, high = self.percentiles
        what = "mean and deviation" if self.measure == "zscore" else (
            f"percentiles {low:g} and {high:g}"
        )  # fmt: skip
        where = {"all": "", "nonzero": " without zeros", "content": " without empty pixels"}
        which = "each channel" if self.per_channel else "all channels"
        return f"{what} of {which}{where[self.pixels]}"


@dataclass(frozen=True, kw_only=True)
class Window:
    """Frames keep their own size, and the net runs on windows of its input's size.

    step: from one window to the next, as a share of the window's side: nnU-Net's tile_step_size; of
        windows with a halo, (side - 2 * halo) / side.
    blend: "gaussian" averages the logits of overlapping windows, weighted by a Gaussian around each
        window's centre with a sigma of an eighth of its sides. The windows are spread evenly, the
        last one at the border, as nnU-Net does (Isensee et al., Nature Methods 18, 2021). "none"
        takes each pixel from the window in which it is farthest from the border; windows lie at
        multiples of the step, the last one is moved inward.
    crop: only the box around the pixels that are not 0 in all channels is segmented (and measured,
        see `ImageStatistics`). The rest is class 0, as in nnU-Net.

    An image smaller than a window lies in its middle; what is outside of it is 0, or
    `InputSpec.fill`, in the net's input.

    Example:
        >>> from edgeunet.bundle.steps import Window
        >>> Window(step=0.5).blend
        'gaussian'
    """

    step: float = 0.5
    blend: Blend = "gaussian"
    crop: bool = False

    def __post_init__(self) -> None:
        if not SMALLEST_STEP <= self.step <= 1 or not math.isfinite(self.step):
            raise ValueError(f"step is {self.step}; expected {SMALLEST_STEP} to 1")

    def describe(self) -> str:
        """How windows lie, for people."""
        how = "Gaussian weights" if self.blend == "gaussian" else "not blended"
        return f"windows every {self.step:g} of their side, {how}" + (
            ", within the box that is not 0" if self.crop else ""
        )
